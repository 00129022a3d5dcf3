// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/barrier.h"

#include <linux/membarrier.h>

#include "allocator/os/fault.h"
#include "allocator/os/sys_call.h"

static bool call(int command) {
  if (hak_fault_due(HAK_FAULT_BARRIER)) return false;
  return hak_sys_call(SYS_membarrier, command, 0, 0, 0, 0, 0) == 0;
}

void hak_os_barrier_init(void) { call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }

bool hak_os_barrier(void) { return call(MEMBARRIER_CMD_PRIVATE_EXPEDITED); }
