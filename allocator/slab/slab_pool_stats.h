// SPDX-License-Identifier: Apache-2.0
//
// Stats of the pool: totals, visits to every slab, and the check of its records. Thread-safe: takes the pool lock.
#ifndef HAKMEM_SLAB_SLAB_POOL_STATS_H_
#define HAKMEM_SLAB_SLAB_POOL_STATS_H_

#include "allocator/os/base.h"
#include "allocator/slab/slab.h"
#include "allocator/slab/slab_pool_counters.h"

HAK_C_BEGIN

struct hak_pool_totals {
  uint64_t superslabs;
  uint64_t slabs_used;  // for small blocks
  uint64_t slabs_free;
  uint64_t slabs_free_dirty;  // of these: may hold memory
  uint64_t tiny_blocks;       // carved and not free in their slab: held by the program, a cache or a remote chain
  uint64_t tiny_bytes;        // their usable bytes
  uint64_t remote_blocks;     // of these: on remote chains
  uint64_t remote_bytes;
  struct hak_pool_counters counters;
};
struct hak_pool_totals hak_pool_totals(void);

// Calls visit for every slab of every superslab, under the pool lock, until visit returns false. Returns whether no
// call returned false.
bool hak_pool_visit(bool (*visit)(struct hak_slab *slab, void *context), void *context);
// Checks the pool's own records. NULL: they are correct; otherwise what is wrong.
const char *hak_pool_verify(void);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_POOL_STATS_H_
