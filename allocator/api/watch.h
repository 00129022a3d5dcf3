// SPDX-License-Identifier: Apache-2.0
//
// What a thread does besides its slow calls: a share of the common work, and the watch for memory that is due.
//
// The fast paths never look at a clock, so a program that frees a large heap and then makes only calls that its
// thread's cache serves would keep everything, be they many or few. While much memory lies free, a thread's calls
// therefore take the slow path, which looks at the clock now and then: what the thread caches goes to its slabs, and
// what is past its deadline goes back, in slices that take at most a tenth of the time. policy/watch_policy.h says when
// this begins and ends, and bounds what it costs.
#ifndef HAKMEM_API_WATCH_H_
#define HAKMEM_API_WATCH_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// After a slow call of the thread that has `heap`, outside all locks.
HAK_NOINLINE void hak_watch_after_slow(struct hak_heap *heap);

// After a large block came back, outside all locks; `heap` is the thread's, or NULL.
HAK_NOINLINE void hak_watch_after_large(struct hak_heap *heap);

// After a thread's heap was closed, outside all locks: its memory waits for other threads to come by.
void hak_watch_after_thread(void);

// For each call of a thread that is watched: true when the watch is over.
HAK_NOINLINE bool hak_watch_call(struct hak_heap *heap);

HAK_C_END

#endif  // HAKMEM_API_WATCH_H_
