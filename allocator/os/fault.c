// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/fault.h"

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

// All relaxed: the plan is set while one thread allocates, and the counters order nothing else.
static struct {
  HAK_ATOMIC(uint32_t) kinds;
  HAK_ATOMIC(uint64_t) seen;   // calls of these kinds since the plan was set
  HAK_ATOMIC(uint64_t) first;  // the first that fails, counted from 1
  HAK_ATOMIC(uint64_t) count;
  HAK_ATOMIC(uint64_t) hits;
} plan;

void hak_fault_set(uint32_t kinds, uint64_t nth, uint64_t count) {
  atomic_store_explicit(&plan.kinds, 0, memory_order_relaxed);
  atomic_store_explicit(&plan.seen, 0, memory_order_relaxed);
  atomic_store_explicit(&plan.hits, 0, memory_order_relaxed);
  atomic_store_explicit(&plan.first, nth, memory_order_relaxed);
  atomic_store_explicit(&plan.count, count, memory_order_relaxed);
  atomic_store_explicit(&plan.kinds, kinds, memory_order_relaxed);
}

void hak_fault_clear(void) { atomic_store_explicit(&plan.kinds, 0, memory_order_relaxed); }

uint64_t hak_fault_hits(void) { return atomic_load_explicit(&plan.hits, memory_order_relaxed); }

bool hak_fault_due(uint32_t kind) {
  if (HAK_LIKELY((atomic_load_explicit(&plan.kinds, memory_order_relaxed) & kind) == 0)) return false;
  const uint64_t seen = 1 + atomic_fetch_add_explicit(&plan.seen, 1, memory_order_relaxed);
  const uint64_t first = atomic_load_explicit(&plan.first, memory_order_relaxed);
  if (seen < first || seen - first >= atomic_load_explicit(&plan.count, memory_order_relaxed)) return false;
  atomic_fetch_add_explicit(&plan.hits, 1, memory_order_relaxed);
  return true;
}
