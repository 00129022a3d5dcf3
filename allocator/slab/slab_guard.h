// SPDX-License-Identifier: Apache-2.0
//
// Guard pages of slabs, in HARDENED: the last page of each slab in use, and a superslab's head, or what of it lies
// between records and the first block. A guard stays up as long as its superslab is mapped. Each costs the process two
// of the kernel's mappings, whose number is limited: past the budget (policy/guard_budget.h), slabs go without. Does
// nothing in other profiles, nor where pages are larger than the 4 KiB that the layout leaves.
#ifndef HAKMEM_SLAB_SLAB_GUARD_H_
#define HAKMEM_SLAB_SLAB_GUARD_H_

#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Under the pool's lock, all four.
void hak_slab_guard_raise(struct hak_superslab *ss, uint32_t index);
void hak_slab_guard_raise_head(struct hak_superslab *ss);
// The superslab's guards that are up, and that so many went with a superslab that was unmapped.
uint64_t hak_slab_guards_of(const struct hak_superslab *ss);
void hak_slab_guards_gone(uint64_t count);

// Guards up now. Relaxed: a figure.
uint64_t hak_slab_guard_count(void);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_GUARD_H_
