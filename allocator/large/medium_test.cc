// SPDX-License-Identifier: Apache-2.0
#include "allocator/large/medium.h"

#include <gtest/gtest.h>
#include <stdint.h>

#include <vector>

#include "allocator/large/large.h"
#include "allocator/os/atomic.h"

namespace {

constexpr size_t kFirst = HAK_TINY_STRIDE_MAX + 1;

// The smallest class that is large enough, found by trying all classes.
uint32_t ClassByTrying(size_t size) {
  uint32_t class_id = 0;
  while (class_id < HAK_MEDIUM_COUNT && hak_medium_usable(class_id) < size) class_id++;
  return class_id;
}

TEST(Medium, ClassesGrowByAnEighthOfADoubling) {
  for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
    const size_t below = class_id == 0 ? HAK_TINY_STRIDE_MAX : hak_medium_bytes(class_id - 1);
    const size_t bytes = hak_medium_bytes(class_id);
    EXPECT_GT(bytes, below);
    EXPECT_EQ(bytes % HAK_PAGE_SIZE, 0u);
    EXPECT_LE((bytes - below) * 8, below);
    EXPECT_EQ(hak_medium_usable(class_id) + HAK_COLOUR_BYTES, bytes);
  }
  EXPECT_EQ(hak_medium_bytes(HAK_MEDIUM_COUNT - 1), HAK_MEDIUM_BYTES_MAX);
  EXPECT_EQ(hak_medium_usable(HAK_MEDIUM_COUNT - 1), HAK_MEDIUM_MAX);
}

// All requests at the edges of classes, and one per cache line in between.
TEST(Medium, EachRequestGetsTheSmallestClassThatServes) {
  uint32_t last = 0;
  for (size_t size = kFirst; size <= HAK_MEDIUM_MAX; size += size % 4096 < 128 ? 1 : 64) {
    const uint32_t class_id = hak_medium_class(size);
    ASSERT_LT(class_id, HAK_MEDIUM_COUNT) << size;
    ASSERT_EQ(class_id, ClassByTrying(size)) << size;
    ASSERT_GE(class_id, last) << size;
    last = class_id;
  }
  EXPECT_EQ(last, HAK_MEDIUM_COUNT - 1);
  for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
    EXPECT_EQ(hak_medium_class(hak_medium_usable(class_id)), class_id);
    if (class_id + 1 < HAK_MEDIUM_COUNT) {
      EXPECT_EQ(hak_medium_class(hak_medium_usable(class_id) + 1), class_id + 1);
    }
  }
}

TEST(Medium, TheFirstRequestBeyondSmallBlocksTakesNinePages) {
  EXPECT_LE(hak_medium_bytes(hak_medium_class(kFirst)), size_t{36864});
  // Rounding adds at most an eighth to a request of up to 1 MiB and its colour.
  for (size_t size = kFirst; size <= HAK_MEDIUM_MAX; size += 61) {
    const size_t bytes = hak_medium_bytes(hak_medium_class(size));
    ASSERT_LE((bytes - size - HAK_COLOUR_BYTES) * 8, size + HAK_COLOUR_BYTES) << size;
  }
}

TEST(Medium, WhatIsMedium) {
  EXPECT_EQ(hak_medium_is(HAK_MEDIUM_MAX), HAK_MEDIUM_ON);
  EXPECT_EQ(hak_medium_is(kFirst), HAK_MEDIUM_ON);
  EXPECT_FALSE(hak_medium_is(HAK_MEDIUM_MAX + 1));
  EXPECT_FALSE(hak_medium_is(SIZE_MAX));
}

TEST(Medium, GoodSizesNeverShrinkAndServe) {
  size_t last = 0;
  for (size_t size = kFirst; size < 3 * HAK_MEDIUM_BYTES_MAX; size += size % 4096 < 3 || size % 4096 > 4090 ? 1 : 509) {
    const size_t good = hak_large_good_size(size);
    ASSERT_GE(good, size);
    ASSERT_GE(good, last) << size;
    ASSERT_EQ(hak_large_good_size(good), good) << size;
    last = good;
  }
}

TEST(Medium, ATagSaysTheClassAndWhereTheBlockBegins) {
  for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
    for (size_t colour = 1; colour <= HAK_COLOURS; colour++) {
      const size_t front = colour * HAK_CACHE_LINE;
      const uint32_t tag = hak_medium_tag(class_id) | static_cast<uint32_t>(colour << 8);
      const auto *page = reinterpret_cast<const char *>(uintptr_t{7} << 30);
      ASSERT_NE(tag, 0u);
      ASSERT_EQ(tag & HAK_TAG_CACHED, 0u);
      ASSERT_EQ(hak_medium_class_of_tag(tag), class_id);
      ASSERT_TRUE(hak_medium_begins(tag, page + front));
      ASSERT_TRUE(hak_medium_begins(tag | HAK_TAG_CACHED, page + front));
      ASSERT_EQ(hak_medium_class_of_tag(tag | HAK_TAG_CACHED), class_id);
      ASSERT_FALSE(hak_medium_begins(tag, page));
      ASSERT_FALSE(hak_medium_begins(tag, page + front + 1));
      ASSERT_FALSE(hak_medium_begins(tag, page + front + 16));
      ASSERT_FALSE(hak_medium_begins(tag, page + front - HAK_CACHE_LINE));
    }
  }
  // No tag: no medium block begins there.
  EXPECT_FALSE(hak_medium_begins(0, nullptr));
  EXPECT_FALSE(hak_medium_begins(HAK_TAG_CACHED, nullptr));
}

TEST(Medium, AddressesThatThePageHeapNeverHadHaveNoTag) {
  int local;
  EXPECT_EQ(hak_page_entry_at(nullptr), nullptr);
  EXPECT_EQ(hak_page_entry_at(&local), nullptr);
  EXPECT_EQ(hak_page_entry_at(reinterpret_cast<const void *>(UINTPTR_MAX)), nullptr);
}

uint32_t TagAt(const void *block) {
  const HAK_ATOMIC(uint64_t) *entry = hak_page_entry_at(block);
  return entry != nullptr ? hak_page_tag(entry) : 0u;
}

// A freed block has no tag, also when its run merges with the free one in front of it.
TEST(Medium, TheTagOfAFreedBlockIsGone) {
  if (!HAK_MEDIUM_ON) GTEST_SKIP() << "no block is medium";
  std::vector<char *> blocks;
  for (int i = 0; i < 8; i++) {
    blocks.push_back(static_cast<char *>(hak_large_alloc(100000, 1, false, true)));
    ASSERT_NE(blocks.back(), nullptr);
  }
  for (char *block : blocks) {
    ASSERT_TRUE(hak_large_free(block));
    EXPECT_EQ(TagAt(block), 0u);
    EXPECT_EQ(hak_large_usable(block), 0u);
  }
}

// The tag of a block changes with the block.
TEST(Medium, TheTagOfALargeBlock) {
  if (!HAK_MEDIUM_ON) GTEST_SKIP() << "no block is medium";
  auto *block = static_cast<char *>(hak_large_alloc(100000, 1, false, true));
  ASSERT_NE(block, nullptr);
  const uint32_t tag = TagAt(block);
  EXPECT_TRUE(hak_medium_begins(tag, block));
  EXPECT_EQ(hak_medium_class_of_tag(tag), hak_medium_class(100000));
  EXPECT_EQ(hak_large_usable(block), hak_medium_usable(hak_medium_class(100000)));
  EXPECT_EQ(hak_large_usable(block + HAK_CACHE_LINE), 0u);
  EXPECT_EQ(TagAt(block + HAK_PAGE_SIZE), 0u);
  // Another class; then no class; then a class again.
  ASSERT_EQ(hak_large_resize(block, 40000, false), block);
  EXPECT_EQ(hak_medium_class_of_tag(TagAt(block)), hak_medium_class(40000));
  EXPECT_EQ(hak_large_usable(block), hak_medium_usable(hak_medium_class(40000)));
  auto *large = static_cast<char *>(hak_large_resize(block, 2 * HAK_MEDIUM_BYTES_MAX, false));
  if (large != nullptr) {
    EXPECT_EQ(TagAt(large), 0u);
    EXPECT_GE(hak_large_usable(large), 2 * HAK_MEDIUM_BYTES_MAX);
    ASSERT_EQ(hak_large_resize(large, 50000, false), block);
    EXPECT_EQ(hak_medium_class_of_tag(TagAt(block)), hak_medium_class(50000));
  }
  EXPECT_TRUE(hak_large_free(block));
  EXPECT_EQ(TagAt(block), 0u);
  EXPECT_EQ(hak_large_usable(block), 0u);
  // A block with an alignment begins at its page, and has no tag.
  block = static_cast<char *>(hak_large_alloc(100000, 4096, false, true));
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(TagAt(block), 0u);
  EXPECT_TRUE(hak_large_free(block));
}

}  // namespace
