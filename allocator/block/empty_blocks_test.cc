// SPDX-License-Identifier: Apache-2.0
//
// Blocks of size 0 work in every profile; HARDENED uses them.
#include "allocator/block/empty_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/unit_test.h"

namespace {

using hak_unit::FaultPlan;

// Must run first: the range is mapped once.
TEST(EmptyBlocks, AAreNoneWithoutMemory) {
  for (uint64_t nth = 1; nth <= 2; nth++) {
    const FaultPlan plan(HAK_FAULT_MAP);
    EXPECT_EQ(hak_empty_take(16), nullptr);
    EXPECT_EQ(hak_empty_count(), 0u);
  }
  int local = 0;
  EXPECT_EQ(hak_empty_state_of(&local), HAK_EMPTY_FOREIGN);
  EXPECT_EQ(hak_empty_give(&local), HAK_EMPTY_FOREIGN);
}

TEST(EmptyBlocks, AreAlignedDifferentAndUntouchable) {
  std::set<void *> seen;
  for (const size_t align : {size_t{1}, size_t{16}, size_t{64}, size_t{4096}, size_t{65536}, size_t{1} << 21}) {
    for (int i = 0; i < 3; i++) {
      void *block = hak_empty_take(align);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % std::max(align, size_t{16}), 0u);
      EXPECT_TRUE(seen.insert(block).second);
      EXPECT_FALSE(hak_unit::IsReadable(block));
      EXPECT_EQ(hak_empty_state_of(block), HAK_EMPTY_LIVE);
      EXPECT_EQ(hak_empty_state_of(static_cast<char *>(block) + 8), HAK_EMPTY_FOREIGN);
    }
  }
  EXPECT_EQ(hak_empty_take(HAK_EMPTY_BYTES), nullptr);
  EXPECT_EQ(hak_empty_count(), seen.size());
  for (void *block : seen) {
    EXPECT_EQ(hak_empty_give(block), HAK_EMPTY_LIVE);
    EXPECT_EQ(hak_empty_state_of(block), HAK_EMPTY_FREED);
    EXPECT_EQ(hak_empty_give(block), HAK_EMPTY_FREED);
  }
  EXPECT_EQ(hak_empty_count(), 0u);
}

TEST(EmptyBlocks, RememberTheirKindUntilTheAddressIsUsedAgain) {
  void *first = hak_empty_take(16);
  void *second = hak_empty_take(16);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(hak_empty_kind(first), 0);
  hak_empty_set_kind(first, 3);
  EXPECT_EQ(hak_empty_kind(first), 3);
  EXPECT_EQ(hak_empty_kind(second), 0);
  EXPECT_EQ(hak_empty_give(second), HAK_EMPTY_LIVE);
  EXPECT_EQ(hak_empty_give(first), HAK_EMPTY_LIVE);
  void *again = nullptr;
  for (size_t i = 0; i <= HAK_EMPTY_BLOCKS && again != first; i++) {
    again = hak_empty_take(16);
    EXPECT_EQ(hak_empty_kind(again), 0);
    EXPECT_EQ(hak_empty_give(again), HAK_EMPTY_LIVE);
  }
  EXPECT_EQ(again, first);
  int local = 0;
  hak_empty_set_kind(&local, 3);
  EXPECT_EQ(hak_empty_kind(&local), 0);
}

// The live blocks in the order of their addresses, by hak_empty_next.
std::vector<void *> Walk() {
  std::vector<void *> blocks;
  // One more than there are, if it gives others too.
  for (void *block = nullptr; blocks.size() <= hak_empty_count() && (block = hak_empty_next(block)) != nullptr;) {
    blocks.push_back(block);
  }
  return blocks;
}

TEST(EmptyBlocks, AWalkGivesTheLiveOnesInOrder) {
  EXPECT_EQ(Walk(), std::vector<void *>());
  hak_unit::Random random(5);
  std::set<void *> live;
  // Alone in their word, first or last of it, side by side, and wherever else they come.
  for (const size_t align : {size_t{1}, size_t{16}, size_t{1024}, size_t{4096}, size_t{65536}}) {
    for (int i = 0; i < 100; i++) {
      void *block = hak_empty_take(align);
      ASSERT_NE(block, nullptr);
      live.insert(block);
    }
    EXPECT_EQ(Walk(), std::vector<void *>(live.begin(), live.end())) << align;
  }
  while (!live.empty()) {
    for (auto at = live.begin(); at != live.end();) {
      if (random.OneIn(2)) {
        hak_empty_give(*at);
        at = live.erase(at);
      } else {
        ++at;
      }
    }
    EXPECT_EQ(Walk(), std::vector<void *>(live.begin(), live.end()));
  }
}

TEST(EmptyBlocks, AnAddressComesBackOnlyAfterAllOthers) {
  void *first = hak_empty_take(16);
  hak_empty_give(first);
  size_t others = 0;
  for (void *block; (block = hak_empty_take(16)) != first; others++) hak_empty_give(block);
  hak_empty_give(first);
  EXPECT_EQ(others, HAK_EMPTY_BLOCKS - 1);
}

TEST(EmptyBlocks, AreBounded) {
  std::vector<void *> blocks;
  for (void *block; (block = hak_empty_take(16)) != nullptr;) blocks.push_back(block);
  EXPECT_EQ(blocks.size(), HAK_EMPTY_BLOCKS / 8 * 7);
  hak_empty_give(blocks.back());
  blocks.back() = hak_empty_take(16);
  EXPECT_NE(blocks.back(), nullptr);
  for (void *block : blocks) hak_empty_give(block);
  EXPECT_EQ(hak_empty_count(), 0u);
}

TEST(EmptyBlocks, NoTwoThreadsGetTheSame) {
  std::vector<std::vector<void *>> blocks(4);
  std::vector<std::thread> threads;
  for (std::vector<void *> &mine : blocks) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < 20000; i++) {
        mine.push_back(hak_empty_take(16));
        if (i % 3 == 0) {
          hak_empty_give(mine.back());
          mine.pop_back();
        }
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  std::set<void *> seen;
  for (const std::vector<void *> &mine : blocks) {
    for (void *block : mine) EXPECT_TRUE(seen.insert(block).second);
  }
  EXPECT_EQ(hak_empty_count(), seen.size());
  for (void *block : seen) hak_empty_give(block);
}

}  // namespace
