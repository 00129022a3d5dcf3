// SPDX-License-Identifier: Apache-2.0
//
// The records of heaps: new records, the records of closed heaps, which wait for the next thread, and how these return
// their memory. The latest few closed records stay warm, so that threads which come and go find one with memory. The
// others rest after a while: their memory is returned and they read as zero, which is a closed heap. A stale pointer to
// a resting record reads only that.
//
// Everything except hak_heap_records_rest and hak_heap_records_idle_bytes is called under the registry's lock
// (heap_life.c).
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

// The number of records that stay warm.
#define HAK_HEAP_RECORDS_WARM 16u

// Takes a record for a heap that is about to open; it is on no list. NULL: out of memory.
struct hak_heap *hak_heap_record_take(void) HAK_REQUIRES(hak_registry_lock);
// Keeps the record of a heap that was closed at `now` (milliseconds) and is on no list.
void hak_heap_record_keep(struct hak_heap *heap, uint64_t now) HAK_REQUIRES(hak_registry_lock);

// Bytes of the records that still have memory and do not stay warm. Relaxed: a hint.
uint64_t hak_heap_records_idle_bytes(void);
// Whether there are such records, and the kernel may be asked at `now` to take their memory. A hint, without the lock.
bool hak_heap_records_may_rest(uint64_t now);

// Returning memory takes three steps. The second step is outside the lock.
#define HAK_HEAP_RECORDS_SLICE 16u
struct hak_heap_rest {
  uint32_t count;  // 0: no slice is under way
  bool resting[HAK_HEAP_RECORDS_SLICE];
  struct hak_heap *records[HAK_HEAP_RECORDS_SLICE];
  const void *thread;
};
// Takes out records that were closed at or before `until`, the earliest first, and leaves at least `warm` of them.
// NULL: there are none, or a slice is under way.
struct hak_heap_rest *hak_heap_records_lend(uint64_t until, uint32_t warm) HAK_REQUIRES(hak_registry_lock);
void hak_heap_records_rest(struct hak_heap_rest *rest, uint64_t now);
// Puts them back. Returns the bytes that were returned.
size_t hak_heap_records_return(struct hak_heap_rest *rest, uint64_t now) HAK_REQUIRES(hak_registry_lock);
// In the child of a fork: the thread of a slice may not exist here.
void hak_heap_records_forked(void) HAK_REQUIRES(hak_registry_lock);

HAK_C_END

#endif  // HAKMEM_HEAP_HEAP_RECORDS_H_
