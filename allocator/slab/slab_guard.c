// SPDX-License-Identifier: Apache-2.0
//
// Raises guard pages of slabs and heads within the guard budget.
#include "allocator/slab/slab_guard.h"

#include "allocator/os/os.h"
#include "allocator/policy/guard_budget.h"

// Written under the pool's lock. Relaxed: a statistic.
static HAK_ATOMIC(uint64_t) guards;

static void set_count(uint64_t count) { atomic_store_explicit(&guards, count, memory_order_relaxed); }
uint64_t hak_slab_guard_count(void) { return atomic_load_explicit(&guards, memory_order_relaxed); }

static bool raise_at(char *start, size_t bytes) {
  if (hak_os_page_size() > HAK_SLAB_GUARD) return false;
  if (!hak_guard_budget_take(HAK_GUARD_PAGE, hak_guard_budget_reserve())) return false;
  if (!hak_os_protect(start, bytes)) {
    hak_guard_budget_give(HAK_GUARD_PAGE);
    hak_guard_budget_refused();
    return false;
  }
  set_count(hak_slab_guard_count() + 1);
  return true;
}

void hak_slab_guard_raise(struct hak_superslab *ss, uint32_t index) {
  if (!HAK_HARDENED || ((ss->guard_mask >> index) & 1) != 0) return;
  if (raise_at(hak_superslab_memory(ss) + index * HAK_SLAB_SIZE + HAK_SLAB_ROOM, HAK_SLAB_GUARD)) {
    ss->guard_mask |= 1u << index;
  }
}

void hak_slab_guard_raise_head(struct hak_superslab *ss) {
  if (!HAK_HARDENED) return;
  const size_t in_use = hak_superslab_is_apart(ss) ? 0 : HAK_SUPERSLAB_RECORDS;
  ss->head_guarded = raise_at(hak_superslab_memory(ss) + in_use, HAK_SUPERSLAB_HEAD - in_use);
}

uint64_t hak_slab_guards_of(const struct hak_superslab *ss) {
  return HAK_HARDENED ? hak_popcount(ss->guard_mask) + ss->head_guarded : 0;
}

void hak_slab_guards_gone(uint64_t count) {
  if (count == 0) return;
  set_count(hak_slab_guard_count() - count);
  hak_guard_budget_give(count * HAK_GUARD_PAGE);
}
