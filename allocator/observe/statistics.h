// SPDX-License-Identifier: Apache-2.0
//
// Statistics of the process, gathered from the boxes that count them.
#ifndef HAKMEM_OBSERVE_STATISTICS_H_
#define HAKMEM_OBSERVE_STATISTICS_H_

#include <hakmem/hakmem.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

// As hak_stats_get, for a version that is not 0.
void hak_statistics_gather(hak_stats *stats);

// Writes every statistic to stderr, one per line: "hakmem: NAME=VALUE". Allocates nothing.
void hak_statistics_dump(void);

HAK_C_END

#endif  // HAKMEM_OBSERVE_STATISTICS_H_
