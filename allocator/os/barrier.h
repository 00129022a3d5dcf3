// SPDX-License-Identifier: Apache-2.0
//
// A barrier on all threads of the process at once (membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED). It lets one side
// of a protocol go without any fence of its own: after hak_os_barrier each other thread has completed, and made
// visible, all it did before some moment within the call, and begins what follows after that moment.
#ifndef HAKMEM_OS_BARRIER_H_
#define HAKMEM_OS_BARRIER_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Asks the kernel for it. Once, before the first hak_os_barrier.
void hak_os_barrier_init(void);
// False: the kernel has none, or refused it at the start, when no further call is made; nothing may be concluded. Takes
// microseconds; leaves errno as it was.
bool hak_os_barrier(void);

HAK_C_END

#endif  // HAKMEM_OS_BARRIER_H_
