// SPDX-License-Identifier: Apache-2.0
//
// The decision on growth, and the account of committed bytes.
#include "allocator/policy/memory_limit.h"

#include "allocator/os/cgroup.h"
#include "allocator/policy/config.h"

enum hak_limit_verdict hak_limit_judge(const struct hak_limit_facts *facts) {
  uint64_t wanted;
  if (__builtin_add_overflow(facts->committed, facts->more, &wanted)) return HAK_LIMIT_REFUSE;
  if (wanted > facts->purge_at) return HAK_LIMIT_PURGE;
  return facts->hard != 0 && wanted > facts->hard ? HAK_LIMIT_REFUSE : HAK_LIMIT_GROW;
}

bool hak_limit_is_near(const struct hak_limit_facts *facts) {
  uint64_t wanted;
  if (__builtin_add_overflow(facts->committed, facts->more, &wanted)) return false;
  return wanted > facts->purge_at && (facts->hard == 0 || wanted <= facts->hard);
}

uint64_t hak_limit_soft(uint64_t hard, uint64_t control_group, uint64_t setting) {
  uint64_t lower = hard != 0 ? hard : UINT64_MAX;
  if (control_group != 0 && control_group < lower) lower = control_group;
  const uint64_t near = lower == UINT64_MAX ? UINT64_MAX : lower - lower / 8;
  return setting != 0 && setting < near ? setting : near;
}

uint64_t hak_limit_next_purge(uint64_t soft, uint64_t committed, uint64_t more) {
  if (soft == UINT64_MAX) return UINT64_MAX;
  uint64_t next;
  if (__builtin_add_overflow(committed, more, &next)) return UINT64_MAX;
  const uint64_t step = (next > soft ? next : soft) / 32;
  if (__builtin_add_overflow(next, step, &next)) return UINT64_MAX;
  return next < soft ? soft : next;
}

// Relaxed throughout: counts that order nothing. Two threads that grow at once may both pass a limit that has room for
// one, so a limit can be exceeded by what threads request at one moment.
static struct {
  HAK_ATOMIC(uint64_t) committed;
  HAK_ATOMIC(uint64_t) purge_at;  // 0: not known yet
  HAK_ATOMIC(uint64_t) soft;
  HAK_ATOMIC(uint64_t) group;  // limit of the control group; 0: none, or not read
  HAK_ATOMIC(uint64_t) purges;
  HAK_ATOMIC(uint64_t) refusals;
} account;

#define LOAD(field) atomic_load_explicit(&account.field, memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&account.field, (value), memory_order_relaxed)

void hak_commit_add(uint64_t bytes) { atomic_fetch_add_explicit(&account.committed, bytes, memory_order_relaxed); }
void hak_commit_sub(uint64_t bytes) { atomic_fetch_sub_explicit(&account.committed, bytes, memory_order_relaxed); }
uint64_t hak_commit_now(void) { return LOAD(committed); }

// Determines the soft limit.
static HAK_COLD void find_soft_limit(void) {
  uint64_t hard;
  uint64_t setting;
  do {
    hard = HAK_SETTING(memory_limit_bytes);
    setting = HAK_SETTING(soft_limit_bytes);
    const uint64_t soft = hak_limit_soft(hard, LOAD(group), setting);
    // Acquire: pairs with hak_limit_changed. If this exchange comes after it, the next line reads the new limits; if
    // before, hak_limit_changed leaves a zero, and the next caller determines it again. Release: the same between two
    // callers.
    if (atomic_exchange_explicit(&account.soft, soft, memory_order_acq_rel) != soft) STORE(purge_at, soft);
  } while (hard != HAK_SETTING(memory_limit_bytes) || setting != HAK_SETTING(soft_limit_bytes));
}

// 0 and UINT64_MAX: no point at which to purge.
static enum hak_limit_verdict judge(uint64_t committed, uint64_t more, uint64_t purge_at) {
  const struct hak_limit_facts facts = {.committed = committed,
                                        .more = more,
                                        .purge_at = purge_at != 0 ? purge_at : UINT64_MAX,
                                        .hard = HAK_SETTING(memory_limit_bytes)};
  return hak_limit_judge(&facts);
}

bool hak_limit_has_room(uint64_t more) { return judge(LOAD(committed), more, LOAD(purge_at)) == HAK_LIMIT_GROW; }

// Of the calling thread. The form without a call: the model initial-exec needs no memory from the dynamic linker.
static _Thread_local bool is_exempt __attribute__((tls_model("initial-exec")));
static _Thread_local bool is_refused __attribute__((tls_model("initial-exec")));

bool hak_limit_refused(void) {
  const bool refused = is_refused;
  is_refused = false;
  return refused;
}

// After growth far beyond the soft limit, or a large request that failed, purges wait for more of it. Once there is
// less than the soft limit again, they begin there.
static void lower_purge_point(uint64_t wanted) {
  const uint64_t soft = LOAD(soft);
  if (LOAD(purge_at) > soft && wanted < soft - soft / 32) STORE(purge_at, soft);
}

void hak_limit_exempt(bool exempt) { is_exempt = exempt; }

bool hak_limit_is_beyond_setting(void) {
  const uint64_t setting = HAK_SETTING(soft_limit_bytes);
  return setting != 0 && LOAD(committed) > setting;
}

bool hak_limit_admit(uint64_t more) {
  const uint64_t committed = LOAD(committed);
  if (HAK_UNLIKELY(LOAD(soft) == 0)) find_soft_limit();
  switch (judge(committed, more, is_exempt ? 0 : LOAD(purge_at))) {
    case HAK_LIMIT_GROW:
      lower_purge_point(committed + more);
      return true;
    case HAK_LIMIT_PURGE:
      // Relaxed: statistics.
      atomic_fetch_add_explicit(&account.purges, 1, memory_order_relaxed);
      break;
    default:
      atomic_fetch_add_explicit(&account.refusals, 1, memory_order_relaxed);
      break;
  }
  is_refused = true;
  return false;
}

// Release: pairs with find_soft_limit(). Acquire: the same between two changes.
void hak_limit_changed(void) { atomic_exchange_explicit(&account.soft, 0, memory_order_acq_rel); }

void hak_limit_read_group(void) {
  const uint64_t limit = HAK_SETTING(cgroup_limit) ? hak_os_cgroup_limit() : 0;
  // The same limit, read again, must not move the next purge to an earlier point.
  if (limit == LOAD(group)) return;
  STORE(group, limit);
  hak_limit_changed();
}

void hak_limit_purged(uint64_t more) {
  const uint64_t soft = LOAD(soft);
  if (soft != 0) STORE(purge_at, hak_limit_next_purge(soft, LOAD(committed), more));
}

struct hak_limit_totals hak_limit_totals(void) {
  const struct hak_limit_totals totals = {.soft = LOAD(soft) != 0 ? LOAD(soft) : UINT64_MAX,
                                          .group = LOAD(group),
                                          .purges = LOAD(purges),
                                          .refusals = LOAD(refusals)};
  return totals;
}
