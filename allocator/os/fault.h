// SPDX-License-Identifier: Apache-2.0
//
// The fault plan: makes chosen calls to the operating system fail, so that tests can walk through every way of running
// out of memory. Plain data rather than a hook function: a program whose memory is overwritten gains no code pointer
// here. Every call of the allocator that can fail has a kind, but for the futex, whose failures are waits that end
// early.
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
// Closing pages: guards, and freed blocks in quarantine.
#define HAK_FAULT_PROTECT 1024u
// The calls that go on without what they asked for: unmapping what lies around an aligned part, advice on huge pages
// and filling with memory, membarrier, a thread or a thread's key from the C library, and questions (limits, resident
// memory, files of the kernel, random bits).
#define HAK_FAULT_TRIM 32u
#define HAK_FAULT_ADVISE 64u
#define HAK_FAULT_BARRIER 128u
#define HAK_FAULT_THREAD 256u
#define HAK_FAULT_ASK 512u
#define HAK_FAULT_ALL 2047u

// From now on, of the calls whose kind is in `kinds`, the `nth` (1 is the next one) and the `count` - 1 after it fail
// as if the kernel had answered ENOMEM. `count` UINT64_MAX: all from the nth on. Set it when no other thread allocates.
void hak_fault_set(uint32_t kinds, uint64_t nth, uint64_t count);
// A second plan beside the one that is set, with a count of its own: a call fails when either says so.
void hak_fault_also(uint32_t kinds, uint64_t nth, uint64_t count);
// Ends both plans.
void hak_fault_clear(void);
// How many calls the plans have made fail since hak_fault_set.
uint64_t hak_fault_hits(void);
// Asked by the OS shim before each call; true: fail it.
bool hak_fault_due(uint32_t kind);

HAK_C_END

#endif  // HAKMEM_OS_FAULT_H_
