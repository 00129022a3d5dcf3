// SPDX-License-Identifier: Apache-2.0
//
// Splits superslabs in huge pages (ground_choice.h). If a part of one is returned before the rest, it counts as one in
// small pages from then on. Without the split the kernel would keep the part until memory is short, or populate it
// again (khugepaged).
#ifndef HAKMEM_SLAB_GROUND_SPLIT_H_
#define HAKMEM_SLAB_GROUND_SPLIT_H_

#include "allocator/os/base.h"
#include "allocator/slab/pool_lock.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Counts a superslab in huge pages as one in small pages. Returns whether it was in huge pages: then the caller calls
// hak_ground_advise_split before it returns memory. Under the pool lock.
bool hak_ground_note_split(struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex);
// Splits the huge page; the page at `goes_back`, in a slab of the caller, is the first that is returned. Makes system
// calls, so not under the pool lock.
void hak_ground_advise_split(struct hak_superslab *ss, void *goes_back);
// Both, for a caller that does not hold the pool lock and has a slab of the superslab. Does nothing for a superslab in
// small pages.
void hak_ground_split_for(struct hak_superslab *ss, void *goes_back);

HAK_C_END

#endif  // HAKMEM_SLAB_GROUND_SPLIT_H_
