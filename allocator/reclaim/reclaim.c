// SPDX-License-Identifier: Apache-2.0
//
// The steps that return idle memory: release, visits to other heaps, and the decision to watch threads.
#include "allocator/reclaim/reclaim.h"

#include "allocator/heap/heap_life.h"
#include "allocator/heap/heap_records.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/heap/idle_slabs.h"
#include "allocator/heap/medium_cache.h"
#include "allocator/heap/page_purge.h"
#include "allocator/heap/quarantine.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/meta/meta.h"
#include "allocator/os/os.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/cache_total.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/policy/ss_release_policy.h"
#include "allocator/policy/watch_policy.h"
#include "allocator/slab/slab_purged.h"
#include "allocator/slab/slab_release.h"

HAK_ATOMIC(uint64_t) hak_background_round_count;

struct visit {
  const struct hak_heap *mine;
  uint64_t now;
  uint64_t idle_ms;
  bool all;      // memory of any age
  bool refused;  // a request met a limit or found no memory: busy threads give slabs with room too
  bool barrier;  // idle caches too, for which all threads' processors are interrupted (membarrier)
  uint32_t taken;
  uint32_t entered;  // heaps that were not skipped
  uint32_t slabs;    // that other threads can fill now
};

static void visit_heap(struct hak_heap *heap, void *context) HAK_REQUIRES(heap->lock, hak_heap_role) {
  struct visit *visit = context;
  visit->entered++;
  if (heap == visit->mine) return;  // Its own thread takes care of it.
  const bool asked = visit->barrier || HAK_SETTING(background) || hak_cache_total_is_short();
  const bool much = hak_idle_cache_count_is_large(heap, visit->now, visit->idle_ms);
  uint32_t taken = 0;
  if (asked || much) {
    taken = hak_idle_cache_steal(heap, visit->now, visit->idle_ms);
    hak_idle_cache_uncount(heap);
    hak_thread_cache_yield(heap);
  }
  if (asked || much) taken += hak_medium_flush_idle(heap, visit->now, visit->idle_ms);
  if (HAK_HARDENED) taken += hak_quarantine_flush_idle(heap, visit->now, visit->idle_ms);
  if (hak_reclaim_worth_watching()) hak_idle_cache_trip(heap);
  // A busy thread collects the remote frees of its own slabs. Relaxed: a hint, the drain checks again.
  // Step V1 of remote.pml.
  const bool waiting = hak_remote_is_waiting(heap) && hak_idle_cache_is_quiet(heap, visit->now, visit->idle_ms);
  if (waiting && visit->all) hak_remote_drain(heap);
  if (waiting && !visit->all) hak_remote_drain_slice(heap);
  if (taken != 0 || waiting) hak_heap_release_empty(heap);
  const bool gives = HAK_SETTING(idle_slabs) && (!visit->all || visit->refused);
  const uint32_t given = gives ? hak_idle_slabs_give(heap, visit->now, visit->idle_ms) : 0;
  const bool purged = visit->all ? hak_page_purge_all(heap) != 0 : hak_page_purge(heap, visit->now);
  hak_heap_report(heap);
  visit->slabs += given;
  visit->taken += taken + waiting + purged + given;
}

static bool visit_next(struct visit *visit) {
  const uint32_t before = visit->taken;
  hak_heap_visit_next(visit_heap, visit);
  return visit->taken != before;
}

// The child of a fork does not touch the heaps of its parent's threads until it has grown by this much.
#define GROWTH_BEFORE_CLOSING ((uint64_t)4 * 1024 * 1024)
// The least memory that was committed since this process was created. Relaxed: any recent value is good enough.
static HAK_ATOMIC(uint64_t) least_committed;

// Set while a thread is in hak_reclaim_judge. A thread that finds it set leaves the decision to that thread.
static HAK_ATOMIC(bool) judging;

void hak_reclaim_forked(void) {
  // Relaxed: the child has one thread. The thread that was in hak_reclaim_judge does not exist here.
  atomic_store_explicit(&judging, false, memory_order_relaxed);
  atomic_store_explicit(&least_committed, hak_commit_now(), memory_order_relaxed);
}

// Most children do little and end soon. To close heaps would cost such a child more page copies than all its other
// work.
static bool close_abandoned(void) {
  const uint64_t now = hak_commit_now();
  const uint64_t least = atomic_load_explicit(&least_committed, memory_order_relaxed);
  if (now < least) atomic_store_explicit(&least_committed, now, memory_order_relaxed);
  // These heaps have a part of the bound on all caches, which no thread of this process can give up.
  const bool is_due = now > least + GROWTH_BEFORE_CLOSING || hak_cache_total_is_short();
  return is_due && hak_heap_close_abandoned();
}

// Whether there is another heap than `mine` to visit.
static bool has_others(const struct hak_heap *mine) { return hak_heap_threads() > (mine != NULL); }

static bool release_step(uint64_t now) {
  const bool released = hak_pool_tick(now);
  const bool closed = close_abandoned();
  const bool rested = hak_heap_tick_records(now);
  const bool fewer = hak_meta_tick(now);
  return hak_page_heap_tick(now) || released || closed || rested || fewer;
}

static bool purge_orphans(uint64_t now) {
  hak_orphanage_enter();
  const bool worked = hak_page_purge(&hak_orphanage, now);
  hak_orphanage_leave();
  return worked;
}

// Visits at most `visits` heaps, until they have given a superslab's worth of slabs.
static bool visit_step(struct hak_heap *mine, uint64_t now, uint32_t visits) {
  // Without a bound no cache is ever idle, but heaps that a fork left behind are still closed.
  const uint64_t idle_ms = HAK_SETTING(idle_cache_ms);
  struct visit visit = {.mine = mine, .now = now, .idle_ms = idle_ms != 0 ? idle_ms : UINT64_MAX};
  bool worked = false;
  while (visits-- > 0 && visit.slabs < HAK_SLABS_PER_SUPERSLAB) worked |= visit_next(&visit);
  return purge_orphans(now) || worked;
}

// When busy threads visit the next heap: each heap is visited about four times in the time that makes it idle. Relaxed:
// two threads that arrive at once visit two heaps.
static HAK_ATOMIC(uint64_t) next_visit_ms;
// The longest time between two visits, so that a setting that becomes lower is soon obeyed.
#define VISIT_MS_MOST 1000u

// How many heaps a thread visits at most after its heap has grown: each may have slabs that it can fill instead.
#define GROWTH_VISITS 8u

bool hak_reclaim_step(struct hak_heap *mine, uint64_t now) {
  const bool worked = release_step(now);
  const bool grew = mine != NULL && mine->grew;
  if (grew) mine->grew = false;
  if (!has_others(mine)) return worked;
  if (grew && HAK_SETTING(idle_slabs)) return visit_step(mine, now, GROWTH_VISITS) || worked;
  if (now < atomic_load_explicit(&next_visit_ms, memory_order_relaxed)) return worked;
  // The last of the others may have ended meanwhile.
  const uint64_t threads = hak_heap_threads();
  const uint64_t pause = 1 + HAK_SETTING(idle_cache_ms) / 4 / (threads != 0 ? threads : 1);
  atomic_store_explicit(&next_visit_ms, now + (pause < VISIT_MS_MOST ? pause : VISIT_MS_MOST), memory_order_relaxed);
  return visit_step(mine, now, 1) || worked;
}

static bool purge_own(struct hak_heap *mine, uint64_t now) {
  hak_heap_enter(mine);
  const bool worked = hak_page_purge(mine, now);
  hak_heap_leave(mine);
  return worked;
}

bool hak_reclaim_own(struct hak_heap *mine, uint64_t now) { return purge_own(mine, now); }

bool hak_reclaim_slice(struct hak_heap *mine, uint64_t slice_us) {
  const uint64_t until = hak_os_now_us() + slice_us;
  uint32_t to_visit = has_others(mine) ? hak_heap_threads() : 0;
  bool worked = false;
  bool more = true;
  while ((more || to_visit > 0) && hak_os_now_us() < until) {
    const uint64_t now = hak_os_now_ms();
    more = release_step(now);
    if (mine != NULL) more |= purge_own(mine, now);
    if (to_visit > 0) {
      // A heap that returned memory may have more: the round continues with the others and reaches it again.
      if (visit_step(mine, now, 1)) {
        more = true;
      } else {
        to_visit--;
      }
    }
    worked |= more;
  }
  return worked;
}

void hak_reclaim_gone(void) {
  hak_heap_close_left();
  while (hak_heap_close_abandoned()) continue;
}

#define ROUNDS_OF_ALL 3

void hak_reclaim_all(struct hak_heap *mine, bool barrier, bool refused) {
  struct visit visit = {.mine = mine, .all = true, .refused = refused, .barrier = barrier};
  // Most heaps that were busy in one round are not busy in the next.
  for (int round = 0; round < ROUNDS_OF_ALL; round++) {
    const uint32_t heaps = hak_heap_threads();
    visit.entered = 0;
    for (uint32_t left = heaps; left > 0; left--) {
      // Not once for all: a heap that another thread has looked at since would not count as idle.
      visit.now = hak_os_now_ms();
      visit_next(&visit);
    }
    if (visit.entered >= heaps) break;
  }
  hak_orphanage_enter();
  size_t bytes = 0;
  bool more = hak_page_purge_begin(&hak_orphanage);
  while (more) {
    more = hak_page_purge_step(&hak_orphanage, &bytes);
    hak_lock_pass(&hak_orphanage_lock);
  }
  hak_orphanage_leave();
}

static void drain_heap(struct hak_heap *heap, void *mine) HAK_REQUIRES(hak_heap_role) {
  if (heap != mine) hak_remote_drain(heap);
}

void hak_reclaim_waiting(struct hak_heap *mine) {
  for (uint32_t left = hak_heap_threads(); left > 0; left--) hak_heap_visit_next(drain_heap, mine);
}

HAK_ATOMIC(bool) hak_reclaim_worth;

static void trip_heap(struct hak_heap *heap, void *mine) HAK_REQUIRES(hak_heap_role) {
  if (heap != mine) hak_idle_cache_trip(heap);
}

void hak_reclaim_trip_others(struct hak_heap *mine) {
  for (uint32_t left = hak_heap_threads(); left > 0; left--) hak_heap_visit_next(trip_heap, mine);
}

// The approximate amount of free memory.
static uint64_t free_bytes(void) {
  // If one thread has subtracted before another thread has added, the sum may be negative for a moment.
  const int64_t in_heaps = (int64_t)atomic_load_explicit(&hak_heaps_free_bytes, memory_order_relaxed);
  const int64_t with_memory = in_heaps - (int64_t)hak_slab_purged_bytes();
  return (with_memory > 0 ? (uint64_t)with_memory : 0) + hak_pool_free_bytes() + hak_page_heap_free_memory() +
         hak_heap_records_idle_bytes() + hak_meta_idle_bytes();
}

// Whether the last decision left out memory that cannot be returned. Relaxed: a hint.
static HAK_ATOMIC(bool) some_is_stuck;

bool hak_reclaim_may_be_worth(void) {
  return hak_reclaim_worth_watching() || atomic_load_explicit(&some_is_stuck, memory_order_relaxed) ||
         hak_should_watch(free_bytes(), hak_commit_now());
}

bool hak_reclaim_judge(struct hak_heap *mine, uint64_t now) {
  static struct hak_watch_state state;
  const struct hak_watch_facts facts = {.now_ms = now,
                                        .free_bytes = free_bytes(),
                                        .committed = hak_commit_now(),
                                        .deadline_ms = HAK_SETTING(decommit_deadline_ms)};
  const bool before = hak_reclaim_worth_watching();
  // Acquire: sees the state as the previous thread left it.
  if (atomic_exchange_explicit(&judging, true, memory_order_acquire)) return before;
  const bool worth = HAK_SETTING(idle_watch) && hak_watch_judge(&state, &facts);
  atomic_store_explicit(&some_is_stuck, state.stuck_bytes != 0, memory_order_relaxed);
  // Release: pairs with the exchange above.
  atomic_store_explicit(&judging, false, memory_order_release);
  if (worth != before) atomic_store_explicit(&hak_reclaim_worth, worth, memory_order_relaxed);
  if (worth && !before) hak_reclaim_trip_others(mine);
  return worth;
}
