// SPDX-License-Identifier: Apache-2.0
//
// The calling thread's stack, from within malloc: calls no function of the C library that takes a lock or allocates,
// and reads nothing of the stack that the kernel does not let it read. The compilers' tables decide (cfi.h); the
// frame pointer where there is none. Rules are kept by address, so that a stack whose functions were seen before costs
// no look into the tables.
#ifndef HAKMEM_PROF_UNWIND_H_
#define HAKMEM_PROF_UNWIND_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Stores up to `room` return addresses, the innermost first, and returns how many. The first is `from`, which must be
// the return address of a function that is running; if it is not found, it is the only one. NULL: the first is the
// caller's. Hold no lock of rank HAK_RANK_META or above: the first call takes memory for the rules.
uint32_t hak_unwind(void **out, uint32_t room, const void *from);

// The stack of the code that a signal interrupted: `context` is the third argument of the signal's handler. The first
// address is where it was interrupted, the others are return addresses. Takes no memory and no lock.
uint32_t hak_unwind_interrupted(void **out, uint32_t room, const void *context);

// How many rules were read from tables so far, and how many were found again. For tests; relaxed.
struct hak_unwind_counts {
  uint64_t read;
  uint64_t found;
};
struct hak_unwind_counts hak_unwind_counts(void);

HAK_C_END

#endif  // HAKMEM_PROF_UNWIND_H_
