// SPDX-License-Identifier: Apache-2.0
//
// Pages without a block in use, of slabs that have others: they go back to the kernel, and count as given back until
// the slab's blocks there are used again.
#ifndef HAKMEM_SLAB_SLAB_PURGE_H_
#define HAKMEM_SLAB_SLAB_PURGE_H_

#include "allocator/os/base.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Gives the free pages of the slab back: those in which no block is carved, or only blocks that lie free in the bitmap.
// At most *runs runs of pages, which it lowers; returns the bytes. The owner's, and not with headers, which stand in
// free blocks too.
size_t hak_slab_purge(struct hak_slab *slab, uint32_t *runs);
// Whether every page that counts as given back is free, as it must be.
bool hak_slab_purge_holds(const struct hak_slab *slab);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_PURGE_H_
