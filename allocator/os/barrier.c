// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/barrier.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "allocator/os/fault.h"

static bool call(int command) {
  if (hak_fault_due(HAK_FAULT_BARRIER)) return false;
  const int saved = errno;
  const bool done = syscall(SYS_membarrier, command, 0, 0) == 0;
  errno = saved;
  return done;
}

void hak_os_barrier_init(void) { call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }

bool hak_os_barrier(void) { return call(MEMBARRIER_CMD_PRIVATE_EXPEDITED); }
