// SPDX-License-Identifier: Apache-2.0
//
// The heap of a thread: its caches and the slabs it owns. And the orphanage, the heap without a thread: it holds the
// slabs of ended threads, and slabs with room of idle ones, until other threads adopt them. It also serves threads that
// are past their own end.
//
// Access: only its own thread touches a heap, except the fields marked otherwise. Only the holder of the orphanage's
// lock touches the orphanage. Heap records are never unmapped and never used for anything else, so a stale pointer to
// one is harmless: other threads read only `pending` of a closed heap. A record without a thread may return its memory
// (heap_records.h). It then reads as zero, and zero is a closed heap.
#ifndef HAKMEM_HEAP_HEAP_H_
#define HAKMEM_HEAP_HEAP_H_

#include "allocator/heap/bin.h"
#include "allocator/heap/heap_lock.h"
#include "allocator/heap/heap_records_state.h"
#include "allocator/heap/idle_cache_state.h"
#include "allocator/heap/page_purge_state.h"
#include "allocator/heap/remote_state.h"
#include "allocator/heap/sample_state.h"
#include "allocator/heap/thread_cache_state.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/fork_gate.h"
#include "allocator/os/lock.h"
#include "allocator/os/thread_mark.h"
#include "allocator/policy/watch_policy.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// ---- Heap ---------------------------------------------------------------------------------------

struct hak_quarantine;
struct hak_medium_cache;

struct hak_class_heap {
  struct hak_slab *lists[HAK_LIST_COUNT] HAK_GUARDED_BY(hak_heap_role);  // heads, by enum hak_slab_list
  // Slabs on the lists before HAK_LIST_FULL. Written by the owner of the heap. All threads read it in the orphanage, to
  // decide whether adopting is worth the lock (relaxed: a hint).
  HAK_ATOMIC(uint32_t) with_room;
  // Free blocks in the slabs on the lists, modulo 2^32. As with_room: the hints of move_hint.h read it.
  HAK_ATOMIC(uint32_t) free_blocks;
  struct hak_bin_upkeep upkeep;
  struct hak_bin_idle idle;
};

// Relaxed, both: under the heap's lock they are exact, elsewhere hints.
HAK_INLINE uint32_t hak_class_with_room(const struct hak_class_heap *class_heap) {
  return atomic_load_explicit(&class_heap->with_room, memory_order_relaxed);
}
HAK_INLINE uint32_t hak_class_free_blocks(const struct hak_class_heap *class_heap) {
  return atomic_load_explicit(&class_heap->free_blocks, memory_order_relaxed);
}

// Written by the owner, read by statistics; relaxed.
struct hak_heap_counts {
  HAK_ATOMIC(uint64_t) held_blocks;  // in the quarantine
  // Of these, by class. Only HARDENED has a quarantine outside tests.
  HAK_ATOMIC(uint64_t) held_of[HAK_HARDENED ? HAK_CLASS_IDS : 1];
  HAK_ATOMIC(uint64_t) refills;
  HAK_ATOMIC(uint64_t) flushes;
  HAK_ATOMIC(uint64_t) remote_batches;
  // Bytes of the canaries behind blocks that this thread allocated, minus those behind blocks that it freed. Only the
  // sum over all heaps is meaningful, so the value stays when the heap changes threads. Relaxed.
  HAK_ATOMIC(uint64_t) canary_bytes;
};

// Everything except the tops and slots of the cache is under `lock`. The owner takes it for each slow call; other
// threads take it to reclaim the memory of an idle thread. The box that declares a part explains its fields.
struct hak_heap {
  struct hak_cache cache;  // bin.h
  struct hak_lock lock;
  bool open HAK_GUARDED_BY(hak_heap_role);        // from hak_heap_open to hak_heap_close
  bool took_fresh HAK_GUARDED_BY(hak_heap_role);  // the last hak_heap_take gave blocks from fresh memory
  // Fresh memory was mapped for the heap since its thread's last step of the reclaim work. Used by the thread alone,
  // also without the lock.
  bool grew;
  struct hak_watch_clock watch;  // policy/watch_policy.h; only the owner's, without the lock
  struct hak_class_heap classes[HAK_CLASS_IDS];
  uint64_t slabs HAK_GUARDED_BY(hak_heap_role);  // on the lists of all classes
  HAK_ATOMIC(uint64_t) free_bytes;               // of free blocks in the heap's slabs; statistics read, relaxed
  uint64_t reported_bytes HAK_GUARDED_BY(hak_heap_role);  // of these: already in hak_heaps_free_bytes
  struct hak_cache_upkeep upkeep;                         // thread_cache_state.h
  struct hak_cache_idle idle;                             // idle_cache_state.h
  struct hak_purge_cursor purge;                          // page_purge_state.h
  struct hak_drain_state drain;                           // remote_state.h
  struct hak_quarantine *quarantine;  // set under the heap's lock, by the owner thread; NULL: it has none
  // As `quarantine`. Statistics read it under the registry's lock alone (release and acquire), so the record is freed
  // under that lock too.
  HAK_ATOMIC(struct hak_medium_cache *) medium;
  struct hak_heap_counts counts;
  struct hak_heap_place place;  // heap_records_state.h; under the registry's lock
  // Says that the thread has ended without closing its heap. Set by the thread, outside all locks.
  struct hak_thread_mark mark;
  struct hak_sample_state sample;  // sample_state.h; only the owner's, without the lock
  // Slabs with new remote frees, linked by pending_next up to HAK_PENDING_END. Any thread pushes (release); the owner
  // takes the whole list (acquire). HAK_PENDING_CLOSED: no thread has this heap.
  HAK_ALIGNAS(HAK_CACHE_LINE) HAK_ATOMIC(struct hak_slab *) pending;
};
#define HAK_PENDING_CLOSED ((struct hak_slab *)(uintptr_t)0)
#define HAK_PENDING_END ((struct hak_slab *)(uintptr_t)1)
// The slab at the list's head, or after another slab; NULL: the end.
HAK_INLINE struct hak_slab *hak_pending_slab(struct hak_slab *link) { return link == HAK_PENDING_END ? NULL : link; }

// Counts one event of the owner. Does nothing in FAST. Relaxed, and no read-modify-write: only the owner writes,
// statistics read.
HAK_INLINE void hak_heap_count(HAK_ATOMIC(uint64_t) * counter) {
  if (!HAK_FAST) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
  }
}

// The heap whose cache this is.
HAK_INLINE struct hak_heap *hak_heap_of_cache(struct hak_cache *cache) { return (struct hak_heap *)(void *)cache; }
static_assert(offsetof(struct hak_heap, cache) == 0, "a thread's cache pointer is its heap pointer");

// The approximate number of free bytes in slabs of all heaps: each heap reports from time to time. Relaxed: a hint.
extern HAK_ATOMIC(uint64_t) hak_heaps_free_bytes;
// Free bytes in the heap's slabs. Relaxed: one thread at a time writes, under the heap's lock.
HAK_INLINE uint64_t hak_heap_free_bytes(const struct hak_heap *heap) {
  return atomic_load_explicit(&heap->free_bytes, memory_order_relaxed);
}
// Brings hak_heaps_free_bytes up to date for this heap. Under the heap's lock.
void hak_heap_report(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// The orphanage. Its cache and its pending list stay unused.
extern struct hak_heap hak_orphanage;
// Slabs adopted so far; relaxed: a statistic.
extern HAK_ATOMIC(uint64_t) hak_adopted_slabs;

// Blocks of this stride or more are carved one at a time. Then every block in a cache was used before, and a block that
// was just carved is known to be zero without being read or written.
#define HAK_CARVE_SINGLY 4096u

HAK_INLINE void hak_late_enter(void) HAK_ACQUIRE(hak_late_lock, hak_heap_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role comes with the lock") {
  hak_lock_acquire(&hak_late_lock);
}
HAK_INLINE void hak_late_leave(void) HAK_RELEASE(hak_late_lock, hak_heap_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role goes with the lock") {
  hak_lock_release(&hak_late_lock);
}

// The functions below are called under the heap's lock, or the orphanage's lock for hak_orphanage, unless they say
// otherwise.
HAK_INLINE void hak_heap_enter(struct hak_heap *heap) HAK_ACQUIRE(heap->lock, hak_heap_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role comes with the lock") {
  hak_gated_acquire(&heap->lock);
}
// False: another thread holds the lock. This does not wait for it.
HAK_INLINE bool hak_heap_try_enter(struct hak_heap *heap) HAK_TRY_ACQUIRE(true, heap->lock, hak_heap_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role comes with the lock") {
  return hak_gated_try(&heap->lock);
}
HAK_INLINE void hak_heap_leave(struct hak_heap *heap) HAK_RELEASE(heap->lock, hak_heap_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role goes with the lock") {
  hak_lock_release(&heap->lock);
}
// For a thread that holds no heap's lock. A thread in its own heap takes only the lock of the orphanage.
HAK_INLINE void hak_orphanage_enter(void) HAK_ACQUIRE(hak_orphanage_lock, hak_heap_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role comes with the lock") {
  hak_lock_acquire(&hak_orphanage_lock);
}
HAK_INLINE void hak_orphanage_leave(void) HAK_RELEASE(hak_orphanage_lock, hak_heap_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role goes with the lock") {
  hak_lock_release(&hak_orphanage_lock);
}

// Takes up to `want` blocks of the class into out[]: from slabs that have free ones, the fullest first; then from fresh
// memory. `fresh` (may be NULL): set when out[0] is the only block, was never used before and is zero. Returns how
// many; 0: out of memory.
uint32_t hak_heap_take(struct hak_heap *heap, uint32_t class_id, void **out, uint32_t want, bool *fresh)
    HAK_REQUIRES(hak_heap_role);

// The same without mapping memory: 0 when that would be needed.
uint32_t hak_heap_take_mapped(struct hak_heap *heap, uint32_t class_id, void **out, uint32_t want, bool *fresh)
    HAK_REQUIRES(hak_heap_role);
// The same from the bitmaps of slabs that are carved to the end: all of these blocks were used before.
uint32_t hak_heap_take_recycled(struct hak_heap *heap, uint32_t class_id, void **out, uint32_t want)
    HAK_REQUIRES(hak_heap_role);
// Whether the class has free blocks in its slabs that were used before.
bool hak_heap_has_recycled(const struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role);

// Puts one block back into its slab, which `heap` owns. A slab that becomes empty may be returned to the pool. Ends the
// process when the block is not carved or is already free.
void hak_heap_put(struct hak_heap *heap, struct hak_slab *slab, void *block) HAK_REQUIRES(hak_heap_role);

// Returns the wholly free slabs that the heap keeps to the pool.
void hak_heap_release_empty(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// Puts a slab on the list that its counts name, or takes it off. For the orphanage and for adoption.
void hak_heap_link(struct hak_heap *heap, struct hak_slab *slab) HAK_REQUIRES(hak_heap_role);
void hak_heap_unlink(struct hak_heap *heap, struct hak_slab *slab) HAK_REQUIRES(hak_heap_role);

// Checks the slabs of one heap. NULL: they are correct; otherwise what is wrong. The caller holds the lock as for
// hak_heap_take.
const char *hak_heap_check(const struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_HEAP_H_
