// SPDX-License-Identifier: Apache-2.0
//
// The page heap (allocator/pages) against a map of live ranges.
//
// An input is a sequence of records of eight bytes:
//   byte 0    the step, see Step
//   byte 1    which of 16 blocks
//   byte 2    kind of size
//   byte 3    bit 0: cleared; bit 1: a resize may move; bits 2 to 7: which alignment
//   byte 4-5  size in pages; milliseconds of a tick
//   byte 6    for a block: where in its page it begins (below 128: at its start); for failing calls: their kinds;
//             settings
//   byte 7    the block's tag; with the upper two bits set: no new addresses; odd: sparse; the first failing call
#ifndef HAKMEM_FUZZ_PAGE_HEAP_ENGINE_H_
#define HAKMEM_FUZZ_PAGE_HEAP_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"

namespace hak_fuzz {

// The functions under test; controls replace one of them.
struct PageHeapCalls {
  void *(*take)(const struct hak_page_request *request) = hak_page_heap_take;
  bool (*give)(void *block) = hak_page_heap_give;
  struct hak_page_block (*look)(const void *block) = hak_page_heap_look;
  void *(*resize)(void *block, size_t size, uint8_t tag, bool may_move) = hak_page_heap_resize;
  bool (*tick)(uint64_t now) = hak_page_heap_tick;
  size_t (*trim)() = hak_page_heap_trim;
  void (*clear)(void *start, size_t size) = hak_page_map_clear;
};

void RunPageHeapInput(const PageHeapCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_PAGE_HEAP_ENGINE_H_
