// SPDX-License-Identifier: Apache-2.0
//
// A memory barrier on all threads of the process at once (membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED). With it,
// one side of a protocol needs no fence. For each other thread there is a moment within hak_os_barrier such that all
// memory accesses of the thread before it are complete and visible after the call, and all later ones begin after it.
#ifndef HAKMEM_OS_BARRIER_H_
#define HAKMEM_OS_BARRIER_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Registers the process with the kernel. Once, before the first hak_os_barrier.
void hak_os_barrier_init(void);
// False: the kernel has no such barrier, or refused it at the start (then it is not called again); nothing is ordered.
// Takes microseconds; preserves errno.
bool hak_os_barrier(void);

HAK_C_END

#endif  // HAKMEM_OS_BARRIER_H_
