// SPDX-License-Identifier: Apache-2.0
//
// The statistics as JSON. Allocates nothing.
#ifndef HAKMEM_OBSERVE_STATISTICS_JSON_H_
#define HAKMEM_OBSERVE_STATISTICS_JSON_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// As hak_stats_json. `build`: the name of the build; it has no character that JSON escapes.
size_t hak_statistics_json(char *buffer, size_t size, const char *build);

HAK_C_END

#endif  // HAKMEM_OBSERVE_STATISTICS_JSON_H_
