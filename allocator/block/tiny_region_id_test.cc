// SPDX-License-Identifier: Apache-2.0
//
// The mode of the header lane is fixed at compile time. This test runs in the mode of each profile (`none`, but
// `always` in OBSERVE). Its copies tiny_region_id_test_preserve and _always run in the other modes. It prints the mode.
#include "allocator/block/tiny_region_id.h"

#include <gtest/gtest.h>
#include <string.h>

namespace {

class RegionId : public testing::Test {
 protected:
  RegionId() {
    RecordProperty("header_mode", HAK_HEADER_NAME);
    memset(memory_, kFill, sizeof memory_);
  }
  static void SetUpTestSuite() { printf("header mode: %s\n", HAK_HEADER_NAME); }

  static constexpr unsigned char kFill = 0x33;
  uint8_t Header() const { return block_[-1] ^ tiny_region_id_mask(block_); }
  // Only the block's header may have been written.
  void ExpectOnlyHeadersChanged(size_t stride) const {
    for (size_t i = 0; i < sizeof memory_; i++) {
      const unsigned char *at = memory_ + i;
      if (at == block_ - 1 || at == block_ + stride - 1) continue;
      ASSERT_EQ(*at, kFill) << i;
    }
  }

  alignas(16) unsigned char memory_[16 + HAK_TINY_STRIDE_MAX + 16];
  unsigned char *const block_ = memory_ + 16;
};

TEST_F(RegionId, ReadsEachOf256HeadersForEachClass) {
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    for (uint32_t header = 0; header < 256; header++) {
      block_[-1] = static_cast<unsigned char>(header ^ tiny_region_id_mask(block_));
      hak_region_state want = HAK_REGION_IS_BROKEN;
      if (header == (id | 0x80)) want = HAK_REGION_IS_LIVE;
      if (header == id) want = HAK_REGION_IS_FREE;
      if (header == 0x7F) want = HAK_REGION_IS_FRESH;
      if (header == 0x6B) want = HAK_REGION_IS_PURGED;
      ASSERT_EQ(tiny_region_id_state(block_, id), want) << id << ' ' << header;
    }
  }
}

TEST_F(RegionId, LoadAndStoreAreTheByteBefore) {
  tiny_region_id_store(block_, 0x1C5);
  EXPECT_EQ(Header(), 0xC5);
  EXPECT_EQ(tiny_region_id_load(block_), 0xC5);
  ExpectOnlyHeadersChanged(HAK_TINY_STRIDE_MAX);
  EXPECT_EQ(block_[HAK_TINY_STRIDE_MAX - 1], kFill);
}

#if HAK_HEADER == HAK_HEADER_MODE_NONE

TEST_F(RegionId, NoneNeverWritesAnything) {
  static_assert(HAK_HEADER_BYTES == 0, "blocks are whole strides");
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    tiny_region_id_carve(block_, id);
    tiny_region_id_carve_behind(block_, id);
    tiny_region_id_set_live(block_, id);
    tiny_region_id_set_free(block_, id);
    EXPECT_EQ(Header(), kFill);
    EXPECT_EQ(block_[hak_class_stride(id) - 1], kFill);
    EXPECT_EQ(hak_class_usable(id), hak_class_stride(id));
  }
}

#elif HAK_HEADER == HAK_HEADER_MODE_PRESERVE

TEST_F(RegionId, PreserveWritesOnceAtTheCarving) {
  static_assert(HAK_HEADER_BYTES == 1, "the header's byte is not the program's");
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    block_[-1] = kFill;
    tiny_region_id_carve(block_, id);
    tiny_region_id_carve_behind(block_, id);
    EXPECT_EQ(tiny_region_id_state(block_, id), HAK_REGION_IS_LIVE);
    tiny_region_id_set_free(block_, id);
    EXPECT_EQ(tiny_region_id_state(block_, id), HAK_REGION_IS_LIVE) << "knows no other state";
    tiny_region_id_store(block_, 0);
    tiny_region_id_set_live(block_, id);
    EXPECT_EQ(Header(), 0) << "not written again";
    EXPECT_EQ(block_[hak_class_stride(id) - 1], kFill);
    EXPECT_EQ(hak_class_usable(id), hak_class_stride(id) - 1);
  }
}

#else

TEST_F(RegionId, AlwaysFollowsTheBlocksLife) {
  static_assert(HAK_HEADER_BYTES == 1, "the header's byte is not the program's");
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    memset(memory_, kFill, sizeof memory_);
    const size_t stride = hak_class_stride(id);
    if (!HAK_HARDENED) {
      EXPECT_EQ(tiny_region_id_state(block_, id), id == kFill ? HAK_REGION_IS_FREE : HAK_REGION_IS_BROKEN);
    }
    tiny_region_id_carve(block_, id);
    EXPECT_EQ(tiny_region_id_state(block_, id), HAK_REGION_IS_FRESH);
    tiny_region_id_carve_behind(block_, id);
    EXPECT_EQ(tiny_region_id_state(block_ + stride, id), HAK_REGION_IS_FRESH);
    tiny_region_id_set_live(block_, id);
    EXPECT_EQ(tiny_region_id_state(block_, id), HAK_REGION_IS_LIVE);
    tiny_region_id_set_free(block_, id);
    EXPECT_EQ(tiny_region_id_state(block_, id), HAK_REGION_IS_FREE);
    EXPECT_EQ(tiny_region_id_state(block_ + stride, id), HAK_REGION_IS_FRESH) << "the neighbour's is its own";
    EXPECT_EQ(hak_class_usable(id), stride - 1);
    ExpectOnlyHeadersChanged(stride);
  }
}

// A header of a free block of one class is never a live or fresh header of another class, and a cleared header is none
// of these.
TEST_F(RegionId, HeadersOfClassesAreDistinct) {
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    tiny_region_id_set_live(block_, id);
    for (uint32_t other = 1; other < HAK_CLASS_COUNT; other++) {
      if (other != id) {
        ASSERT_EQ(tiny_region_id_state(block_, other), HAK_REGION_IS_BROKEN);
      }
    }
    tiny_region_id_store(block_, 0);
    ASSERT_EQ(tiny_region_id_state(block_, id), HAK_REGION_IS_BROKEN);
  }
}

#endif

}  // namespace
