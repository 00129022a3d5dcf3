// SPDX-License-Identifier: Apache-2.0
//
// The resolved settings as plain data: what the policies and the floors above read. The gate floor fills it in before
// the first block is handed out. Later it changes most fields when the program asks for it (gate/gate_now.h), so that
// they are read by HAK_SETTING, and each decision reads a setting once.
#ifndef HAKMEM_POLICY_CONFIG_H_
#define HAKMEM_POLICY_CONFIG_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/decommit.h"

HAK_C_BEGIN

// How the slab map is laid out (slab/slab_map.h).
enum hak_slab_map_form { HAK_SLAB_MAP_AUTO, HAK_SLAB_MAP_FLAT, HAK_SLAB_MAP_TWO_LEVEL };

// Transparent huge pages for superslabs (os/decommit.h).
enum hak_huge_pages { HAK_HUGE_PAGES_AUTO, HAK_HUGE_PAGES_ON, HAK_HUGE_PAGES_OFF };

struct hak_config {
  uint64_t decommit_deadline_ms;         // how long a free slab or mapping keeps its memory; 0: gives it back at once
  enum hak_decommit_mode lean_decommit;  // what is done with a slab the moment it falls free
  uint64_t lean_target_bytes;            // as long as more than this is committed
  uint64_t prewarm_superslabs;           // mapped and filled with memory at the start
  uint64_t prewarm_suppressed;           // how many would have been, but for LEAN
  uint64_t thread_cache_bytes;           // what the caches of one thread may hold together
  uint64_t thread_cache_share;           // and as one part of this many of the thread's heap; 0: no such bound
  uint64_t idle_cache_ms;                // after so long without a change others may empty a thread's cache; 0: never
  uint64_t keep_superslabs;              // wholly free superslabs that stay mapped (without memory) past the deadline
  uint64_t keep_free_bytes;              // of free slabs: what neither deadline nor LEAN takes
  uint64_t mapping_cache_bytes;          // what freed large mappings may hold together until the deadline
  uint64_t memory_limit_bytes;           // the most that may be committed; 0: no limit
  uint64_t guard_sample;                 // HARDENED: one small block in so many has guard pages of its own; 0: none
  bool cgroup_limit;                     // heed the control group's limit
  bool page_purge;                       // free pages of slabs in use go back too
  bool idle_watch;                       // notice a program that falls idle with much memory free
  bool background;                       // a thread of ours gives idle memory back
  bool fine_classes;                     // large heaps use the additional size classes
  bool borrow;                           // a request may take a free block of the next larger class
  bool stats_at_exit;
  enum hak_huge_pages huge_pages;
  enum hak_slab_map_form slab_map_form;
};

// All zero until the gates are resolved, which is before the first block is handed out.
extern struct hak_config hak_config;

// Relaxed: a setting that changes meanwhile is heeded by the next decision; no two settings belong together.
#define HAK_SETTING(field) __atomic_load_n(&hak_config.field, __ATOMIC_RELAXED)

HAK_C_END

#endif  // HAKMEM_POLICY_CONFIG_H_
