// SPDX-License-Identifier: Apache-2.0
//
// What is checked of freed small blocks and of the bytes in front of them, in OBSERVE and HARDENED: when a block is
// used again, and of all that a thread holds when it ends. A check that fails ends the process. Does nothing elsewhere.
//
// What lies in front of a block is the canary of the block before it, whoever has that one. Its thread may be about to
// free it, or to change its size: then its header does not say that it is live (block/block_check.h).
#ifndef HAKMEM_HEAP_FREED_CHECK_H_
#define HAKMEM_HEAP_FREED_CHECK_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The block is about to be used, again or for the first time: what lies in front of it is as it was.
void hak_freed_require_front(const void *block, uint32_t class_id);

// Everything freed that waits in the heap's cache and quarantine, and, as far as they are not too many bytes, in its
// slabs; and what lies in front of it. Under the heap's lock, by its thread.
void hak_freed_require_untouched(const struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_FREED_CHECK_H_
