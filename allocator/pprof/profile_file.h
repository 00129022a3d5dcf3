// SPDX-License-Identifier: Apache-2.0
//
// Files for profiles, which os/new_file creates. Async-signal-safe; takes no lock; preserves errno.
#ifndef HAKMEM_PPROF_PROFILE_FILE_H_
#define HAKMEM_PPROF_PROFILE_FILE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Writes the path that `pattern` describes: %p is `pid`, %n is `number`, %% is a percent sign. Returns false, with an
// empty path, if it does not fit into path[size], or if another character follows a percent sign.
bool hak_pprof_path(char *path, size_t size, const char *pattern, uint64_t pid, uint64_t number);

// A hak_gzip_sink; `context` points to the descriptor, an int. Repeats writes that were interrupted or were short.
int hak_pprof_write(void *context, const void *bytes, size_t size);

// Closes the file. If `error` is not 0, or closing fails, it also removes it, because a profile that is cut short
// cannot be read. Returns `error`, or the error number of closing.
int hak_pprof_close(int file, const char *path, int error);

HAK_C_END

#endif  // HAKMEM_PPROF_PROFILE_FILE_H_
