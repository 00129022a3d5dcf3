// SPDX-License-Identifier: Apache-2.0
//
// The ground that slabs stand on: superslabs in small pages and superslabs in huge ones. A huge superslab is advised
// before its first touch, and has memory from then on, all of it. It goes back whole where it can; when a part of it
// is to go back before the rest, it is split first (ground_split.h).
#ifndef HAKMEM_SLAB_GROUND_CHOICE_H_
#define HAKMEM_SLAB_GROUND_CHOICE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Whether a superslab mapped now is to be in huge pages. `further`: for a class of which the heap has slabs already.
// Under the pool lock.
bool hak_ground_wants_huge(bool further);

// Advice on a superslab that is mapped and not touched yet. True: it will be in huge pages. Under the pool lock.
bool hak_ground_prepare(void *memory, bool huge);

// Whether the pages of new blocks are to be filled before these are handed out.
bool hak_ground_populates(void);

HAK_C_END

#endif  // HAKMEM_SLAB_GROUND_CHOICE_H_
