// SPDX-License-Identifier: Apache-2.0
//
// The records of heaps: new ones, those of closed heaps, which wait for the next thread, and how these give their
// memory back. The latest few that were closed keep it, so that threads which come and go find a record that is warm.
// Others rest, after a while: their memory is gone and they read as zero, which is a closed heap. Whoever still has a
// pointer to one of those finds no more than that.
//
// All of it is called under the registry's lock (heap_life.c), but for hak_heap_records_rest and
// hak_heap_records_idle_bytes.
#ifndef HAKMEM_HEAP_HEAP_RECORDS_H_
#define HAKMEM_HEAP_HEAP_RECORDS_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// ---- Lists of heaps -----------------------------------------------------------------------------

struct hak_heap_list {
  struct hak_heap *first;
  struct hak_heap *last;
};

HAK_INLINE void hak_heap_list_add(struct hak_heap_list *list, struct hak_heap *heap) HAK_REQUIRES(hak_registry_lock) {
  heap->place.prev = NULL;
  heap->place.next = list->first;
  if (heap->place.next != NULL) {
    heap->place.next->place.prev = heap;
  } else {
    list->last = heap;
  }
  list->first = heap;
}

HAK_INLINE void hak_heap_list_remove(struct hak_heap_list *list, struct hak_heap *heap)
    HAK_REQUIRES(hak_registry_lock) {
  if (heap->place.next != NULL) {
    heap->place.next->place.prev = heap->place.prev;
  } else {
    list->last = heap->place.prev;
  }
  if (heap->place.prev != NULL) {
    heap->place.prev->place.next = heap->place.next;
  } else {
    list->first = heap->place.next;
  }
}

// ---- Records ------------------------------------------------------------------------------------

// Records that stay warm.
#define HAK_HEAP_RECORDS_WARM 16u

// A record for a heap that is about to open, on no list; NULL: out of memory.
struct hak_heap *hak_heap_record_take(void) HAK_REQUIRES(hak_registry_lock);
// The record of a heap that was closed at `now` (milliseconds), on no list.
void hak_heap_record_keep(struct hak_heap *heap, uint64_t now) HAK_REQUIRES(hak_registry_lock);

// Bytes of warm records beyond those that stay warm. Relaxed: a hint.
uint64_t hak_heap_records_idle_bytes(void);
// Whether there are such records, and the kernel may be asked at `now` to take their memory. A hint, no lock.
bool hak_heap_records_may_rest(uint64_t now);

// Giving memory back takes three steps, of which the second is outside the lock.
#define HAK_HEAP_RECORDS_SLICE 16u
struct hak_heap_rest {
  uint32_t count;  // 0: nothing is under way
  bool resting[HAK_HEAP_RECORDS_SLICE];
  struct hak_heap *records[HAK_HEAP_RECORDS_SLICE];
  const void *thread;
};
// Takes records that were closed at or before `until` out, the earliest first, and leaves `warm` others in; NULL: none,
// or a slice is under way.
struct hak_heap_rest *hak_heap_records_lend(uint64_t until, uint32_t warm) HAK_REQUIRES(hak_registry_lock);
void hak_heap_records_rest(struct hak_heap_rest *rest, uint64_t now);
// Puts them in again. Returns the bytes that went back.
size_t hak_heap_records_return(struct hak_heap_rest *rest, uint64_t now) HAK_REQUIRES(hak_registry_lock);
// In the child of a fork: the thread that was at it may be gone.
void hak_heap_records_forked(void) HAK_REQUIRES(hak_registry_lock);

HAK_C_END

#endif  // HAKMEM_HEAP_HEAP_RECORDS_H_
