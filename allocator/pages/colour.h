// SPDX-License-Identifier: Apache-2.0
//
// Colour: the offset of a large block from the start of its first page, if the program requested no alignment. If
// several arrays of one size all begin at a page boundary and are read in step, they compete for the same few sets of
// every cache. So blocks begin at different cache lines in turn. The colour is never 0: 0 means that a block has no
// colour.
#ifndef HAKMEM_PAGES_COLOUR_H_
#define HAKMEM_PAGES_COLOUR_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The number of colours: the cache lines of the smallest page, except the first.
#define HAK_COLOURS 63u
#define HAK_COLOUR_BYTES ((size_t)HAK_COLOURS * HAK_CACHE_LINE)

// What a block may use of a run: with a colour (`front` is not 0), all colours' room less, whichever it has.
HAK_INLINE size_t hak_colour_usable(size_t run, size_t front) { return run - (front != 0 ? HAK_COLOUR_BYTES : 0); }

// The next colour in turn, of the first `count` (1 .. HAK_COLOURS), in bytes.
HAK_INLINE size_t hak_colour_next(HAK_ATOMIC(uint32_t) * turn, uint32_t count) {
  // Relaxed: which block gets which colour does not matter.
  const uint32_t now = atomic_fetch_add_explicit(turn, 1, memory_order_relaxed);
  return (size_t)(now % count + 1) * HAK_CACHE_LINE;
}

HAK_C_END

#endif  // HAKMEM_PAGES_COLOUR_H_
