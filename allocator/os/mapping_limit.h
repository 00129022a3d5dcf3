// SPDX-License-Identifier: Apache-2.0
//
// How many mappings the kernel lets a process have.
#ifndef HAKMEM_OS_MAPPING_LIMIT_H_
#define HAKMEM_OS_MAPPING_LIMIT_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// What Linux allows when nobody has changed it.
#define HAK_OS_MAPPING_LIMIT_DEFAULT ((uint64_t)65530)

// vm.max_map_count, or the default when it cannot be read. Opens a file: for the process's start.
uint64_t hak_os_mapping_limit(void);
// The number that a file of that kind begins with; the default when there is none.
uint64_t hak_os_mapping_limit_of(const char *text);

HAK_C_END

#endif  // HAKMEM_OS_MAPPING_LIMIT_H_
