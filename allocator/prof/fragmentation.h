// SPDX-License-Identifier: Apache-2.0
//
// Fragmentation by stack: which live blocks keep slabs in use of which much is free.
#ifndef HAKMEM_PROF_FRAGMENTATION_H_
#define HAKMEM_PROF_FRAGMENTATION_H_

#include "allocator/os/base.h"
#include "allocator/slab/slab_pool_stats.h"

HAK_C_BEGIN

// What the computation needs: about 4 KiB, by the caller, with any contents, because a signal handler's stack may be
// small.
struct hak_fragmentation {
  struct hak_class_slabs slabs[HAK_CLASS_IDS];
  double weights[HAK_CLASS_IDS];
  uint64_t samples[HAK_CLASS_IDS];
  double bytes[HAK_CLASS_IDS];  // that lie free in the slabs of the class, for each live block
};

// Shares the bytes of the blocks that are free in the slabs of each class equally among its live blocks, and gives each
// stack the shares of the blocks for which its samples stand (struct hak_stack_totals, fragmentation_bytes). Returns
// the free bytes of all classes. The stacks' shares are at most that, and are less by the shares of blocks that are in
// thread caches, or were allocated while nothing was sampled.
//
// In a signal handler as hak_pool_classes; by one thread at a time.
uint64_t hak_fragmentation_share(struct hak_fragmentation *work);

HAK_C_END

#endif  // HAKMEM_PROF_FRAGMENTATION_H_
