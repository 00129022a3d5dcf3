// SPDX-License-Identifier: Apache-2.0
//
// The barrier of membarrier(2).
#include "allocator/os/barrier.h"

#include <linux/membarrier.h>

#include "allocator/os/atomic.h"
#include "allocator/os/fault.h"
#include "allocator/os/sys_call.h"

static bool call(int command) {
  if (hak_fault_due(HAK_FAULT_BARRIER)) return false;
  return hak_sys_call(SYS_membarrier, command, 0, 0, 0, 0, 0) == 0;
}

// Relaxed: a thread that does not see it yet gets no barrier.
static HAK_ATOMIC(bool) registered;

void hak_os_barrier_init(void) {
  atomic_store_explicit(&registered, call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED), memory_order_relaxed);
}

bool hak_os_barrier(void) {
  // Relaxed: see its declaration.
  if (!atomic_load_explicit(&registered, memory_order_relaxed)) return false;
  return call(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}
