// SPDX-License-Identifier: Apache-2.0
//
// What a thread does besides its slow calls: a share of the common work, and the watch for idleness.
//
// The fast paths never look at a clock, so a program that frees a large heap and then makes only a few calls, all
// served by the thread's cache, would keep everything. While most of the heap lies free, a thread's calls therefore
// take the slow path for a while after each slow call: a token bucket tells whether they come fast (then the fast path
// is switched on again) or slowly (then the memory goes back, in slices).
#ifndef HAKMEM_API_WATCH_H_
#define HAKMEM_API_WATCH_H_

#include "allocator/os/base.h"
#include "allocator/tiny/heap.h"

HAK_C_BEGIN

// After a slow call of the thread that has `heap`, outside all locks.
HAK_NOINLINE void hak_watch_after_slow(struct hak_heap *heap);

// For each call of a thread that is watched: true when the watch is over.
HAK_NOINLINE bool hak_watch_call(struct hak_heap *heap);

HAK_C_END

#endif  // HAKMEM_API_WATCH_H_
