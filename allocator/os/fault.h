// SPDX-License-Identifier: Apache-2.0
//
// The fault plan: makes chosen system calls fail, so that tests can try every way of running out of memory. It is plain
// data rather than a hook function, so that an attacker who overwrites memory finds no code pointer here. Every system
// call of the allocator that can fail has a kind, except for the futex: its failures are waits that end early.
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
// Making pages inaccessible: guards, and freed blocks in quarantine.
#define HAK_FAULT_PROTECT 1024u
// Calls whose failure the allocator can live with: unmapping the memory around an aligned part, advice on huge pages
// and populating, membarrier, a thread or a thread key from the C library, and queries (limits, resident memory, files
// of the kernel, random bits).
#define HAK_FAULT_TRIM 32u
#define HAK_FAULT_ADVISE 64u
#define HAK_FAULT_BARRIER 128u
#define HAK_FAULT_THREAD 256u
#define HAK_FAULT_ASK 512u
#define HAK_FAULT_ALL 2047u

// Of the following calls whose kind is in `kinds`, the `nth` (1 is the next one) and the `count` - 1 after it fail with
// ENOMEM. With `count` UINT64_MAX all from the nth on fail. Call it while no other thread allocates.
void hak_fault_set(uint32_t kinds, uint64_t nth, uint64_t count);
// A second plan beside the first, with its own count: a call fails when either plan says so.
void hak_fault_also(uint32_t kinds, uint64_t nth, uint64_t count);
// Ends both plans.
void hak_fault_clear(void);
// How many calls the plans have failed since hak_fault_set.
uint64_t hak_fault_hits(void);
// Called before each system call. True: the call must fail.
bool hak_fault_due(uint32_t kind);

HAK_C_END

#endif  // HAKMEM_OS_FAULT_H_
