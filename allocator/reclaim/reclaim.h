// SPDX-License-Identifier: Apache-2.0
//
// The reclaim work, shared by all threads: returns idle memory in bounded steps. These are free slabs and large blocks
// past their deadline, blocks in the caches of idle threads, remote frees that wait for an idle owner, heaps of threads
// that a fork left behind.
//
// The caller holds no lock. Thread-safe.
#ifndef HAKMEM_RECLAIM_RECLAIM_H_
#define HAKMEM_RECLAIM_RECLAIM_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

extern HAK_ATOMIC(bool) hak_reclaim_worth;  // relaxed: a hint

// Does one step at `now` (milliseconds) for the thread that has the heap `mine` (NULL: none): one superslab, one
// mapping, and one heap if none was visited lately. False: nothing was due.
bool hak_reclaim_step(struct hak_heap *mine, uint64_t now);

// Does steps until nothing is due and all heaps are visited, or until `slice_us` microseconds have passed.
bool hak_reclaim_slice(struct hak_heap *mine, uint64_t slice_us);

// Does one slice of the work that is due in the heap `mine` alone.
bool hak_reclaim_own(struct hak_heap *mine, uint64_t now);

// Collects everything that other threads' heaps can return, idle or not, except the free slabs, which go to the pool.
// `barrier`: blocks in their caches too, however few, which takes a barrier on all threads. `refused`: a request met
// a limit or found no memory, so slabs that have room become those of any thread.
void hak_reclaim_all(struct hak_heap *mine, bool barrier, bool refused);

// Closes the heaps of all threads that are gone: threads that ended without closing their heap, or did not survive a
// fork.
void hak_reclaim_gone(void);

// Collects the remote frees that wait in other threads' heaps, and nothing else. A double free among them ends the
// process.
void hak_reclaim_waiting(struct hak_heap *mine);

// Call it in the child of a fork.
void hak_reclaim_forked(void);

// Decides whether so much memory is free at `now` (milliseconds) that threads should be watched
// (policy/watch_policy.h). When the answer has just become yes, it closes the bins of the other threads, so that each
// of them takes the slow path.
bool hak_reclaim_judge(struct hak_heap *mine, uint64_t now);
// False: hak_reclaim_judge would say no. Does not read the clock.
bool hak_reclaim_may_be_worth(void);
// The last decision of hak_reclaim_judge.
HAK_INLINE bool hak_reclaim_worth_watching(void) {
  return atomic_load_explicit(&hak_reclaim_worth, memory_order_relaxed);
}

// Rounds of the background thread; relaxed: a statistic.
extern HAK_ATOMIC(uint64_t) hak_background_round_count;

// Makes each thread but that of `mine` (may be NULL) take the slow path at its next frees. Heaps whose threads are in a
// slow call are skipped.
void hak_reclaim_trip_others(struct hak_heap *mine);

HAK_C_END

#endif  // HAKMEM_RECLAIM_RECLAIM_H_
