// SPDX-License-Identifier: Apache-2.0
//
// The cache of medium blocks (large/medium.h) that a thread has freed: 32 blocks of each of the smallest sizes, eight
// of the largest, and 4 MiB in all, less if many threads have such caches. The thread takes and gives without a lock.
// Other threads empty the cache of a thread that does not use it. The thread that exchanges a slot with NULL has the
// block, so no barrier is needed. Not in builds with guards.
#ifndef HAKMEM_HEAP_MEDIUM_CACHE_H_
#define HAKMEM_HEAP_MEDIUM_CACHE_H_

#include "allocator/heap/heap.h"
#include "allocator/large/medium.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// For each doubling of the size: how many blocks of a class the cache holds at most.
static const uint8_t hak_medium_slots_in[] = {32, 32, 16, 8, 8, 8};
#define HAK_MEDIUM_ALL_SLOTS 776u

HAK_INLINE uint32_t hak_medium_slots(uint32_t class_id) {
  return hak_medium_slots_in[class_id >> HAK_MEDIUM_STEPS_SHIFT];
}

// The cached blocks of one class.
struct hak_medium_bin {
  // Constant. The owner puts a block into a slot that is NULL (release). The thread that exchanges the slot with NULL
  // has the block (acquire).
  HAK_ATOMIC(void *) * slots;
  uint32_t bytes;  // of a block. Constant
  uint16_t room;   // the number of slots. Constant
  // The owner's alone: how many of the first slots may hold a block, as other threads may have emptied some.
  uint16_t used;
};
static_assert(sizeof(struct hak_medium_bin) == 16, "the fast path shifts the class");

struct hak_medium_cache {
  // The owner's alone: the sum of the bytes of all slots that are in use.
  uint64_t bytes;
  // How often the owner has given a block; other threads read it, relaxed: a hint.
  HAK_ATOMIC(uint64_t) given;
  struct hak_medium_bin bins[HAK_MEDIUM_COUNT];
  // The owner's alone: the class that is emptied next when the bound requires it.
  uint32_t next_emptied;
  // Under the heap's lock: what other threads saw of `given`, and since when it has not changed.
  uint64_t seen_given;
  uint64_t seen_since_ms;
  HAK_ATOMIC(void *) slots[HAK_MEDIUM_ALL_SLOTS];
};

// Takes a cached block for a request of `size` bytes, which is a medium one; NULL: there is none. Called by the thread.
void *hak_medium_take(struct hak_heap *heap, size_t size);
enum hak_medium_given {
  HAK_MEDIUM_REFUSED,       // not a medium block, or it must go to the page heap; nothing was done
  HAK_MEDIUM_CACHED,        // it is in the cache
  HAK_MEDIUM_MOVED_OTHERS,  // it is in the cache, and other blocks went to the page heap
};
// Puts a live block into the cache. Ends the process when the block is in a cache already. Called by the thread.
enum hak_medium_given hak_medium_give(struct hak_heap *heap, void *block);

// Returns all blocks to the page heap; returns how many. Called by the thread, or under the heap's lock, as all
// functions below.
uint32_t hak_medium_flush(struct hak_heap *heap);
// The same, if the thread has not given a block for `idle_ms`.
uint32_t hak_medium_flush_idle(struct hak_heap *heap, uint64_t now, uint64_t idle_ms);
// Frees the record, which must be empty, of a heap that is closed and that hak_heap_for_each does not find any more.
// Under the registry's lock, which a thread that counts holds.
void hak_medium_destroy(struct hak_heap *heap) HAK_REQUIRES(hak_registry_lock);

// Call it when HAKMEM_TOTAL_THREAD_CACHE_KB has changed: the next block of each cache obeys it. Thread-safe.
void hak_medium_obey_setting(void);

// Adds to counts[i] how many blocks of the medium class i are in the cache. A hint while the thread runs. Called by the
// thread, or under the registry's lock.
void hak_medium_count(const struct hak_heap *heap, uint64_t counts[HAK_MEDIUM_COUNT]);

HAK_C_END

#endif  // HAKMEM_HEAP_MEDIUM_CACHE_H_
