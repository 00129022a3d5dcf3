// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/freed_check.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "allocator/block/block_check.h"
#include "allocator/block/block_tail.h"
#include "allocator/heap/heap_life.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"

namespace {

class FreedCheck : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  FreedCheck() {
    hak_config = {};
    heap_ = hak_heap_open();
  }
  ~FreedCheck() override { hak_config = {}; }

  // All blocks of the class's first slab, from the lowest address up; none was handed out.
  std::vector<char *> Carve(uint32_t class_id) {
    std::vector<char *> blocks;
    void *block;
    const hak_slab *slab = nullptr;
    while (slab == nullptr || blocks.size() < slab->capacity) {
      EXPECT_EQ(hak_heap_take(heap_, class_id, &block, 1, nullptr), 1u);
      slab = hak_slab_of(block);
      blocks.push_back(static_cast<char *>(block));
    }
    std::sort(blocks.begin(), blocks.end());
    return blocks;
  }
  // Hands out the block for a request that leaves no room, and takes it back.
  static void HandOut(char *block, uint32_t class_id) {
    const size_t usable = hak_class_usable(class_id);
    const size_t size = usable - HAK_TAIL_WIDE_BYTES;
    hak_block_take_out(block, class_id);
    hak_freed_require_front(block, class_id);
    memset(block, 0xFF, size);
    if (HAK_GUARDED) hak_tail_seal(block, usable, size, HAK_KIND_MALLOC);
    if (HAK_BLOCK_CHECKS) hak_block_end_change(block, class_id);
  }
  static void TakeBack(char *block, uint32_t class_id) { hak_block_take_in(block, class_id); }

  hak_heap *heap_;
};

const size_t kRequests[] = {1, 40, 100, 500, 2000, 9000};

TEST_F(FreedCheck, AnHonestLifeGoesUnnoticed) {
  for (const size_t request : kRequests) {
    const uint32_t class_id = hak_class_of(request + HAK_TAIL_WIDE_BYTES);
    const std::vector<char *> blocks = Carve(class_id);
    for (size_t round = 1; round < 4; round++) {
      for (size_t i = 0; i < blocks.size(); i += round) HandOut(blocks[i], class_id);
      for (size_t i = 0; i < blocks.size(); i += round) TakeBack(blocks[i], class_id);
    }
    for (char *block : blocks) hak_heap_put(heap_, hak_slab_of(block), block);
    hak_freed_require_untouched(heap_);
  }
}

// Up to 16 bytes in front of a freed block, whatever the block before it is. One byte in front is its own header.
TEST_F(FreedCheck, AWriteInFrontOfAFreedBlockIsFound) {
  if (!HAK_POISON_ON) return;
  for (const size_t request : kRequests) {
    const uint32_t class_id = hak_class_of(request + HAK_TAIL_WIDE_BYTES);
    const std::vector<char *> blocks = Carve(class_id);
    char *const block = blocks[1];
    char *const before = blocks[0];
    HandOut(block, class_id);
    TakeBack(block, class_id);
    for (int distance = 2; distance <= 16; distance++) {
      block[-distance] ^= 0x41;
      HAK_EXPECT_FATAL(HandOut(before, class_id), "underflow", block);
      if (distance < 9) {
        HAK_EXPECT_FATAL(HandOut(block, class_id), "underflow", block);
      }
      block[-distance] ^= 0x41;
    }
    HandOut(before, class_id);
    for (int distance = 2; distance < 9; distance++) {
      block[-distance] ^= 0x41;
      HAK_EXPECT_FATAL(HandOut(block, class_id), "overflow", before);
      block[-distance] ^= 0x41;
    }
    TakeBack(before, class_id);
    for (int distance = 2; distance <= 16; distance++) {
      block[-distance] ^= 0x41;
      HAK_EXPECT_FATAL(HandOut(before, class_id), "write after free", before);
      block[-distance] ^= 0x41;
    }
    for (int distance = 2; distance <= 16; distance++) {
      before[-distance] ^= 0x41;
      HAK_EXPECT_FATAL(HandOut(before, class_id), "underflow", before);
      before[-distance] ^= 0x41;
    }
    for (char *each : blocks) hak_heap_put(heap_, hak_slab_of(each), each);
    for (int distance = 2; distance <= 16; distance++) {
      block[-distance] ^= 0x41;
      HAK_EXPECT_FATAL(hak_freed_require_untouched(heap_), "write after free", before);
      block[-distance] ^= 0x41;
    }
  }
}

}  // namespace
