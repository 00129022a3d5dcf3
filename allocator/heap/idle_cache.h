// SPDX-License-Identifier: Apache-2.0
//
// Emptying the thread cache of a thread that does nothing, by another one, without any cost to the fast paths.
//
// The owner works on a bin's top and slots with plain loads and stores; a stealer may not touch the top, and takes
// blocks by exchanging slots with NULL. NULL is what ends the owner's stack anyway: an owner that comes down to such a
// slot falls into its slow call, and there waits for the heap's lock, which the stealer holds. The fast paths have at
// most one operation under way, which reads or writes the slot at the top it has read, or writes the one above. So,
// when after a barrier on all threads the top is seen to be t, the operation under way can only concern slots t and t +
// 1; and a block that was exchanged out of a slot below t, where the slot is still NULL after a second barrier, is the
// stealer's alone:
//   - The owner can have popped that very block only with a later store that took the top below the slot. To be at t
//     again it must have pushed into the slot, and the slot would not be NULL.
//   - What the owner pushed before the exchange was there to be exchanged; what it pushed after it is not NULL.
// A block from slots t and t + 1 is put back, unless the slot was filled meanwhile: the owner either has it in hand,
// and then the slot lies above its top and means nothing, or has read NULL and will look again under the lock. A block
// from a slot above t + 1 is the program's: the owner had popped it. The first barrier makes the stores before the
// owner's operation visible, the second those before the store that made the top t.
#ifndef HAKMEM_HEAP_IDLE_CACHE_H_
#define HAKMEM_HEAP_IDLE_CACHE_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// Takes the blocks out of the bins of `heap` that have not changed for `idle_ms` at `now` (milliseconds), but for the
// latest one of each, and returns them to their slabs. Under the heap's lock, by another thread than the heap's own.
// Returns how many blocks it took.
uint32_t hak_idle_cache_steal(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role);

// Counts what hak_idle_cache_steal would find in the heap, and says whether the idle caches of all heaps together, as
// counted last, hold so much that it is worth the barrier, which a sandbox may not allow for. Under the heap's lock.
bool hak_idle_cache_much(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role);
// The heap's cache counts no more: it was emptied, or its thread ends. Under the heap's lock.
void hak_idle_cache_uncount(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// Whether the heap's thread has made no slow call for `idle_ms` at `now`, as far as earlier looks tell. Under the
// heap's lock.
bool hak_idle_cache_no_event(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role);

// Closes the bins of the heap, so that its thread's next free of each class takes the slow path, and the thread may be
// watched there (api/watch.h). Under the heap's lock, by another thread than the heap's own.
void hak_idle_cache_trip(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// Closes the gaps that a stealer left in the class's bin, and opens it. By the owner, under the heap's lock.
void hak_idle_cache_settle(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role);

// The same where there is anything to do.
HAK_INLINE void hak_cache_settle(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  if (HAK_UNLIKELY(heap->classes[class_id].idle.touched)) hak_idle_cache_settle(heap, class_id);
}

// Blocks that stealers took so far; relaxed: a statistic.
extern HAK_ATOMIC(uint64_t) hak_stolen_blocks;

HAK_C_END

#endif  // HAKMEM_HEAP_IDLE_CACHE_H_
