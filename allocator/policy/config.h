// SPDX-License-Identifier: Apache-2.0
//
// The resolved settings as plain data: what the policies and the floors above read. The gate floor fills it in once,
// before the first block is handed out; afterwards it is constant.
#ifndef HAKMEM_POLICY_CONFIG_H_
#define HAKMEM_POLICY_CONFIG_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// How the slab map is laid out (tiny/slab_map.h).
enum hak_slab_map_form { HAK_SLAB_MAP_AUTO, HAK_SLAB_MAP_FLAT, HAK_SLAB_MAP_TWO_LEVEL };

struct hak_config {
  uint64_t decommit_deadline_ms;  // how long a free slab or mapping keeps its memory; 0: gives it back at once
  uint64_t thread_cache_bytes;    // what the caches of one thread may hold together
  uint64_t thread_cache_share;    // and as one part of this many of the thread's heap; 0: no such bound
  uint64_t keep_superslabs;       // wholly free superslabs that stay mapped (without memory) past the deadline
  uint64_t mapping_cache_bytes;   // what freed large mappings may hold together until the deadline
  bool borrow;                    // a request may take a free block of the next larger class
  enum hak_slab_map_form slab_map_form;
};

// All zero until the gates are resolved, which is before the first block is handed out.
extern struct hak_config hak_config;

HAK_C_END

#endif  // HAKMEM_POLICY_CONFIG_H_
