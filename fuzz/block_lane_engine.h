// SPDX-License-Identifier: Apache-2.0
//
// What is stored in and before a free block: the link (tiny_nextptr.h), the header (tiny_region_id.h) and the poison
// (poison.h), on adjacent blocks of one class, against a plain record of each block's state.
//
// An input is a sequence of records of eight bytes:
//   byte 0    the step, see Step
//   byte 1    which block
//   byte 2-3  the link; for damage, where it is done
//   byte 4    in the first record: the class
//   byte 5    what damaged bytes become
//   byte 6    what live blocks hold
#ifndef HAKMEM_FUZZ_BLOCK_LANE_ENGINE_H_
#define HAKMEM_FUZZ_BLOCK_LANE_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

namespace hak_fuzz {

// The functions under test; controls replace one of them. By default the functions of the headers.
struct BlockLaneCalls {
  BlockLaneCalls();
  void (*link_store)(void *block, uint32_t next);
  uint64_t (*link_load)(const void *block);
  void (*carve)(void *block, uint32_t class_id);
  void (*check_out)(void *block, uint32_t class_id);
  void (*check_in)(void *block, uint32_t class_id);
  int (*state)(const void *block, uint32_t class_id);
  bool (*poison_intact)(const void *block, size_t usable);
};

void RunBlockLaneInput(const BlockLaneCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_BLOCK_LANE_ENGINE_H_
