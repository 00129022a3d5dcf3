// SPDX-License-Identifier: Apache-2.0
//
// The common work of giving idle memory back, in bounded steps: free slabs and mappings past their deadline, blocks in
// the caches of idle threads, frees that wait for an idle owner, heaps of threads that a fork left behind.
//
// The caller holds no lock. Thread-safe.
#ifndef HAKMEM_RECLAIM_RECLAIM_H_
#define HAKMEM_RECLAIM_RECLAIM_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

extern HAK_ATOMIC(bool) hak_reclaim_worth;  // relaxed: a hint

// One step at `now` (milliseconds) on behalf of the thread that has `mine` (NULL: none): one superslab, one mapping,
// and one heap if none was visited lately. False: nothing was due.
bool hak_reclaim_step(struct hak_heap *mine, uint64_t now);

// Steps until nothing is due and all heaps are visited, or `slice_us` microseconds are over.
bool hak_reclaim_slice(struct hak_heap *mine, uint64_t slice_us);

// A slice of what is due in the heap `mine` alone.
bool hak_reclaim_own(struct hak_heap *mine, uint64_t now);

// Takes in everything that other threads' heaps can give up, idle or not, but for the free slabs, which go to the pool.
void hak_reclaim_all(struct hak_heap *mine);

// Closes the heaps of all threads that are gone: that ended without closing them, or did not survive a fork.
void hak_reclaim_gone(void);

// Takes in what was freed into the slabs of other threads' heaps and waits for them, and nothing else: a double free
// among it ends the process.
void hak_reclaim_waiting(struct hak_heap *mine);

// In the child of a fork: from now on.
void hak_reclaim_forked(void);

// Finds out whether so much memory lies free at `now` (milliseconds) that the threads are worth watching
// (policy/watch_policy.h). When it just came to that, the other threads' bins are closed, so that each of them comes
// by.
bool hak_reclaim_judge(struct hak_heap *mine, uint64_t now);
// False: hak_reclaim_judge would say no, without a look at the clock.
bool hak_reclaim_may_be_worth(void);
// What hak_reclaim_judge found last.
HAK_INLINE bool hak_reclaim_worth_watching(void) {
  return atomic_load_explicit(&hak_reclaim_worth, memory_order_relaxed);
}

// Rounds of the thread that does this in the background; relaxed: a statistic.
extern HAK_ATOMIC(uint64_t) hak_background_round_count;

HAK_C_END

#endif  // HAKMEM_RECLAIM_RECLAIM_H_
