// SPDX-License-Identifier: Apache-2.0
#include "allocator/block/size_class.h"

#include <gtest/gtest.h>
#include <stdint.h>

namespace {

// The smallest class that fits, found by trying all classes; HAK_CLASS_NONE when there is none. With or without the
// half classes.
uint32_t NaiveClass(size_t size, size_t align, bool halves = false) {
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    if (!halves && hak_class_is_half(id)) continue;
    if (hak_class_usable(id) >= size && hak_class_stride(id) % align == 0) return id;
  }
  return HAK_CLASS_NONE;
}

TEST(SizeClass, TableIsDenseAndRising) {
  EXPECT_EQ(hak_class_stride(1), 16u);
  EXPECT_EQ(hak_class_stride(HAK_CLASS_COUNT - 1), HAK_TINY_STRIDE_MAX);
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    const struct hak_class_info &info = hak_class_info[id];
    EXPECT_EQ(info.stride % HAK_MIN_ALIGN, 0u) << id;
    EXPECT_EQ(info.reciprocal, ((uint64_t{1} << 32) + info.stride - 1) / info.stride) << id;
    EXPECT_LT(info.band, HAK_BAND_COUNT) << id;
    if (id > 1) {
      EXPECT_GT(info.stride, hak_class_info[id - 1].stride) << id;
      EXPECT_GE(info.band, hak_class_info[id - 1].band) << id;
      EXPECT_LE(info.band, hak_class_info[id - 1].band + 1) << id;
    }
    // Band 0 has steps of 16 bytes; each doubling after it has eight steps.
    if (info.band == 0) {
      EXPECT_EQ(info.stride, 16 * id);
    } else {
      EXPECT_GT(info.stride, 128u << info.band) << id;
      EXPECT_LE(info.stride, 256u << info.band) << id;
      EXPECT_EQ(info.stride % ((16u << info.band) / (hak_class_is_half(id) ? 2 : 1)), 0u) << id;
      // A half class is in the middle between two other classes, from 256 to 1,024 bytes.
      EXPECT_EQ(hak_class_is_half(id), info.stride < 1024 && info.stride % (16u << info.band) != 0) << id;
      if (hak_class_is_half(id)) {
        EXPECT_EQ(2 * info.stride, hak_class_info[id - 1].stride + hak_class_info[id + 1].stride) << id;
      }
    }
  }
  EXPECT_EQ(hak_class_info[HAK_CLASS_COUNT - 1].band, HAK_BAND_COUNT - 1);
}

TEST(SizeClass, IdsThatAreNoSmallClass) {
  for (const uint32_t id : {HAK_CLASS_NONE}) {
    EXPECT_FALSE(hak_class_is_tiny(id)) << id;
    EXPECT_EQ(hak_class_info[id].stride, 0u) << id;
    EXPECT_EQ(hak_class_info[id].reciprocal, 0u) << id;
  }
  EXPECT_FALSE(hak_class_is_tiny(HAK_CLASS_IDS));
  EXPECT_FALSE(hak_class_is_tiny(UINT32_MAX));
  for (uint32_t id = 1; id < HAK_CLASS_IDS; id++) EXPECT_TRUE(hak_class_is_tiny(id)) << id;
}

TEST(SizeClass, OnlyHardenedHasClassesOfBlocksWithPointers) {
  EXPECT_EQ(HAK_CLASS_IDS, HAK_HARDENED ? 2 * HAK_CLASS_COUNT - 1 : HAK_CLASS_COUNT);
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    EXPECT_FALSE(hak_class_has_pointers(id)) << id;
    EXPECT_EQ(hak_class_plain(id), id);
    const uint32_t pointers = hak_class_pointers(id);
    EXPECT_EQ(hak_class_has_pointers(pointers), HAK_HARDENED) << id;
    EXPECT_EQ(pointers != id, HAK_HARDENED) << id;
    EXPECT_LT(pointers, HAK_CLASS_IDS) << id;
    EXPECT_EQ(hak_class_plain(pointers), id);
    EXPECT_EQ(hak_class_info[pointers].stride, hak_class_info[id].stride) << id;
    EXPECT_EQ(hak_class_info[pointers].reciprocal, hak_class_info[id].reciprocal) << id;
    EXPECT_EQ(hak_class_info[pointers].band, hak_class_info[id].band) << id;
  }
  // No request gets such a class by itself.
  for (size_t size = 0; size <= HAK_TINY_MAX; size++) EXPECT_FALSE(hak_class_has_pointers(hak_class_of(size))) << size;
}

TEST(SizeClass, EverySizeGetsTheSmallestClassThatFits) {
  uint32_t last = 1;
  for (size_t size = 0; size <= HAK_TINY_MAX; size++) {
    const uint32_t id = hak_class_of(size);
    ASSERT_EQ(id, NaiveClass(size, 1)) << size;
    ASSERT_GE(id, last) << size;
    last = id;
  }
  EXPECT_EQ(last, HAK_CLASS_COUNT - 1);
  EXPECT_EQ(hak_class_usable(HAK_CLASS_COUNT - 1), HAK_TINY_MAX);
}

TEST(SizeClass, WastesAtMostAnEighthBeyond256Bytes) {
  for (size_t size = 256; size <= HAK_TINY_MAX; size++) {
    const uint32_t id = hak_class_of(size);
    const size_t waste = hak_class_usable(id) - size;
    ASSERT_LE(waste * 8, hak_class_stride(id)) << size;
  }
  for (size_t size = 0; size < 256; size++) {
    ASSERT_LT(hak_class_usable(hak_class_of(size)) - size, 17u) << size;
  }
}

TEST(SizeClass, AlignedRequestsGetTheSmallestClassWhoseStrideTheAlignmentDivides) {
  for (size_t align = 1; align <= HAK_TINY_ALIGN_MAX; align *= 2) {
    for (size_t size = 0; size <= HAK_TINY_MAX; size++) {
      // Every size near the edges of classes, and some in between.
      if (size % 16 > 1 && size % 16 < 14) continue;
      ASSERT_EQ(hak_class_of_aligned(size, align), NaiveClass(size, align)) << size << " at " << align;
    }
    EXPECT_NE(hak_class_of_aligned(0, align), HAK_CLASS_NONE) << align;
  }
  for (size_t size = 0; size <= HAK_TINY_MAX; size++) {
    ASSERT_EQ(hak_class_of_aligned(size, 16), hak_class_of(size)) << size;
  }
}

TEST(SizeClass, AlignedRequestsThatNoClassServes) {
  EXPECT_EQ(hak_class_of_aligned(1, 2 * HAK_TINY_ALIGN_MAX), HAK_CLASS_NONE);
  EXPECT_EQ(hak_class_of_aligned(1, size_t{1} << 63), HAK_CLASS_NONE);
  EXPECT_EQ(hak_class_of_aligned(HAK_TINY_MAX + 1, 16), HAK_CLASS_NONE);
  EXPECT_EQ(hak_class_of_aligned(SIZE_MAX, 1), HAK_CLASS_NONE);
  EXPECT_EQ(hak_class_of_aligned(HAK_TINY_MAX, HAK_TINY_ALIGN_MAX), HAK_CLASS_COUNT - 1);
}

// Must run last: it changes the process's table permanently.
TEST(SizeClassRefined, EverySizeGetsTheSmallestClassOfAll) {
  hak_class_refine();
  for (size_t size = 0; size <= HAK_TINY_MAX; size++) {
    const uint32_t id = hak_class_of(size);
    ASSERT_EQ(id, NaiveClass(size, 1, true)) << size;
    if (size >= 256 && size <= 1024 - HAK_HEADER_BYTES) {
      ASSERT_LE((hak_class_usable(id) - size) * 16, hak_class_stride(id)) << size;
    }
    for (size_t align = 32; align <= 1024; align *= 2) {
      const uint32_t aligned = hak_class_of_aligned(size, align);
      ASSERT_EQ(aligned, NaiveClass(size, align, true)) << size << " at " << align;
    }
  }
  hak_class_refine();
  EXPECT_EQ(hak_class_of(260), NaiveClass(260, 1, true));
}

}  // namespace
