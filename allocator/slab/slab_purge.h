// SPDX-License-Identifier: Apache-2.0
//
// Purges pages without a block in use, in slabs that have blocks in use: the pages are returned to the kernel, and
// count as returned until blocks in them are used again.
#ifndef HAKMEM_SLAB_SLAB_PURGE_H_
#define HAKMEM_SLAB_SLAB_PURGE_H_

#include "allocator/os/base.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Returns the free pages of the slab to the kernel: those whose blocks are all uncarved or free in the bitmap. Returns
// at most *runs runs of pages, and lowers *runs by their number. Returns the bytes. Called by the owner. Not in builds
// with headers, because free blocks have headers too.
size_t hak_slab_purge(struct hak_slab *slab, uint32_t *runs);
// Whether every page that counts as returned is free. False: an invariant is broken.
bool hak_slab_purge_holds(const struct hak_slab *slab);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_PURGE_H_
