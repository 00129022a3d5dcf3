// SPDX-License-Identifier: Apache-2.0
//
// Runs in the header mode of each profile (`always` in OBSERVE, `none` elsewhere). Its copies block_check_test_preserve
// and _always run in the other modes. Without headers the checks are never called, and the test checks only that.
#include "allocator/block/block_check.h"

#include <gtest/gtest.h>
#include <string.h>

#include "allocator/block/poison.h"
#include "allocator/block/tiny_region_id.h"
#include "allocator/os/unit_test.h"

namespace {

// A block with its header and the header of the block behind, as carving writes them.
class BlockCheck : public testing::Test {
 protected:
  static void SetUpTestSuite() { printf("header mode: %s\n", HAK_HEADER_NAME); }
  void Carve(uint32_t class_id) {
    memset(memory_, 0, sizeof memory_);
    tiny_region_id_carve_behind(block_, class_id);
    hak_block_make_fresh(block_, class_id);
  }
  alignas(16) unsigned char memory_[16 + HAK_TINY_STRIDE_MAX + 16] = {};
  unsigned char *const block_ = memory_ + 16;
};

#if HAK_HEADER == HAK_HEADER_MODE_NONE

TEST_F(BlockCheck, IsCompiledOut) {
  EXPECT_FALSE(HAK_BLOCK_CHECKS);
  EXPECT_FALSE(HAK_POISON_ON);
}

#else

constexpr uint32_t kClasses[] = {1, 2, 16, 17, 40, HAK_CLASS_COUNT - 1};

TEST_F(BlockCheck, AnHonestLifeGoesUnnoticed) {
  EXPECT_TRUE(HAK_BLOCK_CHECKS);
  for (const uint32_t id : kClasses) {
    Carve(id);
    for (int round = 0; round < 3; round++) {
      hak_block_check_out(block_, id);
      hak_block_check_live(block_, id);
      memset(block_, 0xFF, hak_class_usable(id));
      hak_block_check_live(block_, id);
      hak_block_check_in(block_, id);
    }
  }
}

// A write just in front of a block hits the end of the block before it, which may never have been handed out.
TEST_F(BlockCheck, AWriteIntoABlockThatWasNeverHandedOutIsFound) {
  if (!HAK_POISON_ON) return;
  for (const uint32_t id : kClasses) {
    unsigned char *const behind = block_ + hak_class_stride(id);
    for (int distance = 2; distance <= 16; distance++) {
      Carve(id);
      hak_block_require_untouched(block_, id);
      behind[-distance] ^= 0x41;
      HAK_EXPECT_FATAL(hak_block_require_untouched(block_, id), "underflow", behind);
      HAK_EXPECT_FATAL(hak_block_take_out(block_, id), "underflow", behind);
    }
  }
}

// While the canary of a block is written for the first time, other threads must not take it for damaged poison.
TEST_F(BlockCheck, ABlockOnItsWayOutIsNotFresh) {
  Carve(7);
  hak_block_take_out(block_, 7);
  EXPECT_NE(tiny_region_id_state(block_, 7), HAK_REGION_IS_FRESH);
  EXPECT_EQ(tiny_region_id_state(block_, 7), HAK_GUARDED ? HAK_REGION_IS_FREE : HAK_REGION_IS_LIVE);
}

TEST_F(BlockCheck, ASmashedHeaderIsFound) {
  for (const uint32_t id : kClasses) {
    Carve(id);
    hak_block_check_out(block_, id);
    for (const uint32_t header : {0u, 0xFFu, (id + 1) | HAK_REGION_LIVE, id ^ 0x40u}) {
      tiny_region_id_store(block_, header);
      HAK_EXPECT_FATAL(hak_block_check_in(block_, id), "corrupted header", block_);
      HAK_EXPECT_FATAL(hak_block_check_live(block_, id), "corrupted header", block_);
    }
  }
}

#if HAK_HEADER == HAK_HEADER_MODE_PRESERVE

// The mode `preserve` has no state: the header of a free block equals that of a live one.
TEST_F(BlockCheck, PreserveSeesNoDoubleFree) {
  Carve(5);
  hak_block_check_out(block_, 5);
  hak_block_check_in(block_, 5);
  hak_block_check_in(block_, 5);
  EXPECT_EQ(tiny_region_id_state(block_, 5), HAK_REGION_IS_LIVE);
}

#else

TEST_F(BlockCheck, ADoubleFreeIsFoundAtOnce) {
  for (const uint32_t id : kClasses) {
    Carve(id);
    hak_block_check_out(block_, id);
    hak_block_check_in(block_, id);
    HAK_EXPECT_FATAL(hak_block_check_in(block_, id), "double free", block_);
    HAK_EXPECT_FATAL(hak_block_check_live(block_, id), "invalid pointer", block_);
  }
}

TEST_F(BlockCheck, ABlockNeverHandedOutCannotBeFreed) {
  Carve(7);
  HAK_EXPECT_FATAL(hak_block_check_in(block_, 7), "invalid free", block_);
}

TEST_F(BlockCheck, ALiveBlockIsNotHandedOutAgain) {
  Carve(7);
  hak_block_check_out(block_, 7);
  HAK_EXPECT_FATAL(hak_block_check_out(block_, 7), "block handed out twice", block_);
  tiny_region_id_store(block_, 0);
  HAK_EXPECT_FATAL(hak_block_check_out(block_, 7), "corrupted header", block_);
}

TEST_F(BlockCheck, AnOverflowByOneByteIsFound) {
  for (const uint32_t id : kClasses) {
    for (const int byte : {0x00, 0x41, 0xFF}) {
      Carve(id);
      hak_block_check_out(block_, id);
      block_[hak_class_usable(id)] = static_cast<unsigned char>(byte);  // the first byte that is not the program's
      // Where headers are masked, one byte in a hundred is a valid header.
      if (HAK_HARDENED && tiny_region_id_state(block_ + hak_class_stride(id), id) != HAK_REGION_IS_BROKEN) continue;
      HAK_EXPECT_FATAL(hak_block_check_in(block_, id), "overflow", block_);
    }
  }
}

TEST_F(BlockCheck, AnyValidHeaderMayStandBehind) {
  for (const uint32_t header : {uint32_t{7}, 7 | HAK_REGION_LIVE, HAK_REGION_FRESH}) {
    Carve(7);
    hak_block_check_out(block_, 7);
    tiny_region_id_store(block_ + hak_class_stride(7), header);
    hak_block_check_in(block_, 7);
    EXPECT_EQ(tiny_region_id_load(block_ + hak_class_stride(7)), header);
  }
}

TEST_F(BlockCheck, PoisonFillsWhatIsFreed) {
  Carve(9);
  hak_block_check_out(block_, 9);
  memset(block_, 3, hak_class_usable(9));
  hak_block_check_in(block_, 9);
  for (size_t i = 0; i < hak_class_usable(9); i++) {
    ASSERT_EQ(block_[i], HAK_POISON_ON ? HAK_POISON_BYTE : 3u) << i;
  }
}

// Poison is for OBSERVE builds; with the header alone the write is not noticed.
TEST_F(BlockCheck, AWriteAfterFreeIsFoundWhenTheBlockIsHandedOut) {
  for (const uint32_t id : kClasses) {
    for (const size_t offset : {size_t{0}, hak_class_usable(id) / 2, hak_class_usable(id) - 1}) {
      Carve(id);
      hak_block_check_out(block_, id);
      hak_block_check_in(block_, id);
      block_[offset] ^= 1;
      if (HAK_POISON_ON) {
        HAK_EXPECT_FATAL(hak_block_check_out(block_, id), "write after free", block_);
      } else {
        hak_block_check_out(block_, id);
      }
    }
  }
}

// All bytes of small classes, but only the ends of larger ones: all bytes in between are checked by one loop.
TEST_F(BlockCheck, PoisonTellsOfEachBit) {
  constexpr size_t kEnds = 200;
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    const size_t usable = hak_class_usable(id);
    memset(memory_, 0xA5, sizeof memory_);  // the bytes around the block do not matter
    hak_poison_fill(block_, usable);
    ASSERT_TRUE(hak_poison_is_intact(block_, usable));
    for (size_t at = 0; at < usable; at++) {
      if (at >= kEnds && at + kEnds < usable) at = usable - kEnds;
      const auto bit = static_cast<unsigned char>(1u << at % 8);
      block_[at] ^= bit;
      ASSERT_EQ(hak_poison_is_intact(block_, usable), !HAK_POISON_ON) << "class " << id << ", byte " << at;
      block_[at] ^= bit;
    }
  }
}

#endif
#endif

}  // namespace
