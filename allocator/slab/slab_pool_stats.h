// SPDX-License-Identifier: Apache-2.0
//
// Stats of the pool: totals, visits to every slab, and the check of its records. Thread-safe: takes the pool lock.
#ifndef HAKMEM_SLAB_SLAB_POOL_STATS_H_
#define HAKMEM_SLAB_SLAB_POOL_STATS_H_

#include "allocator/os/base.h"
#include "allocator/slab/slab.h"
#include "allocator/slab/slab_pool_counters.h"

HAK_C_BEGIN

// The slabs of one size class. free_blocks + fresh_blocks + held_blocks is what they have room for.
struct hak_class_slabs {
  uint64_t slabs;
  uint64_t free_blocks;    // free in their slab
  uint64_t fresh_blocks;   // never carved
  uint64_t held_blocks;    // carved and not free in their slab: held by the program, a cache or a remote chain
  uint64_t remote_blocks;  // of these: on remote chains
};

struct hak_pool_totals {
  uint64_t superslabs;
  uint64_t slabs_used;  // for small blocks
  uint64_t slabs_free;
  uint64_t slabs_free_dirty;  // of these: may hold memory
  // The sums over all classes.
  uint64_t tiny_blocks;  // held blocks
  uint64_t tiny_bytes;   // their usable bytes
  uint64_t remote_blocks;
  uint64_t remote_bytes;
  struct hak_pool_counters counters;
  struct hak_class_slabs classes[HAK_CLASS_IDS];
};
struct hak_pool_totals hak_pool_totals(void);

// Fills in `classes`, one for each class, as in the totals. May be called in a signal handler, unless it interrupted a
// thread that holds a lock (hak_lock_is_within).
void hak_pool_classes(struct hak_class_slabs *classes);

// Calls visit for every slab of every superslab, under the pool lock, until visit returns false. Returns whether no
// call returned false.
bool hak_pool_visit(bool (*visit)(struct hak_slab *slab, void *context), void *context);
// Checks the pool's own records. NULL: they are correct; otherwise what is wrong.
const char *hak_pool_verify(void);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_POOL_STATS_H_
