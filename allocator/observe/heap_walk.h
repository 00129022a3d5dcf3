// SPDX-License-Identifier: Apache-2.0
//
// The walk over all live blocks: small ones slab by slab, then large ones, each kind by ascending addresses. Holds no
// lock while the program looks at a block, so what it does then does no harm.
#ifndef HAKMEM_OBSERVE_HEAP_WALK_H_
#define HAKMEM_OBSERVE_HEAP_WALK_H_

#include <hakmem/hakmem.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

// As hak_heap_visit.
size_t hak_walk(bool (*visit)(const hak_block *block, void *context), void *context);

HAK_C_END

#endif  // HAKMEM_OBSERVE_HEAP_WALK_H_
