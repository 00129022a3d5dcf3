// SPDX-License-Identifier: Apache-2.0
//
// block_tail: the end of a small block at its very request, in OBSERVE and HARDENED. Behind the bytes that the program
// asked for stands a canary up to the end of the block, whose last eight bytes say twice how long it is:
//
//   | request | pattern ............ | word |
//
// Both depend on a secret and on the block's address. Their first byte is never below 0x80, so a string's terminating
// zero, or text that runs over by one byte, never goes unnoticed; another byte does with a probability of 1/128.
#ifndef HAKMEM_CHECK_BLOCK_TAIL_H_
#define HAKMEM_CHECK_BLOCK_TAIL_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// What a request needs beyond its size.
#define HAK_TAIL_BYTES (HAK_GUARDED ? (size_t)8 : (size_t)0)

// The block, which has `usable` bytes, is now one of `size` <= usable - HAK_TAIL_BYTES.
void hak_tail_seal(void *block, size_t usable, size_t size);
// The size that the block was sealed with. Ends the process when the canary is not what it was.
size_t hak_tail_size(const void *block, size_t usable);

// The pattern for the `bytes` at `start`, which lie behind `block`; and whether it is still there.
void hak_tail_fill(const void *block, void *start, size_t bytes);
bool hak_tail_intact(const void *block, const void *start, size_t bytes);

HAK_C_END

#endif  // HAKMEM_CHECK_BLOCK_TAIL_H_
