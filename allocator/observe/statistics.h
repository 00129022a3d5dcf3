// SPDX-License-Identifier: Apache-2.0
//
// Statistics of the process, gathered from the boxes that keep them.
#ifndef HAKMEM_OBSERVE_STATISTICS_H_
#define HAKMEM_OBSERVE_STATISTICS_H_

#include <hakmem/hakmem.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

void hak_statistics_gather(hak_stats *stats);

HAK_C_END

#endif  // HAKMEM_OBSERVE_STATISTICS_H_
