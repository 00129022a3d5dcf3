// SPDX-License-Identifier: Apache-2.0
//
// Files for profiles. They name functions and reveal addresses, so only the program's user may read them, and a file or
// link that somebody else has put there is never written to. Async-signal-safe; takes no lock; preserves errno.
#ifndef HAKMEM_PPROF_PROFILE_FILE_H_
#define HAKMEM_PPROF_PROFILE_FILE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Writes the path that `pattern` describes: %p is `pid`, %n is `number`, %% is a percent sign. Returns false, with an
// empty path, if it does not fit into path[size], or if another character follows a percent sign.
bool hak_pprof_path(char *path, size_t size, const char *pattern, uint64_t pid, uint64_t number);

// Creates a file that did not exist, for the user only (mode 0600). Returns its descriptor, or the negative error
// number: -EEXIST if there is anything of that name; -EPERM in a program with privileges that its caller does not have.
int hak_pprof_create(const char *path);

// A hak_gzip_sink; `context` points to the descriptor, an int. Repeats writes that were interrupted or were short.
int hak_pprof_write(void *context, const void *bytes, size_t size);

// Closes the file. If `error` is not 0, or closing fails, it also removes it, because a profile that is cut short
// cannot be read. Returns `error`, or the error number of closing.
int hak_pprof_close(int file, const char *path, int error);

HAK_C_END

#endif  // HAKMEM_PPROF_PROFILE_FILE_H_
