// SPDX-License-Identifier: Apache-2.0
//
// One thread empties the thread cache of another thread that is idle, without any cost to the fast paths.
//
// The owner accesses a bin's top and slots with plain loads and stores. The thief must not write the top; it takes
// blocks by exchanging slots with NULL. NULL already ends the owner's stack: an owner that reaches such a slot takes
// the slow path, and waits there for the heap's lock, which the thief holds. At most one operation of a fast path is
// under way. It reads or writes the slot at the top that it has read, or writes the slot above. So if the top is t
// after a barrier on all threads, the operation under way can only concern slots t and t + 1. A block that was
// exchanged out of a slot below t belongs to the thief alone, if the slot is still NULL after a second barrier:
//   - The owner could have popped that block only with a later store that moved the top below the slot. To move the top
//     back to t it must have pushed into the slot, and the slot would not be NULL.
//   - What the owner pushed before the exchange, the exchange took; what it pushed after the exchange is not NULL.
// A block from slots t and t + 1 is put back, unless the slot was filled meanwhile. Either the owner has the block
// already; then the slot lies above its top and has no meaning. Or the owner has read NULL and will read again under
// the lock. A block from a slot above t + 1 is the program's: the owner had popped it. The first barrier makes the
// stores before the owner's operation visible, the second barrier those before the store that made the top t.
#ifndef HAKMEM_HEAP_IDLE_CACHE_H_
#define HAKMEM_HEAP_IDLE_CACHE_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// Takes the blocks, except the latest one, out of each bin of `heap` that has not changed for `idle_ms` at `now`
// (milliseconds), and returns them to their slabs. Under the heap's lock, by another thread than the heap's own.
// Returns how many blocks it took.
uint32_t hak_idle_cache_steal(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role);

// Counts what hak_idle_cache_steal would take from the heap. Returns whether the idle caches of all heaps together, as
// counted last, hold enough to be worth the barrier, which a sandbox may forbid. Under the heap's lock.
bool hak_idle_cache_count_is_large(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role);
// Removes the heap's cache from the count: it was emptied, or its thread ends. Under the heap's lock.
void hak_idle_cache_uncount(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// Whether the class's bin has not changed since an earlier call of this function that was at least `idle_ms` ago. Under
// the heap's lock, by another thread than the heap's own.
bool hak_idle_cache_class_is_idle(struct hak_heap *heap, uint32_t class_id, uint64_t now, uint64_t idle_ms)
    HAK_REQUIRES(hak_heap_role);

// Whether the heap's thread has made no slow call for `idle_ms` at `now`, as far as earlier checks tell. Under the
// heap's lock.
bool hak_idle_cache_is_quiet(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role);

// Closes the bins of the heap, so that its thread's next free of each class takes the slow path, where the thread can
// be watched (api/watch.h). Under the heap's lock, by another thread than the heap's own.
void hak_idle_cache_trip(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// Closes the gaps that a thief left in the class's bin, and opens the bin. By the owner, under the heap's lock.
void hak_idle_cache_settle(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role);

// The same, if there is anything to do.
HAK_INLINE void hak_cache_settle(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  if (HAK_UNLIKELY(heap->classes[class_id].idle.touched)) hak_idle_cache_settle(heap, class_id);
}

// Blocks that thieves have taken so far; relaxed: a statistic.
extern HAK_ATOMIC(uint64_t) hak_stolen_blocks;

HAK_C_END

#endif  // HAKMEM_HEAP_IDLE_CACHE_H_
