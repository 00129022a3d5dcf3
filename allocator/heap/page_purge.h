// SPDX-License-Identifier: Apache-2.0
//
// Giving back the free pages of slabs that are partly in use: what a program that freed most of a large heap, but not
// all of any slab, would keep otherwise. Only slabs that did not change until the release policy's deadline, in bounded
// slices, and only where a heap has much free memory in such slabs.
#ifndef HAKMEM_HEAP_PAGE_PURGE_H_
#define HAKMEM_HEAP_PAGE_PURGE_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// A slice of the work at `now` (milliseconds). Under the heap's lock, by any thread. True: it gave something back.
bool hak_page_purge(struct hak_heap *heap, uint64_t now) HAK_REQUIRES(hak_heap_role);

// A pass over all of it in slices, whatever the slabs' age: false when there is nothing to do, or no more; *bytes grows
// by what went back. Each under the heap's lock, which others may have in between; a slice of theirs may take part of
// the pass over, and leaves what changed lately.
bool hak_page_purge_begin(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
bool hak_page_purge_on(struct hak_heap *heap, size_t *bytes) HAK_REQUIRES(hak_heap_role);

// The pass at once, or as much of it as can be done before somebody waits for the heap's lock: then its thread is busy
// and looks after the rest. Under that lock. Returns the bytes.
size_t hak_page_purge_all(struct hak_heap *heap) HAK_REQUIRES(heap->lock, hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_PAGE_PURGE_H_
