// SPDX-License-Identifier: Apache-2.0
//
// The page purge: returns the free pages of slabs that are partly in use. Without it, a program that freed most of a
// large heap, but not all of any slab, would keep that memory. It purges only slabs that have not changed for the
// release policy's deadline, in bounded slices, and only if a heap has much free memory in such slabs.
#ifndef HAKMEM_HEAP_PAGE_PURGE_H_
#define HAKMEM_HEAP_PAGE_PURGE_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// Does one slice of the work at `now` (milliseconds). Under the heap's lock, by any thread. True: it returned some
// memory.
bool hak_page_purge(struct hak_heap *heap, uint64_t now) HAK_REQUIRES(hak_heap_role);

// A pass over all slabs in slices, whatever their age. False: there is nothing to do, or nothing more. *bytes grows by
// the returned bytes. Each call is under the heap's lock, which other threads may take in between. A slice of another
// thread may take over a part of the pass, and leaves out slabs that changed lately.
bool hak_page_purge_begin(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
bool hak_page_purge_step(struct hak_heap *heap, size_t *bytes) HAK_REQUIRES(hak_heap_role);

// Does the whole pass, or as much of it as is possible until a thread waits for the heap's lock: then the heap's thread
// is busy and does the rest. Under that lock. Returns the bytes.
size_t hak_page_purge_all(struct hak_heap *heap) HAK_REQUIRES(heap->lock, hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_PAGE_PURGE_H_
