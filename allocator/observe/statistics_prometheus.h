// SPDX-License-Identifier: Apache-2.0
//
// The statistics in the text format of Prometheus. Allocates nothing.
#ifndef HAKMEM_OBSERVE_STATISTICS_PROMETHEUS_H_
#define HAKMEM_OBSERVE_STATISTICS_PROMETHEUS_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// As hak_stats_prometheus. `build`: the name of the build; it has no character that the format escapes.
size_t hak_statistics_prometheus(char *buffer, size_t size, const char *build);

HAK_C_END

#endif  // HAKMEM_OBSERVE_STATISTICS_PROMETHEUS_H_
