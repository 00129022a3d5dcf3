// SPDX-License-Identifier: Apache-2.0
//
// Where a superslab's records are: its own record and the descriptors of its slabs. In most profiles they are in its
// head, in front of the first block. In HARDENED they are apart from all blocks, among the allocator's other records
// (meta/meta.h), so that neither an overflow nor an address computed from a block's address leads to them. A table with
// one pointer for each 2 MiB of addresses finds them, and the head is empty and closed. If the table cannot be reserved
// (a limited address space, no memory), the records are in the head in HARDENED too, behind a guard page
// (slab_guard.h).
#ifndef HAKMEM_SLAB_SUPERSLAB_RECORDS_H_
#define HAKMEM_SLAB_SUPERSLAB_RECORDS_H_

#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Call it once, before the first superslab and after hak_slab_map_init: the map's form decides whether there is a
// table.
void hak_superslab_records_init(void);
// Whether there is a table.
bool hak_superslab_records_apart(void);

// Makes the records of the superslab at `memory`, which is all zero. They are zero too, except the indices of the slabs
// in HARDENED, and `memory` when they are apart. Under the pool's lock, as the next function.
struct hak_superslab *hak_superslab_records_make(void *memory);
// The superslab's memory no longer leads to its records, so that another superslab can be made at the same addresses
// as soon as they are unmapped; and it leads to them again.
void hak_superslab_records_hide(struct hak_superslab *ss);
void hak_superslab_records_show(struct hak_superslab *ss);
// Drops hidden records, which are apart.
void hak_superslab_records_drop(struct hak_superslab *ss);

HAK_C_END

#endif  // HAKMEM_SLAB_SUPERSLAB_RECORDS_H_
