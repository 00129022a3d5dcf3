// SPDX-License-Identifier: Apache-2.0
#include "allocator/tiny/reclaim.h"

#include "allocator/large/mapping.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/policy/ss_release_policy.h"
#include "allocator/tiny/idle_cache.h"
#include "allocator/tiny/slab_pool.h"

HAK_ATOMIC(uint64_t) hak_background_round_count;

struct visit {
  const struct hak_heap *mine;
  uint64_t now;
  uint64_t idle_ms;
  uint32_t taken;
};

static void visit_heap(struct hak_heap *heap, void *context) {
  struct visit *visit = context;
  if (heap == visit->mine) return;  // Its thread looks after it.
  const bool waiting = atomic_load_explicit(&heap->pending, memory_order_relaxed) != NULL;
  if (waiting) hak_heap_drain(heap);
  const uint32_t taken = hak_idle_cache_steal(heap, visit->now, visit->idle_ms);
  if (taken != 0 || waiting) hak_heap_release_empty(heap);
  hak_heap_report(heap);
  visit->taken += taken + waiting;
}

static bool visit_next(struct visit *visit) {
  const uint32_t before = visit->taken;
  hak_heap_visit_next(visit_heap, visit);
  return visit->taken != before;
}

bool hak_reclaim_step(struct hak_heap *mine, uint64_t now) {
  bool worked = hak_pool_tick(now);
  worked |= hak_mapping_tick();
  if (hak_config.idle_cache_ms != 0 && hak_heap_threads() > (mine != NULL)) {
    struct visit visit = {.mine = mine, .now = now, .idle_ms = hak_config.idle_cache_ms};
    worked |= visit_next(&visit);
  }
  return worked;
}

bool hak_reclaim_slice(struct hak_heap *mine, uint64_t slice_us) {
  const uint64_t until = hak_os_now_us() + slice_us;
  bool worked = false;
  uint32_t quiet = 0;
  do {
    const bool now_worked = hak_reclaim_step(mine, hak_os_now_ms());
    worked |= now_worked;
    // Heaps are visited one at a time: nothing is due when a whole round found nothing.
    quiet = now_worked ? 0 : quiet + 1;
  } while (quiet <= hak_heap_threads() && hak_os_now_us() < until);
  return worked;
}

void hak_reclaim_all(struct hak_heap *mine) {
  struct visit visit = {.mine = mine, .now = hak_os_now_ms(), .idle_ms = 0};
  for (uint32_t left = hak_heap_threads(); left > 0; left--) visit_next(&visit);
}

bool hak_reclaim_watch(void) {
  const uint64_t in_heaps = atomic_load_explicit(&hak_heaps_free_bytes, memory_order_relaxed);
  return hak_release_watch(in_heaps + hak_pool_free_bytes(), hak_commit_now());
}
