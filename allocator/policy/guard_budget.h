// SPDX-License-Identifier: Apache-2.0
//
// Guard budget: how many of the mappings that the kernel allows a process (vm.max_map_count) guard pages may use. All
// kinds of guards share it. At least a quarter is left to the program and an eighth to the allocator's own memory.
// Beyond the budget blocks get no guards, and the operator is told once. Unmapping a
// guard returns its share.
//
// Thread-safe, no lock.
#ifndef HAKMEM_POLICY_GUARD_BUDGET_H_
#define HAKMEM_POLICY_GUARD_BUDGET_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// The most mappings that a block between guards uses: guard, block, guard. Adjacent guards merge into one mapping.
#define HAK_GUARD_BLOCK 3u
// Mappings that a guard page at the end of a slab uses: the guard, and the part that it splits off.
#define HAK_GUARD_PAGE 2u

// The budget in mappings, if the kernel allows `limit`. Pure.
uint64_t hak_guard_budget_of(uint64_t limit);

// Sets the limit, before the first guard. Until then it is Linux's default.
void hak_guard_budget_init(uint64_t limit);

// Takes `mappings` from the budget, unless less than `leave` would remain. False: nothing was taken, and the guard must
// not be created.
bool hak_guard_budget_take(uint64_t mappings, uint64_t leave);
void hak_guard_budget_give(uint64_t mappings);
// Call it when the kernel has refused a guard although neither addresses nor memory are short.
void hak_guard_budget_refused(void);
// The part of the budget that guard pages of slabs leave to blocks between guards: a quarter.
uint64_t hak_guard_budget_reserve(void);

// Mappings that guards use now. Relaxed: a statistic.
uint64_t hak_guard_budget_used(void);

// Tells the operator, once, after the budget was used up or the kernel has refused a guard. Writes to stderr, so the
// caller must hold no lock.
void hak_guard_budget_tell(void);

HAK_C_END

#endif  // HAKMEM_POLICY_GUARD_BUDGET_H_
