// SPDX-License-Identifier: Apache-2.0
//
// Returns blocks that leave a cache, or that a thread without a cache frees, to their slabs: to slabs of the heap at
// once, to slabs of other heaps in one chain for each slab.
#ifndef HAKMEM_HEAP_GIVE_BACK_H_
#define HAKMEM_HEAP_GIVE_BACK_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Returns blocks of one class to their slabs: this heap's at once, other heaps' in one batch for each slab. `heap` is a
// heap whose lock the calling thread holds, or NULL.
void hak_give_back(struct hak_heap *heap, void **blocks, uint32_t count) HAK_REQUIRES(hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_GIVE_BACK_H_
