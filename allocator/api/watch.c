// SPDX-License-Identifier: Apache-2.0
//
// A thread's share of the reclaim work, and the watched calls.
#include "allocator/api/watch.h"

#include "allocator/api/background.h"
#include "allocator/api/thread_state.h"
#include "allocator/heap/medium_cache.h"
#include "allocator/heap/quarantine.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/observe/stats_page.h"
#include "allocator/os/atomic.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/ss_release_policy.h"
#include "allocator/policy/watch_policy.h"
#include "allocator/prof/sampler.h"
#include "allocator/reclaim/reclaim.h"

// How many calls are made between two readings of the clock while calls come fast. After a pause the clock is read at
// the first call, or soon after it.
#define SKIP_MAX 7u
// The time between two slices of work, and the least time between two flushes of the thread's cache.
#define WORK_MS 10u
#define EMPTY_MS_MIN 50u
// No watch begins that would last for fewer calls.
#define CALLS_LEAST ((uint64_t)1 << 20)
// How many calls of a thread come between two looks whether they must still be watched because of samples.
#define SAMPLED_CALLS 1000u

void hak_watch_tracer(struct hak_heap *heap) {
  if (HAK_UNLIKELY(hak_sampler_follow_tracer())) hak_watch_samples_of_all(heap);
}

static HAK_COLD void reclaim_work(struct hak_heap *heap, uint64_t now) {
  heap->upkeep.tick_due = false;
  hak_watch_tracer(heap);
  hak_reclaim_step(heap, now);
  hak_reclaim_judge(heap, now);
  hak_background_wake();
}

static void begin_watch(struct hak_heap *heap, uint64_t now) {
  if (heap->watch.on) return;
  heap->watch.used = hak_watch_used(heap->watch.used, 0, now - heap->watch.last_ms);
  heap->watch.last_ms = now;
  if (heap->watch.used > HAK_WATCH_CALLS - CALLS_LEAST) return;
  heap->watch.on = true;
  heap->watch.skip = heap->watch.step = 0;
  heap->watch.work_ms = heap->watch.full_ms = heap->watch.held_ms = now;
  hak_thread_watch(heap);
}

void hak_watch_after_slow(struct hak_heap *heap) {
  if (HAK_UNLIKELY(heap->upkeep.tick_due)) reclaim_work(heap, hak_os_now_ms());
  if (HAK_UNLIKELY(hak_reclaim_worth_watching())) begin_watch(heap, hak_os_now_ms());
  hak_watch_samples(heap);
  hak_stats_page_tick();
}

void hak_watch_after_large(struct hak_heap *heap) {
  hak_background_wake();
  hak_stats_page_tick();
  hak_watch_tracer(heap);
  if (HAK_LIKELY(!hak_reclaim_may_be_worth())) return;
  // A watched thread has decided when it reads the clock next.
  if (heap != NULL && heap->watch.on && hak_thread_between_looks() != NULL) return;
  const uint64_t now = hak_os_now_ms();
  if (hak_reclaim_judge(heap, now) && heap != NULL) begin_watch(heap, now);
}

void hak_watch_after_thread(void) {
  const uint64_t now = hak_os_now_ms();
  hak_reclaim_step(NULL, now);
  hak_reclaim_judge(NULL, now);
  hak_background_wake();
  hak_stats_page_tick();
}

// Cached blocks keep the slabs of the peak in use, and the bins are still as large as the peak made them.
static void empty_cache(struct hak_heap *heap, uint64_t now) {
  const uint64_t idle_ms = HAK_SETTING(idle_cache_ms);
  if (now - heap->watch.full_ms < (idle_ms > EMPTY_MS_MIN ? idle_ms : EMPTY_MS_MIN)) return;
  heap->watch.full_ms = now;
  // Once per deadline: the quarantine loses little of its effect.
  const bool held = HAK_HARDENED && now - heap->watch.held_ms >= HAK_SETTING(decommit_deadline_ms) / 2;
  if (held) heap->watch.held_ms = now;
  hak_heap_enter(heap);
  if (held) hak_quarantine_flush(heap);
  hak_medium_flush(heap);
  hak_thread_cache_shrink_all(heap);
  hak_remote_drain_slice(heap);
  hak_heap_release_empty(heap);
  hak_heap_report(heap);
  hak_heap_leave(heap);
}

// When a thread last did a slice of the reclaim work. Relaxed: two threads that arrive at once do two slices.
static HAK_ATOMIC(uint64_t) reclaim_ms;

// One thread at a time does the reclaim work; the others return the memory of their own heaps.
static void do_slice(struct hak_heap *heap, uint64_t now) {
  const uint64_t last = atomic_load_explicit(&reclaim_ms, memory_order_relaxed);
  // Another thread's `now` may be later.
  if (now < last || now - last < WORK_MS) {
    hak_reclaim_own(heap, now);
    return;
  }
  atomic_store_explicit(&reclaim_ms, now, memory_order_relaxed);
  hak_reclaim_slice(heap, hak_release_slice_us(now - last));
}

// Reads the clock, and does what is due. True: the watch is over.
static bool check_clock(struct hak_heap *heap) {
  const uint64_t now = hak_os_now_ms();
  const uint64_t elapsed = now - heap->watch.last_ms;
  heap->watch.last_ms = now;
  heap->watch.used = hak_watch_used(heap->watch.used, heap->watch.step + 1, elapsed);
  const uint32_t step = 2 * heap->watch.step + 1;
  heap->watch.step = elapsed != 0 ? 0 : step < SKIP_MAX ? step : SKIP_MAX;
  heap->watch.skip = heap->watch.step;
  if (now - heap->watch.work_ms >= WORK_MS) {
    heap->watch.work_ms = now;
    empty_cache(heap, now);
    do_slice(heap, now);
    hak_stats_page_tick();
    if (!hak_reclaim_judge(heap, now)) return true;
  }
  return heap->watch.used >= HAK_WATCH_CALLS;
}

bool hak_watch_call(struct hak_heap *heap) {
  if (HAK_LIKELY(heap->watch.skip != 0)) {
    heap->watch.skip--;
    return false;
  }
  hak_watch_tracer(heap);
  if (heap->watch.on && !check_clock(heap)) return false;
  heap->watch.on = false;
  heap->watch.skip = SAMPLED_CALLS;
  return !hak_sampler_wants_calls();
}

void hak_watch_samples(struct hak_heap *heap) {
  if (HAK_LIKELY(!hak_sampler_wants_calls()) || hak_thread_is_watched()) return;
  heap->watch.on = false;
  heap->watch.skip = SAMPLED_CALLS;
  hak_thread_watch(heap);
}

void hak_watch_samples_of_all(struct hak_heap *heap) {
  if (!hak_sampler_wants_calls()) return;
  if (heap != NULL) hak_watch_samples(heap);
  hak_reclaim_trip_others(heap);
}
