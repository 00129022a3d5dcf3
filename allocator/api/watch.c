// SPDX-License-Identifier: Apache-2.0
#include "allocator/api/watch.h"

#include "allocator/api/background.h"
#include "allocator/api/process.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/policy/ss_release_policy.h"
#include "allocator/tiny/reclaim.h"
#include "allocator/tiny/thread_cache.h"

// Calls that a watch lasts when they come fast; each millisecond that passes allows as many more.
#define BUDGET 512u
#define CALLS_PER_MS 2u

static HAK_COLD void common_work(struct hak_heap *heap) {
  heap->tick_due = false;
  hak_reclaim_step(heap, hak_os_now_ms());
  hak_reclaim_judge(heap);
  hak_background_wake();
}

void hak_watch_after_slow(struct hak_heap *heap) {
  if (HAK_UNLIKELY(heap->tick_due)) common_work(heap);
  if (HAK_LIKELY(!hak_reclaim_worth_watching())) return;
  // A busy program whose heap stays mostly free is not slowed down for ever.
  if (heap->watch_spent > hak_release_watches(hak_commit_now()) || hak_thread_is_watched()) return;
  const uint64_t now = hak_os_now_ms();
  heap->watch_budget = BUDGET;
  heap->watch_since_ms = heap->watch_last_ms = now;
  hak_thread_watch(heap);
}

// The thread makes few calls: gives back what it keeps, and a slice of what everybody keeps. False: all is done.
static bool quiet_work(struct hak_heap *heap, uint64_t now, uint64_t elapsed) {
  heap->watch_spent = 0;
  if (now - heap->watch_since_ms >= HAK_SETTING(idle_cache_ms)) {
    hak_heap_enter(heap);
    hak_thread_cache_flush_all(heap);
    hak_heap_drain(heap);
    hak_heap_release_empty(heap);
    hak_heap_report(heap);
    hak_heap_leave(heap);
    heap->watch_since_ms = now;
  }
  hak_reclaim_slice(heap, hak_release_slice_us(elapsed));
  return hak_reclaim_judge(heap);
}

bool hak_watch_call(struct hak_heap *heap) {
  const uint64_t now = hak_os_now_ms();
  const uint64_t elapsed = now - heap->watch_last_ms;
  heap->watch_last_ms = now;
  if (elapsed >= BUDGET / CALLS_PER_MS) {
    heap->watch_budget = BUDGET;
  } else if (elapsed > 0) {
    const uint64_t budget = heap->watch_budget + elapsed * CALLS_PER_MS;
    heap->watch_budget = budget < BUDGET ? (uint32_t)budget : BUDGET;
  }
  // Some tens of milliseconds: a program that pauses for less is not idle.
  if (elapsed >= HAK_QUIET_MS) return !quiet_work(heap, now, elapsed);
  if (--heap->watch_budget != 0) return false;
  heap->watch_spent++;
  return true;
}
