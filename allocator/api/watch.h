// SPDX-License-Identifier: Apache-2.0
//
// The work of a thread besides its own calls: a share of the reclaim work, and the watch for memory that is due.
//
// The fast paths never read a clock. So a program that frees a large heap, and afterwards makes only calls that its
// thread's cache serves, would keep all the memory. While much memory is free, a thread's calls therefore take the slow
// path, which reads the clock from time to time. It then flushes the thread's cache and returns what is past its
// deadline, in slices of at most a tenth of the time. policy/watch_policy.h decides when this begins and ends, and
// limits its cost.
#ifndef HAKMEM_API_WATCH_H_
#define HAKMEM_API_WATCH_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Call it after a slow call of the thread that owns `heap`. Hold no lock.
HAK_NOINLINE void hak_watch_after_slow(struct hak_heap *heap);

// Call it after a large block was freed. Hold no lock. `heap` is the thread's, or NULL.
HAK_NOINLINE void hak_watch_after_large(struct hak_heap *heap);

// Call it after a thread's heap was closed, because other threads may not return its memory soon. Hold no lock.
void hak_watch_after_thread(void);

// Call it for each call of a watched thread. True: the watch is over.
HAK_NOINLINE bool hak_watch_call(struct hak_heap *heap);

// Looks whether a tracer has come or gone (prof/probes.h). If one has come, allocations are sampled, and all threads
// are watched. Hold no lock. `heap` is the calling thread's, or NULL.
void hak_watch_tracer(struct hak_heap *heap);

// Watches the calls of the thread that owns `heap` while allocations are sampled (api/sampled.h), unless they are
// watched already. Call it when the thread opens its heap.
void hak_watch_samples(struct hak_heap *heap);
// The same for all threads, each from its next slow call or its next frees on. Call it when sampling may have begun.
// Hold no lock. `heap` is the calling thread's, or NULL.
void hak_watch_samples_of_all(struct hak_heap *heap);

HAK_C_END

#endif  // HAKMEM_API_WATCH_H_
