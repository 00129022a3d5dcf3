// SPDX-License-Identifier: Apache-2.0
//
// Large blocks (allocator/large and the spans of slab_pool.h) against a map of intervals.
//
// An input is a row of records of eight bytes:
//   byte 0    what is done, see Step
//   byte 1    which of 16 blocks
//   byte 2    kind of size
//   byte 3    bit 0: zeroed; bit 1: a resize may move; bits 2 to 7: which alignment
//   byte 4-5  size
//   byte 6    for refusals by the system: which kinds of calls
//   byte 7    and which one of them first
#ifndef HAKMEM_FUZZ_SPAN_STORE_ENGINE_H_
#define HAKMEM_FUZZ_SPAN_STORE_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/large/large.h"

namespace hak_fuzz {

// What is tested; controls put something wrong in a place.
struct SpanStoreCalls {
  void *(*alloc)(size_t size, size_t align, bool zero, bool grow) = hak_large_alloc;
  bool (*free)(void *block) = hak_large_free;
  size_t (*usable)(const void *block) = hak_large_usable;
  void *(*resize)(void *block, size_t size, bool may_move) = hak_large_resize;
  size_t (*good_size)(size_t size) = hak_large_good_size;
};

void RunSpanStoreInput(const SpanStoreCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_SPAN_STORE_ENGINE_H_
