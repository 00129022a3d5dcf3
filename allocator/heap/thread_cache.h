// SPDX-License-Identifier: Apache-2.0
//
// The slow side of the thread caches: what happens when one is empty or full.
//
// Capacity adapts: a class starts small, doubles when its bin runs empty and when it overflows, up to a bound in
// blocks, one in bytes, and one for all classes of the thread together; classes that had no slow event for a while
// shrink again.
#ifndef HAKMEM_HEAP_THREAD_CACHE_H_
#define HAKMEM_HEAP_THREAD_CACHE_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// All are called by the heap's thread under its lock; what another thread may call says so.

// Makes the cache of a newly opened heap empty and without arrays.
void hak_thread_cache_init(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// Gives the arrays of an empty cache back.
void hak_thread_cache_destroy(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// A block of the class for a bin that is empty; the bin is filled on the way. `fresh` as in hak_heap_take, or NULL.
// NULL: out of memory.
void *hak_thread_cache_miss(struct hak_heap *heap, uint32_t class_id, bool *fresh) HAK_REQUIRES(hak_heap_role);

// A block that serves a request of the class without touching new memory; NULL when hak_thread_cache_miss must be
// asked: a class may borrow a few, and then has to fill its own bin.
//
// It is one of a slightly larger class, when the class itself has none that was used before and its neighbour has:
// taken from the neighbour's slabs or from the thread's cache. It wastes at most an eighth of the block, where fresh
// memory would be touched for the peak of one class while the other is in a trough. Only one at a time, straight to the
// program, so that a bin holds blocks of its own class alone. NULL: there is none. Never with headers, which name the
// class. The block has its own class's alignment. Not for requests with an alignment.
void *hak_thread_cache_borrow(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role);

// Before the heap takes new memory: empties its caches and gives its free slabs to the pool, when much of the heap lies
// free in slabs that are in use. False: nothing was done, and the heap may grow.
bool hak_thread_cache_empty_before_growth(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// Makes room in a bin that is full, and pushes `block`.
void hak_thread_cache_overflow(struct hak_heap *heap, uint32_t class_id, void *block) HAK_REQUIRES(hak_heap_role);

// Gives all cached blocks back to their slabs.
void hak_thread_cache_flush_all(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// And lets every class begin again with a small bin.
void hak_thread_cache_shrink_all(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_THREAD_CACHE_H_
