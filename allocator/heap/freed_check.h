// SPDX-License-Identifier: Apache-2.0
//
// Checks of freed small blocks and of the bytes in front of them, in OBSERVE and HARDENED: when a block is used again,
// and of all blocks that a thread holds when it ends. A check that fails ends the process. Does nothing in other
// profiles.
//
// In front of a block lies the canary of the block before it. The thread that holds that block may be about to free it
// or to change its size; then its header does not say that it is live (block/block_check.h).
#ifndef HAKMEM_HEAP_FREED_CHECK_H_
#define HAKMEM_HEAP_FREED_CHECK_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The block is about to be used, again or for the first time: checks that the bytes in front of it are intact.
void hak_freed_require_front(const void *block, uint32_t class_id);

// Checks all freed blocks in the heap's cache and quarantine, the free blocks in its slabs up to a bound in bytes, and
// the bytes in front of these blocks. Under the heap's lock, by its thread.
void hak_freed_require_untouched(const struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_FREED_CHECK_H_
