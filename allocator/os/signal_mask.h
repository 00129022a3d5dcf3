// SPDX-License-Identifier: Apache-2.0
//
// The calling thread's signal mask (rt_sigprocmask(2)). Preserves errno.
#ifndef HAKMEM_OS_SIGNAL_MASK_H_
#define HAKMEM_OS_SIGNAL_MASK_H_

#include <signal.h>

#include "allocator/os/base.h"
#include "allocator/os/sys_call.h"

// The kernel's format: bit n - 1 is signal n.
typedef uint64_t hak_signal_set;
#define HAK_SIGNAL(n) ((hak_signal_set)1 << ((n) - 1))
// The signals that the C library sends to its own threads (setuid, pthread_cancel): the first two real-time signals in
// glibc, three in musl; and all others.
#ifdef __GLIBC__
#define HAK_SIGNALS_OF_LIBC (HAK_SIGNAL(32) | HAK_SIGNAL(33))
#else
#define HAK_SIGNALS_OF_LIBC (HAK_SIGNAL(32) | HAK_SIGNAL(33) | HAK_SIGNAL(34))
#endif
#define HAK_SIGNALS_OF_PROGRAM (~HAK_SIGNALS_OF_LIBC)

// SIG_BLOCK, SIG_UNBLOCK or SIG_SETMASK; returns the previous mask.
HAK_INLINE hak_signal_set hak_signal_mask(int how, hak_signal_set set) {
  hak_signal_set before = 0;
  hak_sys_call(SYS_rt_sigprocmask, how, (long)&set, (long)&before, sizeof set, 0, 0);
  return before;
}

#endif  // HAKMEM_OS_SIGNAL_MASK_H_
