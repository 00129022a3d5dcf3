// SPDX-License-Identifier: Apache-2.0
//
// Colour: the offset of a large block from the start of its first page, if the program requested no alignment. If
// several arrays of one size all begin at a page boundary and are read in step, they compete for the same few sets of
// every cache. So blocks begin at different cache lines. The colour is never 0: 0 means that a block has no colour.
#ifndef HAKMEM_PAGES_COLOUR_H_
#define HAKMEM_PAGES_COLOUR_H_

#include "allocator/os/base.h"
#include "allocator/pages/page_map.h"

HAK_C_BEGIN

// The number of colours: the cache lines of the smallest page, except the first.
#define HAK_COLOURS 63u
#define HAK_COLOUR_BYTES ((size_t)HAK_COLOURS * HAK_CACHE_LINE)

// What a block may use of a run: with a colour (`front` is not 0), all colours' room less, whichever it has.
HAK_INLINE size_t hak_colour_usable(size_t run, size_t front) { return run - (front != 0 ? HAK_COLOUR_BYTES : 0); }

// The colour of a block whose run begins at `start`, of the first `count` (1 .. HAK_COLOURS), in bytes. `turn`: how
// many colours were given out before.
//
// In FAST the address alone decides: when a run is used again, its first line may still be in the cache. The hash has
// two rounds: after one multiplication, runs at some distances from each other would have nearly the same colour. In
// the other profiles colours come in turn: a stale pointer into a run that is used again then seldom is a block's
// address, so a double free through it is noticed.
HAK_INLINE uint32_t hak_colour_of(const char *start, uint32_t count, uint32_t turn) {
  uint32_t hash = (uint32_t)((uintptr_t)start >> HAK_PAGE_SHIFT) * 0x9e3779b1u;
  hash = (hash ^ hash >> 15) * 0x85ebca6bu;
  const uint32_t by_address = (uint32_t)((uint64_t)hash * count >> 32);
  return ((HAK_FAST ? by_address : turn % count) + 1) * HAK_CACHE_LINE;
}

HAK_C_END

#endif  // HAKMEM_PAGES_COLOUR_H_
