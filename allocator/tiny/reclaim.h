// SPDX-License-Identifier: Apache-2.0
//
// The common work of giving idle memory back, in bounded steps: free slabs and mappings past their deadline, blocks in
// the caches of idle threads, frees that wait for an idle owner, heaps of threads that a fork left behind.
//
// The caller holds no lock. Thread-safe.
#ifndef HAKMEM_TINY_RECLAIM_H_
#define HAKMEM_TINY_RECLAIM_H_

#include "allocator/os/base.h"
#include "allocator/tiny/heap.h"

HAK_C_BEGIN

// One step at `now` (milliseconds) on behalf of the thread that has `mine` (NULL: none): one superslab, one mapping,
// and one heap if none was visited lately. False: nothing was due.
bool hak_reclaim_step(struct hak_heap *mine, uint64_t now);

// Steps until nothing is due and all heaps are visited, or `slice_us` microseconds are over.
bool hak_reclaim_slice(struct hak_heap *mine, uint64_t slice_us);

// Takes in everything that other threads' heaps can give up, idle or not, but for the free slabs, which go to the pool.
void hak_reclaim_all(struct hak_heap *mine);

// Whether the program has let go of most of its heap, as far as is known.
bool hak_reclaim_watch(void);

// Rounds of the thread that does this in the background; relaxed: a statistic.
extern HAK_ATOMIC(uint64_t) hak_background_round_count;

HAK_C_END

#endif  // HAKMEM_TINY_RECLAIM_H_
