// SPDX-License-Identifier: Apache-2.0
//
// The life of heaps: a thread opens one, ends, and leaves its slabs to the orphanage; the registry of all heaps, visits
// to other threads' heaps, totals, and fork. Thread-safe, and called without a lock.
#ifndef HAKMEM_HEAP_HEAP_LIFE_H_
#define HAKMEM_HEAP_HEAP_LIFE_H_

#include "allocator/heap/heap.h"
#include "allocator/large/medium.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Opens a heap for the calling thread: a new one, or one of an ended thread. NULL: out of memory.
struct hak_heap *hak_heap_open(void);
// Ends the calling thread's heap: flushes the caches, returns empty slabs, and gives the others to the orphanage.
void hak_heap_close(struct hak_heap *heap);

// The blocks of one size class that are neither live nor in their slabs.
struct hak_class_cached {
  uint64_t cached_blocks;  // in caches and in quarantine
  uint64_t rest_blocks;    // on chains that are detached from their slabs and not put back yet
};

struct hak_heap_totals {
  uint32_t threads;
  // The sums over all classes.
  uint64_t cached_blocks;
  uint64_t cached_bytes;
  uint64_t cached_large_blocks;  // medium blocks
  uint64_t cached_large_bytes;
  uint64_t held_blocks;   // in quarantine
  uint64_t canary_bytes;  // behind live blocks
  uint64_t free_bytes;    // of free blocks in the heaps' slabs
  uint64_t rest_blocks;
  uint64_t rest_bytes;
  uint64_t refills;
  uint64_t flushes;
  uint64_t remote_batches;
  uint64_t adopted;
  struct hak_class_cached classes[HAK_CLASS_IDS];
  uint64_t cached_medium[HAK_MEDIUM_COUNT];  // cached large blocks by medium class
};
struct hak_heap_totals hak_heap_totals(void);

// Calls reclaim(heap, context) under the heap's lock for one heap that has a thread, a different one each time. False:
// there is none. A heap whose lock is held is skipped, because its thread may be in a long call. A heap whose thread
// ended without closing it is closed instead. Takes the registry's lock, but does not hold it during the call.
bool hak_heap_visit_next(void (*reclaim)(struct hak_heap *heap, void *context), void *context);
// How many heaps hak_heap_visit_next would visit in one round. A hint: not read under the lock.
uint32_t hak_heap_threads(void);
// Closes every heap whose thread has ended without closing it.
void hak_heap_close_left(void);

// Returns the memory of some records that have been without a thread for long enough at `now` (milliseconds). False:
// there are none. No lock is held, as for the next function.
bool hak_heap_tick_records(uint64_t now);
// Returns the memory of all records without a thread. Returns the bytes.
size_t hak_heap_trim_records(void);

// Calls visit(heap, context) for each heap with a thread, or whose thread ended without closing it.
void hak_heap_for_each(void (*visit)(const struct hak_heap *heap, void *context), void *context)
    HAK_REQUIRES(hak_registry_lock);

// Around fork. No other thread is in a slow call meanwhile, and idle heaps are not written to. The child keeps the
// calling thread's heap (NULL: it has none) and does not touch the others.
void hak_heap_lock_all(void) HAK_ACQUIRE(hak_registry_lock, hak_late_lock, hak_orphanage_lock);
void hak_heap_unlock_all(void) HAK_RELEASE(hak_registry_lock, hak_late_lock, hak_orphanage_lock);
void hak_heap_abandon_others(struct hak_heap *mine) HAK_REQUIRES(hak_registry_lock);
// Closes one of the heaps that a fork left behind, whose threads do not exist in this process, so that its free memory
// is used again. Each costs copies of the pages that its records are on. False: there is none.
bool hak_heap_close_abandoned(void);

HAK_C_END

#endif  // HAKMEM_HEAP_HEAP_LIFE_H_
