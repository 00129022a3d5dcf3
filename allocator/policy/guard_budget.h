// SPDX-License-Identifier: Apache-2.0
//
// Guard budget: how many of the mappings that the kernel allows a process (vm.max_map_count) guard pages may take. All
// kinds of guards share it. At least a quarter is left to the program and an eighth to the allocator's own memory; past
// the budget, blocks go without guards, and the operator is told once. What a guard took comes back with its mapping.
//
// Thread-safe, no lock.
#ifndef HAKMEM_POLICY_GUARD_BUDGET_H_
#define HAKMEM_POLICY_GUARD_BUDGET_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Mappings that a block between guards takes at most: guards, block, guards. Of neighbours the guards become one.
#define HAK_GUARD_BLOCK 3u
// And a guard page at the end of a slab: the guard, and what it cuts off.
#define HAK_GUARD_PAGE 2u

// The budget in mappings, of `limit` that the kernel allows. Pure.
uint64_t hak_guard_budget_of(uint64_t limit);

// Sets the limit. Before the first guard; until then it is what Linux allows by default.
void hak_guard_budget_init(uint64_t limit);

// Takes `mappings` out of the budget, unless less than `leave` would be left of it. False: nothing is taken, and the
// guard is not to be.
bool hak_guard_budget_take(uint64_t mappings, uint64_t leave);
void hak_guard_budget_give(uint64_t mappings);
// What guard pages of slabs leave to blocks between guards: a quarter of the budget.
uint64_t hak_guard_budget_reserve(void);

// Mappings that guards take now. Relaxed: a figure.
uint64_t hak_guard_budget_used(void);

// Tells the operator, the first time after the budget was used up. Writes to stderr: no lock may be held.
void hak_guard_budget_tell(void);

HAK_C_END

#endif  // HAKMEM_POLICY_GUARD_BUDGET_H_
