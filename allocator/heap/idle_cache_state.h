// SPDX-License-Identifier: Apache-2.0
//
// What idle_cache.c keeps in a heap: what other threads saw of its cache and did to it.
#ifndef HAKMEM_HEAP_IDLE_CACHE_STATE_H_
#define HAKMEM_HEAP_IDLE_CACHE_STATE_H_

#include "allocator/heap/heap_lock.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

// No thread is so late with the time that it has read.
#define HAK_IDLE_SKEW_MS 1000000u

// Whether the count has not changed since *since_ms, which is at least `idle_ms` ago. If it has changed, notes the new
// count and the time.
HAK_INLINE bool hak_idle_since(uint64_t *seen, uint64_t *since_ms, uint64_t count, uint64_t now, uint64_t idle_ms) {
  if (*seen != count) {
    *seen = count;
    *since_ms = now;
  }
  return now >= *since_ms && now - *since_ms >= idle_ms;
}

// The same in 32 bits.
HAK_INLINE bool hak_idle_since_32(uint32_t *seen, uint32_t *since_ms, uint32_t count, uint64_t now, uint64_t idle_ms) {
  if (*seen != count) {
    *seen = count;
    *since_ms = (uint32_t)now;
  }
  const uint32_t still_ms = (uint32_t)now - *since_ms;
  return still_ms >= idle_ms && still_ms < UINT32_MAX - HAK_IDLE_SKEW_MS;
}

// For each class.
struct hak_bin_idle {
  // Set when another thread emptied slots of the bin or closed it; cleared by hak_cache_settle.
  bool touched HAK_GUARDED_BY(hak_heap_role);
  // Slots of the bin that another thread emptied and that are still NULL. Written under the heap's lock; statistics
  // read, relaxed.
  HAK_ATOMIC(uint32_t) stolen;
  // The bin's limit while another thread has closed the bin, so that the owner's next free takes the slow path; NULL
  // otherwise.
  void **full_limit HAK_GUARDED_BY(hak_heap_role);
  // What other threads saw of the bin's top and of the free blocks in the class's slabs (idle_slabs.c), and since when
  // each has not changed. Low bits of an address and of times in milliseconds: a heap's record has some hundred
  // classes'.
  uint32_t seen_top HAK_GUARDED_BY(hak_heap_role);
  uint32_t seen_top_ms HAK_GUARDED_BY(hak_heap_role);
  uint32_t seen_free HAK_GUARDED_BY(hak_heap_role);
  uint32_t seen_free_ms HAK_GUARDED_BY(hak_heap_role);
};

// For all classes.
struct hak_cache_idle {
  uint64_t bytes HAK_GUARDED_BY(hak_heap_role);  // in the cache, as other threads counted them last
  // What other threads saw of the slow calls, and since when there have been no more.
  uint64_t seen_calls HAK_GUARDED_BY(hak_heap_role);
  uint64_t seen_calls_ms HAK_GUARDED_BY(hak_heap_role);
  // When the thread opened the heap, or had last made as many slow calls as one step of decay takes.
  uint64_t ticked_ms HAK_GUARDED_BY(hak_heap_role);
};

HAK_C_END

#endif  // HAKMEM_HEAP_IDLE_CACHE_STATE_H_
