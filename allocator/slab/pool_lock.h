// SPDX-License-Identifier: Apache-2.0
//
// The pool's lock, by its name: for the annotations of those functions that want it held.
#ifndef HAKMEM_SLAB_POOL_LOCK_H_
#define HAKMEM_SLAB_POOL_LOCK_H_

#include "allocator/os/base.h"
#include "allocator/os/lock.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

// Defined in slab_pool_state.c.
extern struct hak_lock hak_pool_mutex;

HAK_C_END

#endif  // HAKMEM_SLAB_POOL_LOCK_H_
