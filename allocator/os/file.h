// SPDX-License-Identifier: Apache-2.0
//
// Reads the small files in which the kernel answers questions (/proc, /sys).
#ifndef HAKMEM_OS_FILE_H_
#define HAKMEM_OS_FILE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Reads the beginning of the file into bytes[size]; how many bytes, 0 when it cannot be read. Takes no lock; leaves
// errno as it was.
size_t hak_os_read_file(const char *path, void *bytes, size_t size);

HAK_C_END

#endif  // HAKMEM_OS_FILE_H_
