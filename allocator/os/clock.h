// SPDX-License-Identifier: Apache-2.0
//
// The clock, read through the vDSO (vdso(7)) without calling the C library or, as a rule, the kernel. This box finds
// and parses the vDSO itself. Where there is none, it makes a system call.
#ifndef HAKMEM_OS_CLOCK_H_
#define HAKMEM_OS_CLOCK_H_

#include <time.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

// Like clock_gettime; a clock that the kernel does not have reads as 0. Takes no lock; preserves errno.
struct timespec hak_clock_read(clockid_t clock);

// For tests: the function of that name in the vDSO image that begins at `start`, or NULL.
void *hak_clock_find(const void *start, const char *name);

HAK_C_END

#endif  // HAKMEM_OS_CLOCK_H_
