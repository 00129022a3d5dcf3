// SPDX-License-Identifier: Apache-2.0
//
// How many mappings the kernel allows a process.
#ifndef HAKMEM_OS_MAPPING_LIMIT_H_
#define HAKMEM_OS_MAPPING_LIMIT_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Linux's default.
#define HAK_OS_MAPPING_LIMIT_DEFAULT ((uint64_t)65530)

// vm.max_map_count, or the default when it cannot be read. Opens a file, so call it only at the process's start.
uint64_t hak_os_mapping_limit(void);
// Parses the contents of that file: the number at its beginning, or the default if there is none.
uint64_t hak_os_mapping_limit_of(const char *text);

HAK_C_END

#endif  // HAKMEM_OS_MAPPING_LIMIT_H_
