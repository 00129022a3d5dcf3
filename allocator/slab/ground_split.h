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

// Splits a huge superslab; the page at `goes_back` is the first that is returned. Does nothing for a superslab in small
// pages. Under the pool lock.
void hak_ground_split(struct hak_superslab *ss, void *goes_back) HAK_REQUIRES(hak_pool_mutex);
// The same for a caller that does not hold the pool lock.
void hak_ground_split_for(struct hak_superslab *ss, void *goes_back);

HAK_C_END

#endif  // HAKMEM_SLAB_GROUND_SPLIT_H_
