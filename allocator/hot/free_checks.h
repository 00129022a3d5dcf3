// SPDX-License-Identifier: Apache-2.0
//
// The checks of a free before the block goes into its bin. The profile selects them at compile time. The comparison
// with the two latest frees is in heap/bin.h.
#ifndef HAKMEM_HOT_FREE_CHECKS_H_
#define HAKMEM_HOT_FREE_CHECKS_H_

#include "allocator/block/block_check.h"
#include "allocator/heap/bin.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/quarantine.h"
#include "allocator/os/base.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Whether a block of the bin's class can begin at `block`. FAST checks this when the bin is flushed.
HAK_INLINE bool hak_free_is_start(const void *block, const struct hak_bin *bin) {
  return HAK_FAST || hak_slab_is_block_start_by(block, bin->reciprocal, bin->negated);
}

// Whether a freed block is checked, or exchanged for another one: in builds with headers, and in HARDENED.
#define HAK_FREE_IS_HOOKED (HAK_BLOCK_CHECKS || HAK_HARDENED)

// Checks the block, and puts it into the quarantine if the heap has one. Returns the block that goes into the bin;
// NULL: there is none.
HAK_INLINE void *hak_free_take_in(struct hak_heap *heap, void *block, uint32_t class_id) {
  hak_block_take_in(block, class_id);
  return HAK_HARDENED && heap->quarantine != NULL ? hak_quarantine_swap(heap, class_id, block) : block;
}

HAK_C_END

#endif  // HAKMEM_HOT_FREE_CHECKS_H_
