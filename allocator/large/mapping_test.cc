// SPDX-License-Identifier: Apache-2.0
#include "allocator/large/mapping.h"

#include <gtest/gtest.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::IsMapped;
using hak_unit::IsZero;
using hak_unit::Random;

constexpr uint64_t kHour = uint64_t{3600} * 1000;
constexpr size_t kMiB = size_t{1} << 20;
const size_t kPage = hak_os_page_size();

class Mapping : public testing::Test {
 protected:
  Mapping() {
    hak_config.decommit_deadline_ms = kHour;
    hak_config.mapping_cache_bytes = 32 * kMiB;
  }
  ~Mapping() override {
    hak_mapping_trim();
    EXPECT_EQ(hak_mapping_verify(), nullptr);
    EXPECT_EQ(hak_mapping_totals().blocks, 0u);
    EXPECT_EQ(hak_mapping_totals().bytes, 0u);
    EXPECT_EQ(hak_mapping_totals().cached_bytes, 0u);
  }
};

// Of whole pages: a block without an alignment begins at a line of its first page, which colour_test looks at.
char *Take(size_t size, size_t align = kPage, bool *zero = nullptr) {
  bool ignored;
  return static_cast<char *>(hak_mapping_take(size, align, zero != nullptr ? zero : &ignored));
}

TEST_F(Mapping, IsWholePagesAlignedAndZero) {
  for (const size_t align : {kPage, 16 * kPage, 2 * kMiB, 64 * kMiB}) {
    for (const size_t size : {size_t{1}, kPage, kPage + 1, kMiB + 5}) {
      bool zero = false;
      char *block = Take(size, align, &zero);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % std::max(align, kPage), 0u);
      EXPECT_GE(hak_mapping_size(block), size);
      EXPECT_EQ(hak_mapping_size(block) % kPage, 0u);
      if (zero) {
        EXPECT_TRUE(IsZero(block, hak_mapping_size(block)));
      }
      memset(block, 1, hak_mapping_size(block));
      EXPECT_TRUE(hak_mapping_give(block));
    }
  }
}

TEST_F(Mapping, RefusesImpossibleRequests) {
  EXPECT_EQ(Take(SIZE_MAX), nullptr);
  EXPECT_EQ(Take(PTRDIFF_MAX), nullptr);
  EXPECT_EQ(Take(kPage, size_t{1} << 63), nullptr);
  EXPECT_EQ(Take(kPage, size_t{1} << 62), nullptr);
  EXPECT_EQ(hak_mapping_verify(), nullptr);
}

TEST_F(Mapping, OnlyAddressesOfLiveBlocksAreKnown) {
  char *block = Take(2 * kMiB);
  int local;
  for (char *other : {static_cast<char *>(nullptr), block + 1, block + kPage, block - kPage,
                      reinterpret_cast<char *>(&local), reinterpret_cast<char *>(UINTPTR_MAX)}) {
    EXPECT_EQ(hak_mapping_size(other), 0u);
    EXPECT_FALSE(hak_mapping_give(other));
    EXPECT_EQ(hak_mapping_resize(other, 5 * kMiB, true), nullptr);
  }
  EXPECT_TRUE(hak_mapping_give(block));
  EXPECT_FALSE(hak_mapping_give(block));
  EXPECT_EQ(hak_mapping_size(block), 0u);
  EXPECT_EQ(hak_mapping_resize(block, 5 * kMiB, true), nullptr);
}

TEST_F(Mapping, ResizesAndMovesWithTheContents) {
  char *block = Take(2 * kMiB);
  memset(block, 'x', 2 * kMiB);
  // Smaller always works in place.
  ASSERT_EQ(hak_mapping_resize(block, kMiB + 1, false), block);
  EXPECT_EQ(hak_mapping_size(block), hak_round_up(kMiB + 1, kPage));
  EXPECT_EQ(hak_mapping_verify(), nullptr);
  EXPECT_FALSE(IsMapped(block + 2 * kMiB - kPage, kPage));
  EXPECT_EQ(hak_mapping_resize(block, kMiB + 2, false), block) << "the same pages";
  char *moved = static_cast<char *>(hak_mapping_resize(block, 300 * kMiB, true));
  ASSERT_NE(moved, nullptr);
  EXPECT_EQ(hak_mapping_size(moved), 300 * kMiB);
  if (moved != block) {
    EXPECT_EQ(hak_mapping_size(block), 0u);
  }
  for (size_t i = 0; i <= kMiB; i++) ASSERT_EQ(moved[i], 'x');
  EXPECT_TRUE(IsZero(moved + 200 * kMiB, kPage));
  EXPECT_EQ(hak_mapping_totals().blocks, 1u);
  EXPECT_EQ(hak_mapping_totals().bytes, 300 * kMiB);
  EXPECT_EQ(hak_mapping_verify(), nullptr);
  EXPECT_EQ(hak_mapping_resize(moved, SIZE_MAX, true), nullptr);
  EXPECT_EQ(hak_mapping_resize(moved, PTRDIFF_MAX, true), nullptr);
  EXPECT_EQ(hak_mapping_size(moved), 300 * kMiB);
  EXPECT_TRUE(hak_mapping_give(moved));
}

TEST_F(Mapping, AResizeThatFailsChangesNothing) {
  char *block = Take(2 * kMiB);
  strcpy(block, "contents");
  const FaultPlan plan(HAK_FAULT_REMAP);
  EXPECT_EQ(hak_mapping_resize(block, 4 * kMiB, true), nullptr);
  EXPECT_EQ(hak_mapping_resize(block, kMiB, true), nullptr);
  EXPECT_EQ(hak_mapping_size(block), 2 * kMiB);
  EXPECT_STREQ(block, "contents");
  EXPECT_EQ(hak_mapping_verify(), nullptr);
  EXPECT_TRUE(hak_mapping_give(block));
}

TEST_F(Mapping, AFreedMappingIsUsedAgainForWhatNearlyFillsIt) {
  char *block = Take(8 * kMiB);
  memset(block, 7, kPage);
  ASSERT_TRUE(hak_mapping_give(block));
  EXPECT_EQ(hak_mapping_totals().cached_bytes, 8 * kMiB);
  const uint64_t calls = hak_os_totals().calls;
  bool zero = true;
  char *larger = Take(8 * kMiB + kPage, kPage, &zero);
  EXPECT_NE(larger, block);
  EXPECT_EQ(hak_os_totals().calls, calls + 1);
  char *smaller = Take(6 * kMiB, kPage, &zero);
  EXPECT_NE(smaller, block) << "would waste more than an eighth";
  EXPECT_EQ(hak_os_totals().calls, calls + 2);
  char *again = Take(8 * kMiB - 8 * kMiB / 9 + kPage, kPage, &zero);
  EXPECT_EQ(again, block);
  EXPECT_FALSE(zero);
  EXPECT_EQ(hak_os_totals().calls, calls + 2) << "without a call";
  EXPECT_EQ(hak_mapping_size(again), 8 * kMiB);
  EXPECT_EQ(hak_mapping_totals().cached_bytes, 0u);
  for (char *taken : {larger, smaller, again}) EXPECT_TRUE(hak_mapping_give(taken));
}

TEST_F(Mapping, TheClosestFitIsUsed) {
  char *large = Take(9 * kMiB);
  char *fitting = Take(8 * kMiB + 2 * kPage);
  ASSERT_TRUE(hak_mapping_give(fitting));
  ASSERT_TRUE(hak_mapping_give(large));
  char *again = Take(8 * kMiB + kPage);
  EXPECT_EQ(again, fitting);
  EXPECT_TRUE(hak_mapping_give(again));
}

TEST_F(Mapping, AMappingOfLesserAlignmentIsNotUsedAgain) {
  // Of two neighbours one at least is off 2 MiB.
  char *a = Take(2 * kMiB + kPage);
  char *b = Take(2 * kMiB + kPage);
  ASSERT_TRUE(hak_mapping_give(a));
  ASSERT_TRUE(hak_mapping_give(b));
  char *aligned = Take(2 * kMiB, 2 * kMiB);
  ASSERT_NE(aligned, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % (2 * kMiB), 0u);
  EXPECT_TRUE(hak_mapping_give(aligned));
}

TEST_F(Mapping, TheStoreIsBoundedInBytesAndNumber) {
  hak_config.mapping_cache_bytes = 5 * kMiB;
  std::vector<char *> blocks;
  for (int i = 0; i < 10; i++) blocks.push_back(Take(2 * kMiB));
  for (char *block : blocks) {
    EXPECT_TRUE(hak_mapping_give(block));
    EXPECT_LE(hak_mapping_totals().cached_bytes, 5 * kMiB);
  }
  EXPECT_EQ(hak_mapping_totals().cached_bytes, 4 * kMiB);
  EXPECT_EQ(hak_mapping_trim(), 4 * kMiB);
  hak_config.mapping_cache_bytes = 1000 * kMiB;
  blocks.clear();
  for (int i = 0; i < 40; i++) blocks.push_back(Take(2 * kMiB));
  for (char *block : blocks) EXPECT_TRUE(hak_mapping_give(block));
  EXPECT_EQ(hak_mapping_totals().cached_bytes, 16 * 2 * kMiB);
}

TEST_F(Mapping, WithoutAStoreOrADeadlineNothingIsKept) {
  const uint64_t mapped = hak_os_totals().mapped;
  hak_config.mapping_cache_bytes = 0;
  char *block = Take(2 * kMiB);
  EXPECT_TRUE(hak_mapping_give(block));
  EXPECT_FALSE(IsMapped(block, kPage));
  EXPECT_FALSE(IsMapped(block + 2 * kMiB - kPage, kPage));
  hak_config.mapping_cache_bytes = 32 * kMiB;
  hak_config.decommit_deadline_ms = 0;
  block = Take(2 * kMiB);
  EXPECT_TRUE(hak_mapping_give(block));
  EXPECT_FALSE(IsMapped(block, kPage));
  EXPECT_FALSE(IsMapped(block + 2 * kMiB - kPage, kPage));
  // Records may have needed a piece of memory.
  EXPECT_LE(hak_os_totals().mapped, mapped + kMiB);
}

TEST_F(Mapping, TheStoreIsEmptiedAfterTheDeadlineOneAtATime) {
  hak_config.decommit_deadline_ms = 100;
  char *blocks[3];
  for (char *&block : blocks) block = Take(2 * kMiB);
  for (char *block : blocks) EXPECT_TRUE(hak_mapping_give(block));
  hak_mapping_tick();
  EXPECT_EQ(hak_mapping_totals().cached_bytes, 6 * kMiB);
  usleep(150 * 1000);
  for (size_t left = 3; left > 0; left--) {
    EXPECT_EQ(hak_mapping_totals().cached_bytes, left * 2 * kMiB);
    hak_mapping_tick();
  }
  EXPECT_EQ(hak_mapping_totals().cached_bytes, 0u);
  for (char *block : blocks) EXPECT_FALSE(IsMapped(block, kPage));
}

// The limit on mappings: what cannot be unmapped stays ours, without memory, and is used or unmapped later.
TEST_F(Mapping, AnUnmapThatFailsIsTriedAgain) {
  hak_config.mapping_cache_bytes = 0;
  char *block = Take(4 * kMiB);
  memset(block, 9, 4 * kMiB);
  {
    const FaultPlan plan(HAK_FAULT_UNMAP);
    EXPECT_TRUE(hak_mapping_give(block));
    EXPECT_GE(hak_fault_hits(), 1u);
    EXPECT_EQ(hak_mapping_size(block), 0u) << "no longer the program's";
    EXPECT_TRUE(IsMapped(block, 4 * kMiB));
    EXPECT_LE(hak_unit::ResidentPages(block, 4 * kMiB), 1u);  // that of zeros
    EXPECT_EQ(hak_mapping_totals().cached_bytes, 0u);
    EXPECT_EQ(hak_mapping_verify(), nullptr);
    bool zero = false;
    EXPECT_EQ(Take(4 * kMiB, kPage, &zero), block);
    EXPECT_TRUE(zero);
    EXPECT_TRUE(IsZero(block, 4 * kMiB));
    EXPECT_TRUE(hak_mapping_give(block));
  }
  hak_mapping_trim();
  EXPECT_FALSE(IsMapped(block, kPage));
}

TEST_F(Mapping, AnUnmapAndADecommitThatFailKeepTheMemoryAndSayIt) {
  hak_config.mapping_cache_bytes = 0;
  char *block = Take(4 * kMiB);
  memset(block, 9, 4 * kMiB);
  {
    const FaultPlan plan(HAK_FAULT_UNMAP | HAK_FAULT_DECOMMIT);
    EXPECT_TRUE(hak_mapping_give(block));
    EXPECT_EQ(hak_mapping_totals().cached_bytes, 4 * kMiB);
    EXPECT_EQ(hak_mapping_verify(), nullptr);
    EXPECT_EQ(hak_mapping_trim(), 0u);
    EXPECT_EQ(hak_mapping_totals().cached_bytes, 4 * kMiB);
    bool zero = true;
    EXPECT_EQ(Take(4 * kMiB, kPage, &zero), block);
    EXPECT_FALSE(zero);
    EXPECT_TRUE(hak_mapping_give(block));
  }
  EXPECT_EQ(hak_mapping_trim(), 4 * kMiB);
  EXPECT_FALSE(IsMapped(block, kPage));
}

TEST_F(Mapping, TakesFailCleanlyAndRecover) {
  const uint64_t mapped = hak_os_totals().mapped;
  {
    const FaultPlan plan(HAK_FAULT_MAP);
    EXPECT_EQ(Take(2 * kMiB), nullptr);
    EXPECT_EQ(Take(2 * kMiB, 4 * kMiB), nullptr);
    EXPECT_EQ(hak_mapping_verify(), nullptr);
    EXPECT_EQ(hak_mapping_totals().blocks, 0u);
  }
  EXPECT_EQ(hak_os_totals().mapped, mapped);
  char *block = Take(2 * kMiB);
  EXPECT_NE(block, nullptr);
  EXPECT_TRUE(hak_mapping_give(block));
}

TEST_F(Mapping, EveryCallToTheKernelMayFail) {
  hak_config.decommit_deadline_ms = 0;
  for (uint64_t k = 1;; k++) {
    const FaultPlan plan(HAK_FAULT_ALL, k, 1);
    std::vector<char *> blocks;
    for (size_t i = 0; i < 4; i++) {
      char *block = Take((i + 2) * kMiB, i == 2 ? 8 * kMiB : 16);
      if (block != nullptr) blocks.push_back(block);
    }
    for (char *&block : blocks) {
      char *resized = static_cast<char *>(hak_mapping_resize(block, 7 * kMiB, true));
      if (resized != nullptr) block = resized;
    }
    ASSERT_EQ(hak_mapping_verify(), nullptr) << k;
    for (char *block : blocks) EXPECT_TRUE(hak_mapping_give(block));
    ASSERT_EQ(hak_mapping_verify(), nullptr) << k;
    const bool done = hak_fault_hits() == 0;
    hak_fault_clear();
    hak_mapping_trim();
    ASSERT_EQ(hak_mapping_totals().cached_bytes, 0u) << k;
    if (done) break;
    ASSERT_LT(k, 1000u);
  }
}

TEST_F(Mapping, ThousandsOfBlocksAreAllFound) {
  std::set<char *> blocks;
  constexpr uint64_t kBlocks = 5000;
  for (uint64_t i = 0; i < kBlocks; i++) {
    char *block = Take(kPage);
    ASSERT_NE(block, nullptr);
    ASSERT_TRUE(blocks.insert(block).second);
    if (i % 500 == 0) {
      ASSERT_EQ(hak_mapping_verify(), nullptr);
    }
  }
  EXPECT_EQ(hak_mapping_totals().blocks, kBlocks);
  EXPECT_EQ(hak_mapping_totals().bytes, kBlocks * kPage);
  EXPECT_EQ(hak_mapping_verify(), nullptr);
  for (char *block : blocks) ASSERT_EQ(hak_mapping_size(block), kPage);
  for (char *block : blocks) ASSERT_TRUE(hak_mapping_give(block));
  for (char *block : blocks) ASSERT_EQ(hak_mapping_size(block), 0u);
}

TEST_F(Mapping, ThreadsShareIt) {
  hak_config.decommit_deadline_ms = 1;
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([t, &failures] {
      Random random(static_cast<uint64_t>(t));
      std::vector<char *> mine;
      const char mark = static_cast<char>(t + 1);
      for (int i = 0; i < 300; i++) {
        if (mine.size() < 8 && !random.OneIn(3)) {
          char *block = Take(kPage * (1 + random.Below(40)));
          if (block == nullptr) {
            failures++;
            continue;
          }
          *block = mark;
          mine.push_back(block);
        } else if (!mine.empty()) {
          char *block = mine.back();
          char *resized = static_cast<char *>(hak_mapping_resize(block, kPage * (1 + random.Below(40)), true));
          if (resized != nullptr) block = resized;
          if (*block != mark || !hak_mapping_give(block)) failures++;
          mine.pop_back();
        }
        if (i % 16 == 0) hak_mapping_tick();
      }
      for (char *block : mine) hak_mapping_give(block);
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
}

}  // namespace
