// SPDX-License-Identifier: Apache-2.0
//
// Creates files for the process's user. They show addresses and names of functions, so nobody else may read them, and a
// file or link that somebody else has put there is never opened. Async-signal-safe; takes no lock; preserves errno.
#ifndef HAKMEM_OS_NEW_FILE_H_
#define HAKMEM_OS_NEW_FILE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Creates a file that did not exist, of mode 0600, and opens it for `access` (O_WRONLY or O_RDWR). Returns its
// descriptor, which programs that the process starts do not get, or the negative error number: -EEXIST if anything of
// that name exists; -EPERM in a program with privileges that its caller does not have.
HAK_COLD int hak_new_file_create(const char *path, int access);

// Removes it. There is no error: nothing could be done about it.
HAK_COLD void hak_new_file_remove(const char *path);

HAK_C_END

#endif  // HAKMEM_OS_NEW_FILE_H_
