// SPDX-License-Identifier: Apache-2.0
//
// Statistics of the process, gathered from the boxes that count them.
#ifndef HAKMEM_OBSERVE_STATISTICS_H_
#define HAKMEM_OBSERVE_STATISTICS_H_

#include <hakmem/hakmem.h>

#include "allocator/block/size_class.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The blocks of one size class, each counted once. Together they fill its slabs.
struct hak_class_statistics {
  uint64_t slabs;
  uint64_t live_blocks;
  uint64_t cached_blocks;  // freed: in thread caches, and in quarantine
  uint64_t remote_blocks;  // freed by other threads, on the way to their slabs
  uint64_t free_blocks;    // free in their slabs
  uint64_t fresh_blocks;   // never handed out
};

// Large blocks by usable bytes: up to 64 KiB, and four times as much for each further range; the last has no end.
#define HAK_LARGE_RANGES 9u
struct hak_large_statistics {
  uint64_t blocks;
  uint64_t bytes;
};
// The most bytes of a block in the range; UINT64_MAX for the last.
uint64_t hak_large_range_end(uint32_t range);

struct hak_all_statistics {
  hak_stats process;
  uint64_t empty_blocks;  // live blocks of size 0 in HARDENED, which have no class
  // Limits in bytes; UINT64_MAX: none.
  uint64_t memory_limit;  // HAKMEM_MEMORY_LIMIT_MB
  uint64_t group_limit;   // of the control group
  uint64_t purge_limit;   // committed bytes beyond which free memory is returned before growth
  struct hak_class_statistics classes[HAK_CLASS_COUNT];
  struct hak_large_statistics large[HAK_LARGE_RANGES];
};
void hak_statistics_gather_all(struct hak_all_statistics *all);

// Calls visit(name, value, context) for each statistic of the process, by the names and in the order of hak_stats.
void hak_statistics_for_each(const hak_stats *stats, void (*visit)(const char *name, uint64_t value, void *context),
                             void *context);

// As hak_stats_get, for a version that is not 0.
void hak_statistics_gather(hak_stats *stats);

// Writes every statistic to stderr, one per line: "hakmem: NAME=VALUE". Allocates nothing.
void hak_statistics_dump(void);

HAK_C_END

#endif  // HAKMEM_OBSERVE_STATISTICS_H_
