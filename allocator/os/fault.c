// SPDX-License-Identifier: Apache-2.0
//
// The fault plan.
#include "allocator/os/fault.h"

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

// All relaxed: plans are set while one thread allocates, and the counters order nothing else.
struct plan {
  HAK_ATOMIC(uint32_t) kinds;
  HAK_ATOMIC(uint64_t) seen;   // calls of these kinds since the plan was set
  HAK_ATOMIC(uint64_t) first;  // the first that fails, counted from 1
  HAK_ATOMIC(uint64_t) count;
};
static struct plan plans[2];
static HAK_ATOMIC(uint32_t) all_kinds;  // of both plans; relaxed, as they are
static HAK_ATOMIC(uint64_t) hits;       // relaxed: a statistic

static void set(struct plan *plan, uint32_t kinds, uint64_t nth, uint64_t count) {
  atomic_store_explicit(&plan->seen, 0, memory_order_relaxed);
  atomic_store_explicit(&plan->first, nth, memory_order_relaxed);
  atomic_store_explicit(&plan->count, count, memory_order_relaxed);
  atomic_store_explicit(&plan->kinds, kinds, memory_order_relaxed);
  atomic_fetch_or_explicit(&all_kinds, kinds, memory_order_relaxed);
}

void hak_fault_set(uint32_t kinds, uint64_t nth, uint64_t count) {
  hak_fault_clear();
  atomic_store_explicit(&hits, 0, memory_order_relaxed);
  set(&plans[0], kinds, nth, count);
}

void hak_fault_also(uint32_t kinds, uint64_t nth, uint64_t count) { set(&plans[1], kinds, nth, count); }

void hak_fault_clear(void) {
  atomic_store_explicit(&all_kinds, 0, memory_order_relaxed);
  atomic_store_explicit(&plans[0].kinds, 0, memory_order_relaxed);
  atomic_store_explicit(&plans[1].kinds, 0, memory_order_relaxed);
}

uint64_t hak_fault_hits(void) { return atomic_load_explicit(&hits, memory_order_relaxed); }

static bool due(struct plan *plan, uint32_t kind) {
  if ((atomic_load_explicit(&plan->kinds, memory_order_relaxed) & kind) == 0) return false;
  const uint64_t seen = 1 + atomic_fetch_add_explicit(&plan->seen, 1, memory_order_relaxed);
  const uint64_t first = atomic_load_explicit(&plan->first, memory_order_relaxed);
  return seen >= first && seen - first < atomic_load_explicit(&plan->count, memory_order_relaxed);
}

bool hak_fault_due(uint32_t kind) {
  if (HAK_LIKELY((atomic_load_explicit(&all_kinds, memory_order_relaxed) & kind) == 0)) return false;
  // Each plan counts the call, even if the other plan fails it.
  const bool first = due(&plans[0], kind);
  const bool second = due(&plans[1], kind);
  if (!first && !second) return false;
  atomic_fetch_add_explicit(&hits, 1, memory_order_relaxed);
  return true;
}
