// SPDX-License-Identifier: Apache-2.0
//
// Waiting for a word to change, and waking waiting threads (futex(2)). Preserves errno; not a cancellation point.
#ifndef HAKMEM_OS_FUTEX_H_
#define HAKMEM_OS_FUTEX_H_

#include <limits.h>
#include <linux/futex.h>
#include <time.h>

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/sys_call.h"

#define HAK_FUTEX_FOR_EVER UINT64_MAX

// Sleeps while *word is `value`, for at most `ms` milliseconds. May return early, so the caller must read the word
// again.
HAK_INLINE void hak_futex_wait(HAK_ATOMIC(uint32_t) * word, uint32_t value, uint64_t ms) {
  const struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
  const struct timespec *const timeout = ms == HAK_FUTEX_FOR_EVER ? NULL : &time;
  hak_sys_call(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, (long)value, (long)timeout, 0, 0);
}

// Wakes up to `count` sleeping threads.
HAK_INLINE void hak_futex_wake(HAK_ATOMIC(uint32_t) * word, int count) {
  hak_sys_call(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, count, 0, 0, 0);
}

#endif  // HAKMEM_OS_FUTEX_H_
