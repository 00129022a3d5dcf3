// SPDX-License-Identifier: Apache-2.0
//
// The fault plan: makes chosen memory system calls fail, so that tests can walk through every way of running out of
// memory. Plain data rather than a hook function: a program whose memory is overwritten gains no code pointer here.
#ifndef HAKMEM_OS_FAULT_H_
#define HAKMEM_OS_FAULT_H_

#include <stdbool.h>
#include <stdint.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

#define HAK_FAULT_MAP 1u
#define HAK_FAULT_COMMIT 2u
#define HAK_FAULT_DECOMMIT 4u
#define HAK_FAULT_UNMAP 8u
#define HAK_FAULT_REMAP 16u
#define HAK_FAULT_PROTECT 32u
#define HAK_FAULT_ALL 63u

// From now on, of the calls whose kind is in `kinds`, the `nth` (1 is the next one) and the `count` - 1 after it fail
// as if the kernel had answered ENOMEM. `count` UINT64_MAX: all from the nth on. Set it when no other thread allocates.
void hak_fault_set(uint32_t kinds, uint64_t nth, uint64_t count);
// Ends the plan.
void hak_fault_clear(void);
// How many calls the present plan has made fail.
uint64_t hak_fault_hits(void);
// Asked by the OS shim before each call; true: fail it.
bool hak_fault_due(uint32_t kind);

HAK_C_END

#endif  // HAKMEM_OS_FAULT_H_
