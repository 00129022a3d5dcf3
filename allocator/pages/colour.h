// SPDX-License-Identifier: Apache-2.0
//
// Colour: the offset from the start of its first page at which a large block begins, if the program requested no
// alignment. Arrays of one size that all begin at a page boundary and are read in step compete for the same few sets of
// every cache, so blocks begin at different cache lines in turn. Never 0, so that 0 means that a block has no colour.
#ifndef HAKMEM_PAGES_COLOUR_H_
#define HAKMEM_PAGES_COLOUR_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The cache lines of the smallest page, except the first: how many colours there are.
#define HAK_COLOURS 63u
#define HAK_COLOUR_BYTES ((size_t)HAK_COLOURS * HAK_CACHE_LINE)

// The next colour in turn, of the first `count` (1 .. HAK_COLOURS), in bytes.
HAK_INLINE size_t hak_colour_next(HAK_ATOMIC(uint32_t) * turn, uint32_t count) {
  // Relaxed: which block gets which colour does not matter.
  const uint32_t now = atomic_fetch_add_explicit(turn, 1, memory_order_relaxed);
  return (size_t)(now % count + 1) * HAK_CACHE_LINE;
}

HAK_C_END

#endif  // HAKMEM_PAGES_COLOUR_H_
