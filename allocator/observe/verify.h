// SPDX-License-Identifier: Apache-2.0
//
// Checks all records that the calling thread may read.
#ifndef HAKMEM_OBSERVE_VERIFY_H_
#define HAKMEM_OBSERVE_VERIFY_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// Checks the pool, the large blocks, the orphanage, and `heap` (the calling thread's, or NULL). NULL: all invariants
// hold; otherwise what is wrong.
const char *hak_verify(struct hak_heap *heap);

HAK_C_END

#endif  // HAKMEM_OBSERVE_VERIFY_H_
