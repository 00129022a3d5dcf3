// SPDX-License-Identifier: Apache-2.0
//
// Which of a program's blocks it should move to empty slabs.
#ifndef HAKMEM_API_MOVE_HINTS_H_
#define HAKMEM_API_MOVE_HINTS_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// As hak_should_move (include/hakmem/hakmem.h).
size_t hak_move_hints(void *const *blocks, size_t count, bool *move);

HAK_C_END

#endif  // HAKMEM_API_MOVE_HINTS_H_
