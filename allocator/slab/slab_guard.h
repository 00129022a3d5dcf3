// SPDX-License-Identifier: Apache-2.0
//
// Guard pages of slabs, in HARDENED: the last page of each slab in use, and the head of a superslab, or the part of it
// between its records and the first block. A guard stays up as long as its superslab is mapped. Each guard costs two of
// the kernel's mappings, whose number is limited. Past the budget (policy/guard_budget.h) slabs have no guard. Does
// nothing in other profiles, nor where pages are larger than the 4 KiB that the layout leaves for a guard.
#ifndef HAKMEM_SLAB_SLAB_GUARD_H_
#define HAKMEM_SLAB_SLAB_GUARD_H_

#include "allocator/slab/slab.h"

HAK_C_BEGIN

// All four under the pool's lock.
void hak_slab_guard_raise(struct hak_superslab *ss, uint32_t index);
void hak_slab_guard_raise_head(struct hak_superslab *ss);
// The number of the superslab's guards that are up; and the call after a superslab with `count` guards was unmapped.
uint64_t hak_slab_guards_of(const struct hak_superslab *ss);
void hak_slab_guards_gone(uint64_t count);

// The number of guards that are up. Relaxed: a statistic.
uint64_t hak_slab_guard_count(void);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_GUARD_H_
