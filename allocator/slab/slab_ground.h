// SPDX-License-Identifier: Apache-2.0
//
// The ground that slabs stand on: superslabs in small pages and superslabs in huge ones. A huge superslab is advised
// before its first touch, and has memory from then on, all of it. It goes back whole where it can. When a part of it is
// to go back before the rest, it is split first, and counts as one in small pages from then on: the kernel would else
// keep the part until memory is short, or fill it again (khugepaged).
//
// All under the pool lock, but for hak_ground_split_for and hak_ground_populates.
#ifndef HAKMEM_SLAB_SLAB_GROUND_H_
#define HAKMEM_SLAB_SLAB_GROUND_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Whether a superslab mapped now is to be in huge pages. `further`: for a class of which the heap has slabs already.
bool hak_ground_wants_huge(bool further);

// Advice on a superslab that is mapped and not touched yet. True: it will be in huge pages.
bool hak_ground_prepare(void *memory, bool huge);

// Whether the pages of new blocks are to be filled before these are handed out.
bool hak_ground_populates(void);

// Takes a huge superslab apart, of which the page at `goes_back` is the first that goes back. Of one in small pages:
// does nothing.
void hak_ground_split(struct hak_superslab *ss, void *goes_back);
// The same for who does not hold the pool lock.
void hak_ground_split_for(struct hak_superslab *ss, void *goes_back);

// Whether the superslab is in huge pages. Also without the lock: relaxed, a hint then.
HAK_INLINE bool hak_ground_is_huge(const struct hak_superslab *ss) {
  return atomic_load_explicit(&ss->huge, memory_order_relaxed);
}

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_GROUND_H_
