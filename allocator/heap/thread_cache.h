// SPDX-License-Identifier: Apache-2.0
//
// The slow side of the thread caches: what happens when a bin is empty or full.
//
// The capacity adapts. A class starts small, and doubles when its bin runs empty or overflows. It is bounded in blocks,
// in bytes, and by one bound for all classes of the thread together. Classes without a slow event for a while shrink
// again. The room of all threads' caches together has a bound too (policy/cache_total.h). Beyond it a class has no bin,
// and each of its calls is a slow one.
#ifndef HAKMEM_HEAP_THREAD_CACHE_H_
#define HAKMEM_HEAP_THREAD_CACHE_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// All functions are called by the heap's thread under its lock, unless they say otherwise.

// Makes the cache of a newly opened heap empty and without arrays.
void hak_thread_cache_init(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// Frees the arrays of an empty cache.
void hak_thread_cache_destroy(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// Takes a block of a class whose bin is empty, and fills the bin. `fresh` as in hak_heap_take, or NULL. Returns NULL:
// out of memory.
void *hak_thread_cache_miss(struct hak_heap *heap, uint32_t class_id, bool *fresh) HAK_REQUIRES(hak_heap_role);

// A block that serves a request of the class without touching fresh memory. NULL: call hak_thread_cache_miss. A class
// may borrow a few blocks, and then must fill its own bin.
//
// The block is of a slightly larger class, if the class itself has no block that was used before and the larger class
// has one, in its slabs or in the thread's cache. It wastes at most an eighth of the block. Without it, fresh memory
// would be touched for the peak of one class while the other class needs little. One block at a time goes straight to
// the program, so that a bin holds only blocks of its own class. Never with headers, because a header names the class.
// The block has the alignment of its own class. Not for requests with an alignment.
void *hak_thread_cache_borrow(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role);

// Call it before the heap takes fresh memory: if much of the heap is free in slabs that are in use, it empties the
// heap's caches and gives its free slabs to the pool. False: nothing was done, and the heap may grow.
bool hak_thread_cache_empty_before_growth(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// Makes room in a full bin, and pushes `block`.
void hak_thread_cache_overflow(struct hak_heap *heap, uint32_t class_id, void *block) HAK_REQUIRES(hak_heap_role);

// Takes a block of the class from a slab, the fullest one that has room, and leaves the bin as it is. NULL: out of
// memory.
void *hak_thread_cache_take_past(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role);
// Returns `block` to its slab, whichever heap owns that.
void hak_thread_cache_give_past(struct hak_heap *heap, void *block) HAK_REQUIRES(hak_heap_role);

// Returns all cached blocks to their slabs.
void hak_thread_cache_flush_all(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// The same, and every class starts again with a small bin.
void hak_thread_cache_shrink_all(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// Releases the room of an empty cache to other threads, if the bound on all caches needs it; until its owner's next
// slow call the cache stays closed. By another thread, under the heap's lock, after it has emptied the cache.
void hak_thread_cache_yield(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_THREAD_CACHE_H_
