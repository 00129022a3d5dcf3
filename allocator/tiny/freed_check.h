// SPDX-License-Identifier: Apache-2.0
//
// What is checked of freed small blocks and of the bytes in front of them, in OBSERVE and HARDENED: when a block leaves
// the quarantine, and of all that a thread holds when it ends. A check that fails ends the process. Does nothing
// elsewhere.
#ifndef HAKMEM_TINY_FREED_CHECK_H_
#define HAKMEM_TINY_FREED_CHECK_H_

#include "allocator/os/base.h"
#include "allocator/tiny/heap.h"

HAK_C_BEGIN

// The freed block is about to be used again: what lies in front of it is as it was, where that can be told without
// looking at a block that another thread may have.
void hak_freed_require_front(const void *block, uint32_t class_id);

// Everything freed that waits in the heap's cache and quarantine, and, as far as they are not too many bytes, in its
// slabs. While the process has one thread, the canaries of live blocks in front of the waiting ones, too. Under the
// heap's lock, by its thread.
void hak_freed_require_untouched(const struct hak_heap *heap);

HAK_C_END

#endif  // HAKMEM_TINY_FREED_CHECK_H_
