// SPDX-License-Identifier: Apache-2.0
//
// Takes superslabs in huge pages apart (ground_choice.h): one of which a part is to go back before the rest counts as
// one in small pages from then on. The kernel would else keep the part until memory is short, or fill it again
// (khugepaged).
#ifndef HAKMEM_SLAB_GROUND_SPLIT_H_
#define HAKMEM_SLAB_GROUND_SPLIT_H_

#include "allocator/os/base.h"
#include "allocator/slab/pool_lock.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Takes a huge superslab apart, of which the page at `goes_back` is the first that goes back. Of one in small pages:
// does nothing. Under the pool lock.
void hak_ground_split(struct hak_superslab *ss, void *goes_back) HAK_REQUIRES(hak_pool_mutex);
// The same for who does not hold the pool lock.
void hak_ground_split_for(struct hak_superslab *ss, void *goes_back);

HAK_C_END

#endif  // HAKMEM_SLAB_GROUND_SPLIT_H_
