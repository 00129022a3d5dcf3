// SPDX-License-Identifier: Apache-2.0
//
// Counters of the pool's work.
#ifndef HAKMEM_SLAB_SLAB_POOL_COUNTERS_H_
#define HAKMEM_SLAB_SLAB_POOL_COUNTERS_H_

#include "allocator/os/base.h"

// What the pool has done so far.
struct hak_pool_counters {
  uint64_t deadline_releases;    // superslabs whose free memory was returned at the deadline
  uint64_t deadline_bytes;       // and the bytes
  uint64_t lean_decommits;       // times that a slab was decommitted as soon as it was free (hak_eager_mode)
  uint64_t lean_bytes;           // and the bytes
  uint64_t unmapped_superslabs;  // returned with their addresses
  uint64_t prewarmed;            // superslabs populated at the start
  uint64_t huge_superslabs;      // mapped to be in huge pages
  uint64_t split_superslabs;     // of these: split, because a part was returned
};

#endif  // HAKMEM_SLAB_SLAB_POOL_COUNTERS_H_
