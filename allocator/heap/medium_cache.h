// SPDX-License-Identifier: Apache-2.0
//
// The medium blocks (large/medium.h) that a thread has freed and not taken again: up to four of each size, and 1 MiB in
// all. The thread takes and gives without a lock. Others empty the cache of a thread that does not use it: whoever
// exchanges a slot with NULL has the block, so that no barrier is needed. Not in builds with guards.
#ifndef HAKMEM_HEAP_MEDIUM_CACHE_H_
#define HAKMEM_HEAP_MEDIUM_CACHE_H_

#include "allocator/heap/heap.h"
#include "allocator/large/medium.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

#define HAK_MEDIUM_SLOTS 4u

struct hak_medium_cache {
  // The owner puts a block where it finds NULL (release); whoever exchanges it with NULL has it (acquire).
  HAK_ATOMIC(void *) slots[HAK_MEDIUM_COUNT][HAK_MEDIUM_SLOTS];
  // How often the owner has given a block; others read, relaxed: a hint.
  HAK_ATOMIC(uint64_t) given;
  // The owner's alone: at least what the slots hold together, and for each class how many slots from the first on may
  // hold a block. Others may have emptied some.
  uint64_t bytes;
  uint8_t used[HAK_MEDIUM_COUNT];
  // Under the heap's lock: what others saw of `given`, and since when it has not changed.
  uint64_t seen_given;
  uint64_t seen_since_ms;
};

// A cached block that serves a request of `size` bytes, which is a medium one; NULL: there is none. By the thread.
void *hak_medium_take(struct hak_heap *heap, size_t size);
enum hak_medium_given {
  HAK_MEDIUM_REFUSED,       // it is no medium block, or must go to the page heap, and nothing was done
  HAK_MEDIUM_CACHED,        // it is in the cache
  HAK_MEDIUM_MOVED_OTHERS,  // it is too, and others went to the page heap
};
// Puts a live block into the cache. Ends the process when the block is in a cache already. By the thread.
enum hak_medium_given hak_medium_give(struct hak_heap *heap, void *block);

// Returns all blocks to the page heap. By the thread, or under the heap's lock, as all that follows. Returns how many.
uint32_t hak_medium_flush(struct hak_heap *heap);
// The same, if the thread has not given a block for `idle_ms`.
uint32_t hak_medium_flush_idle(struct hak_heap *heap, uint64_t now, uint64_t idle_ms);
// Returns all blocks and the record. By the thread, under the heap's lock, or when it is gone.
void hak_medium_destroy(struct hak_heap *heap);

// Adds up the blocks in the cache; a hint while the thread goes on.
void hak_medium_count(const struct hak_heap *heap, uint64_t *blocks, uint64_t *bytes);

HAK_C_END

#endif  // HAKMEM_HEAP_MEDIUM_CACHE_H_
