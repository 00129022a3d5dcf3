// SPDX-License-Identifier: Apache-2.0
//
// Resizes large blocks without copying them.
#ifndef HAKMEM_API_RESIZE_H_
#define HAKMEM_API_RESIZE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Resizes the live large block of `usable` bytes to `size` bytes where it is, or, with `may_move`, by moving its pages.
// If a memory limit does not admit the growth, memory is returned first. Returns the block's address; NULL: this is not
// possible, and nothing changed. `caller`: what called the allocator, for a sample. The calling thread must hold no
// lock.
void *hak_resize_large(void *block, size_t usable, size_t size, bool may_move, const void *caller);

HAK_C_END

#endif  // HAKMEM_API_RESIZE_H_
