// SPDX-License-Identifier: Apache-2.0
//
// Where a superslab's records are: its own and the descriptors of its slabs. In most profiles in its head, in front of
// the first block. In HARDENED apart from all blocks, among the allocator's other records (meta/meta.h), so that
// neither an overflow nor an address computed from a block's leads to them: a table, one pointer for each 2 MiB of
// addresses, names them, and the head is empty and closed. Where the table cannot be had (a limited address space, no
// memory) they are in the head in HARDENED too, behind a guard page (slab_guard.h).
#ifndef HAKMEM_SLAB_SUPERSLAB_RECORDS_H_
#define HAKMEM_SLAB_SUPERSLAB_RECORDS_H_

#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Once, before the first superslab and after hak_slab_map_init: whether there is a table follows from the map's form.
void hak_superslab_records_init(void);
// Whether there is a table.
bool hak_superslab_records_apart(void);

// The records of the superslab whose memory, all zero, begins at `memory`: zero, but that the slabs have their numbers
// and `memory` is set when they are apart. Under the pool's lock, as the next.
struct hak_superslab *hak_superslab_records_make(void *memory);
// The superslab, whose records are apart, was unmapped.
void hak_superslab_records_drop(struct hak_superslab *ss);

HAK_C_END

#endif  // HAKMEM_SLAB_SUPERSLAB_RECORDS_H_
