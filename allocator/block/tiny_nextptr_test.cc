// SPDX-License-Identifier: Apache-2.0
#include "allocator/block/tiny_nextptr.h"

#include <gtest/gtest.h>
#include <string.h>

#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/slab/slab.h"

namespace {

using hak_unit::Random;

class NextPtr : public testing::Test {
 protected:
  NextPtr() { hak_nextptr_secret = 0x5EC2E75EC2E75EC2; }
  alignas(16) unsigned char memory_[48] = {};
  unsigned char *const block_ = memory_ + 16;
};

TEST_F(NextPtr, EveryLinkComesBack) {
  for (uint32_t link = 0; link <= HAK_SLAB_BLOCKS_MAX; link++) {
    tiny_nextptr_store(block_, link);
    ASSERT_EQ(tiny_nextptr_load(block_), link);
  }
}

TEST_F(NextPtr, OnlyTheFirstEightBytesAreTouched) {
  memset(memory_, 0xA5, sizeof memory_);
  tiny_nextptr_store(block_, 1234);
  for (size_t i = 0; i < sizeof memory_; i++) {
    if (i < 16 || i >= 24) {
      EXPECT_EQ(memory_[i], 0xA5) << i;
    }
  }
}

// The header of a block is the byte before it. The header of the block behind is the last byte of the block's own
// stride.
TEST_F(NextPtr, NoClassLosesAHeader) {
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    EXPECT_TRUE(tiny_nextptr_preserves_header(id)) << id;
    EXPECT_LT(HAK_NEXTPTR_OFFSET + HAK_NEXTPTR_BYTES, hak_class_stride(id)) << id;
  }
  for (const uint32_t id : {HAK_CLASS_NONE}) {
    EXPECT_FALSE(tiny_nextptr_preserves_header(id)) << id;
  }
  memory_[15] = 0xEE;
  memory_[31] = 0xDD;  // the header of the block behind the smallest one
  tiny_nextptr_store(block_, HAK_SLAB_BLOCKS_MAX);
  EXPECT_EQ(memory_[15], 0xEE);
  EXPECT_EQ(memory_[31], 0xDD);
}

TEST_F(NextPtr, FastLinksArePlainAndOthersAreNot) {
  uint64_t stored;
  tiny_nextptr_store(block_, 77);
  memcpy(&stored, block_, sizeof stored);
  if (HAK_FAST) {
    EXPECT_EQ(stored, 77u);
    return;
  }
  EXPECT_NE(stored, 77u);
  // Another secret, or the same bytes in another block, decode to something else.
  hak_nextptr_secret ^= uint64_t{1} << 40;
  EXPECT_NE(tiny_nextptr_load(block_), 77u);
  hak_nextptr_secret ^= uint64_t{1} << 40;
  EXPECT_EQ(tiny_nextptr_load(block_), 77u);
  alignas(16) unsigned char other[16];
  memcpy(other, block_, sizeof stored);
  EXPECT_NE(tiny_nextptr_load(other), 77u);
}

TEST_F(NextPtr, GuessedBytesDecodeToNoIndex) {
  if (HAK_FAST) {
    const uint64_t guess = 5;
    memcpy(block_, &guess, sizeof guess);
    EXPECT_EQ(tiny_nextptr_load(block_), 5u) << "FAST takes links as they are";
    return;
  }
  hak_nextptr_secret = hak_os_random();
  Random random(1);
  // 2^20 guesses at 2^-51 each.
  for (int i = 0; i < 1 << 20; i++) {
    const uint64_t guess = i < 70000 ? static_cast<uint64_t>(i) : random.Next();
    memcpy(block_, &guess, sizeof guess);
    ASSERT_GT(tiny_nextptr_load(block_), HAK_SLAB_BLOCKS_MAX) << guess;
  }
}

// The links of all blocks of a slab are encoded differently, so that none can be copied from one block to another.
TEST_F(NextPtr, TheSameLinkLooksDifferentInEveryBlock) {
  if (HAK_FAST) GTEST_SKIP() << "FAST links are plain";
  const char *slab = reinterpret_cast<const char *>(uintptr_t{0x7f12'3456'0000});
  const uint64_t first = tiny_nextptr_code(slab, 9);
  for (uint32_t i = 1; i < HAK_SLAB_BLOCKS_MAX; i++) {
    const uint64_t decoded = tiny_nextptr_code(slab + i * 16, first);
    ASSERT_GT(decoded, HAK_SLAB_BLOCKS_MAX) << i;
  }
}

}  // namespace
