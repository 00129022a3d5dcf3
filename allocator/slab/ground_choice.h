// SPDX-License-Identifier: Apache-2.0
//
// The ground of superslabs: small pages or huge pages. A huge superslab is advised before its first touch and then has
// all of its memory. It is returned as a whole if possible. If a part of it is returned before the rest, it is split
// first (ground_split.h).
#ifndef HAKMEM_SLAB_GROUND_CHOICE_H_
#define HAKMEM_SLAB_GROUND_CHOICE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Whether a superslab that is mapped now should be in huge pages. `further`: for a class of which the heap has slabs
// already. Under the pool lock.
bool hak_ground_wants_huge(bool further);

// Advises the kernel about a superslab that is mapped and not touched yet. True: it will be in huge pages. Under the
// pool lock.
bool hak_ground_prepare(void *memory, bool huge);

// Whether the pages of new blocks are populated before the blocks are handed out.
bool hak_ground_populates(void);

HAK_C_END

#endif  // HAKMEM_SLAB_GROUND_CHOICE_H_
