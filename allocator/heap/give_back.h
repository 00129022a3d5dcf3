// SPDX-License-Identifier: Apache-2.0
//
// Blocks that leave a cache, or that a thread without one frees, on their way to their slabs: to those of the heap at
// once, to those of other heaps in one chain for each slab.
#ifndef HAKMEM_HEAP_GIVE_BACK_H_
#define HAKMEM_HEAP_GIVE_BACK_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Gives blocks of one class back to their slabs: this heap's at once, other heaps' in one batch for each slab. `heap`
// is one whose lock the calling thread holds, or NULL.
void hak_give_back(struct hak_heap *heap, void **blocks, uint32_t count) HAK_REQUIRES(hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_GIVE_BACK_H_
