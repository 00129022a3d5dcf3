// SPDX-License-Identifier: Apache-2.0
//
// Whether the process has only one thread.
#ifndef HAKMEM_OS_SINGLE_THREAD_H_
#define HAKMEM_OS_SINGLE_THREAD_H_

#include "allocator/os/base.h"

// Not between HAK_C_BEGIN and HAK_C_END: it is glibc's, and C libraries other than glibc 2.32 and later do not have it.
#ifdef __cplusplus
extern "C"
#else
extern
#endif
    char __libc_single_threaded __attribute__((weak));

HAK_C_BEGIN

// True: the process has one thread, and until that thread has created another, nothing needs to be atomic. False: there
// may be more. As in glibc's own malloc, a thread made by a raw clone(2) does not count.
HAK_INLINE bool hak_is_single_threaded(void) {
  return &__libc_single_threaded != NULL && *(const volatile char *)&__libc_single_threaded != 0;
}

HAK_C_END

#endif  // HAKMEM_OS_SINGLE_THREAD_H_
