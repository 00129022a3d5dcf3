// SPDX-License-Identifier: Apache-2.0
//
// Which blocks of a slab are live: those that were carved, and are neither free in the slab, nor on the way back to it,
// nor in a thread's cache or quarantine. Slabs do not know the latter, so all heaps are asked, while their locks are
// kept free as in a fork. No thread then moves blocks between caches and slabs.
#ifndef HAKMEM_HEAP_LIVE_BLOCKS_H_
#define HAKMEM_HEAP_LIVE_BLOCKS_H_

#include "allocator/os/base.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

struct hak_live_blocks {
  uint64_t live[HAK_SLAB_BLOCKS_MAX / 64];  // bit i: block i is live
  char *end;                                // of the slab's blocks
  uint32_t class_id;
  uint32_t capacity;
  // In builds with guards, the requested size of each live block. A small size fits.
  uint16_t sizes[HAK_GUARDED ? HAK_SLAB_BLOCKS_MAX : 1];
};

// Finds the live blocks of the slab at `address`, a multiple of HAK_SLAB_SIZE. Other threads' slow calls wait
// meanwhile; what their fast paths do at the same time may be seen or not. False: no slab is in use there. Takes locks;
// hold none.
bool hak_live_blocks_find(const void *address, struct hak_live_blocks *out);

// The address and the usable size of a block.
HAK_INLINE void *hak_live_block(const struct hak_live_blocks *blocks, uint32_t index) {
  return blocks->end - (size_t)(index + 1) * hak_class_stride(blocks->class_id);
}
HAK_INLINE size_t hak_live_usable(const struct hak_live_blocks *blocks, uint32_t index) {
  return HAK_GUARDED ? blocks->sizes[index] : hak_class_usable(blocks->class_id);
}

HAK_C_END

#endif  // HAKMEM_HEAP_LIVE_BLOCKS_H_
