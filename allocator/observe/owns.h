// SPDX-License-Identifier: Apache-2.0
//
// Tells the allocator's blocks from all other addresses.
#ifndef HAKMEM_OBSERVE_OWNS_H_
#define HAKMEM_OBSERVE_OWNS_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// As hak_owns (include/hakmem/hakmem.h).
bool hak_is_block(const void *address);

HAK_C_END

#endif  // HAKMEM_OBSERVE_OWNS_H_
