// SPDX-License-Identifier: Apache-2.0
//
// The account of mappings that guard pages use.
#include "allocator/policy/guard_budget.h"

#include "allocator/os/atomic.h"
#include "allocator/os/mapping_limit.h"
#include "allocator/os/report.h"

#define BUDGET_OF(limit) ((limit) - (limit) / 4 - (limit) / 8)

// Set once, at the start, before there are other threads to read them.
static uint64_t allowed = HAK_OS_MAPPING_LIMIT_DEFAULT;
static uint64_t budget = BUDGET_OF(HAK_OS_MAPPING_LIMIT_DEFAULT);
// Relaxed: a count that orders nothing; it is exact because one instruction changes it.
static HAK_ATOMIC(uint64_t) used;
enum { NO_NEWS, USED_UP, REFUSED, TOLD };
// Relaxed: exactly one thread tells the operator, and it does not matter which.
static HAK_ATOMIC(uint32_t) news;

static void note(uint32_t what) {
  uint32_t before = NO_NEWS;
  // Relaxed: see above.
  atomic_compare_exchange_strong_explicit(&news, &before, what, memory_order_relaxed, memory_order_relaxed);
}

uint64_t hak_guard_budget_of(uint64_t limit) { return BUDGET_OF(limit); }

void hak_guard_budget_init(uint64_t limit) {
  allowed = limit;
  budget = hak_guard_budget_of(limit);
}

uint64_t hak_guard_budget_reserve(void) { return budget / 4; }
uint64_t hak_guard_budget_used(void) { return atomic_load_explicit(&used, memory_order_relaxed); }

bool hak_guard_budget_take(uint64_t mappings, uint64_t leave) {
  uint64_t now = hak_guard_budget_used();
  do {
    if (HAK_UNLIKELY(now + mappings + leave > budget)) {
      note(USED_UP);
      return false;
    }
    // Relaxed: see above.
  } while (
      !atomic_compare_exchange_weak_explicit(&used, &now, now + mappings, memory_order_relaxed, memory_order_relaxed));
  return true;
}

void hak_guard_budget_give(uint64_t mappings) { atomic_fetch_sub_explicit(&used, mappings, memory_order_relaxed); }

void hak_guard_budget_refused(void) { note(REFUSED); }

static HAK_COLD void tell(void) {
  // Relaxed: see above.
  const uint32_t what = atomic_exchange_explicit(&news, TOLD, memory_order_relaxed);
  if (what == TOLD) return;
  struct hak_line line;
  hak_line_begin(&line);
  if (what == USED_UP) {
    hak_line_text(&line, "hakmem: guard pages take ");
    hak_line_number(&line, (int64_t)hak_guard_budget_used());
    hak_line_text(&line, " of the ");
    hak_line_number(&line, (int64_t)allowed);
    hak_line_text(&line, " mappings that vm.max_map_count allows");
  } else {
    hak_line_text(&line, "hakmem: the kernel has refused a guard page");
  }
  hak_line_text(&line, ": from now on blocks may go without them");
  hak_line_offer(&line);
}

void hak_guard_budget_tell(void) {
  const uint32_t what = atomic_load_explicit(&news, memory_order_relaxed);
  if (HAK_UNLIKELY(what != NO_NEWS && what != TOLD)) tell();
}
