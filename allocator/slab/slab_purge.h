// SPDX-License-Identifier: Apache-2.0
//
// Purges pages without a block in use, in slabs that have blocks in use: the pages are returned to the system, and
// count as returned until blocks in them are used again (slab_purged.h).
#ifndef HAKMEM_SLAB_SLAB_PURGE_H_
#define HAKMEM_SLAB_SLAB_PURGE_H_

#include "allocator/os/base.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Returns the free pages of the slab to the system: those whose blocks are all uncarved or free in the bitmap. Returns
// at most *runs runs of pages, and lowers *runs by their number. Returns the bytes. Called by the owner.
size_t hak_slab_purge(struct hak_slab *slab, uint32_t *runs);
// Whether every page that counts as returned is free. False: an invariant is broken.
bool hak_slab_purge_holds(const struct hak_slab *slab);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_PURGE_H_
