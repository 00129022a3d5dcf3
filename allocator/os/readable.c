// SPDX-License-Identifier: Apache-2.0
//
// Asks the kernel whether memory can be read.
#include "allocator/os/readable.h"

#include "allocator/os/signal_mask.h"
#include "allocator/os/sys_call.h"

// The kernel copies the new mask from the caller's memory before it looks at what to do with it. It then finds that
// there is nothing of that number to do (EINVAL). Without a mask there is nothing to copy.
bool hak_os_is_readable(const void *address) {
  return address != NULL &&
         hak_sys_call(SYS_rt_sigprocmask, -1, (long)(uintptr_t)address, 0, sizeof(hak_signal_set), 0, 0) == -EINVAL;
}
