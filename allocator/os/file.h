// SPDX-License-Identifier: Apache-2.0
//
// Reads small files of the kernel (/proc, /sys).
#ifndef HAKMEM_OS_FILE_H_
#define HAKMEM_OS_FILE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Reads the beginning of the file into bytes[size]. Returns how many bytes; 0 when it cannot be read. Takes no lock;
// preserves errno.
size_t hak_os_read_file(const char *path, void *bytes, size_t size);

HAK_C_END

#endif  // HAKMEM_OS_FILE_H_
