// SPDX-License-Identifier: Apache-2.0
//
// The lock of the sampler's tables by its name, for the annotations of all boxes that need it.
#ifndef HAKMEM_PROF_PROF_LOCK_H_
#define HAKMEM_PROF_PROF_LOCK_H_

#include "allocator/os/base.h"
#include "allocator/os/lock.h"

HAK_C_BEGIN

extern struct hak_lock hak_prof_mutex;

HAK_C_END

#endif  // HAKMEM_PROF_PROF_LOCK_H_
