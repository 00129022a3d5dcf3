// SPDX-License-Identifier: Apache-2.0
//
// What heap_records.c keeps in a heap: its place among the others.
#ifndef HAKMEM_HEAP_HEAP_RECORDS_STATE_H_
#define HAKMEM_HEAP_HEAP_RECORDS_STATE_H_

#include "allocator/heap/heap_lock.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

struct hak_heap;

struct hak_heap_place {
  // On the list that the heap is on: of heaps with a thread, of heaps that a fork left behind, or of records without a
  // thread.
  struct hak_heap *next HAK_GUARDED_BY(hak_registry_lock);
  struct hak_heap *prev HAK_GUARDED_BY(hak_registry_lock);
  uint64_t closed_ms HAK_GUARDED_BY(hak_registry_lock);  // when it lost its thread
};

HAK_C_END

#endif  // HAKMEM_HEAP_HEAP_RECORDS_STATE_H_
