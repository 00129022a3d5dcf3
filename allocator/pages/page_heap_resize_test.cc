// SPDX-License-Identifier: Apache-2.0
//
// Blocks that grow, shrink and move.
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "allocator/pages/unit_test.h"

namespace {

using hak_unit::CommittedBeside;
using hak_unit::FaultPlan;
using hak_unit::Give;
using hak_unit::IsMapped;
using hak_unit::IsZero;
using hak_unit::kMiB;
using hak_unit::kPage;
using hak_unit::PageHeap;
using hak_unit::Resize;
using hak_unit::SizeOf;
using hak_unit::Take;

TEST_F(PageHeap, ResizesAndMovesWithTheContents) {
  char *block = Take(2 * kMiB);
  memset(block, 'x', 2 * kMiB);
  // Smaller always works in place.
  ASSERT_EQ(Resize(block, kMiB + 1, false), block);
  EXPECT_EQ(SizeOf(block), hak_round_up(kMiB + 1, kPage));
  EXPECT_EQ(hak_page_heap_totals().cached_bytes, kMiB - kPage);
  EXPECT_EQ(Resize(block, kMiB + 2, false), block) << "the same pages";
  char *moved = Resize(block, 300 * kMiB, true);
  ASSERT_NE(moved, nullptr);
  EXPECT_EQ(SizeOf(moved), 300 * kMiB);
  if (moved != block) {
    EXPECT_EQ(SizeOf(block), 0u);
  }
  for (size_t i = 0; i <= kMiB; i++) ASSERT_EQ(moved[i], 'x');
  EXPECT_TRUE(IsZero(moved + 200 * kMiB, kPage));
  EXPECT_EQ(hak_page_heap_totals().blocks, 1u);
  EXPECT_EQ(hak_page_heap_totals().bytes, 300 * kMiB);
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  EXPECT_EQ(Resize(moved, SIZE_MAX / 2 - 65535, true), nullptr);
  EXPECT_EQ(Resize(moved, size_t{1} << 48, true), nullptr);
  EXPECT_EQ(SizeOf(moved), 300 * kMiB);
  EXPECT_TRUE(Give(moved));
}

TEST_F(PageHeap, GrowsInPlaceIntoFreePages) {
  char *block = Take(kMiB);
  char *hole = Take(2 * kMiB);
  char *wall = Take(kMiB);
  ASSERT_EQ(hole, block + kMiB);
  ASSERT_EQ(wall, hole + 2 * kMiB);
  EXPECT_EQ(Resize(block, kMiB + kPage, false), nullptr);
  ASSERT_TRUE(Give(hole));
  const uint64_t calls = hak_os_totals().calls;
  EXPECT_EQ(Resize(block, 3 * kMiB + kPage, false), nullptr) << "one page more than there is";
  EXPECT_EQ(Resize(block, kMiB + kPage, false), block);
  EXPECT_EQ(SizeOf(block), kMiB + kPage);
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  EXPECT_EQ(Resize(block, 3 * kMiB, false), block);
  EXPECT_EQ(hak_os_totals().calls, calls);
  EXPECT_EQ(hak_page_heap_totals().cached_bytes, 0u);
  EXPECT_EQ(SizeOf(hole), 0u);
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  for (char *taken : {block, wall}) ASSERT_TRUE(Give(taken));
}

// The kernel moves the pages: nothing is copied, so that only pages of records are faulted in.
TEST_F(PageHeap, PagesMoveWithoutACopy) {
  constexpr size_t kSize = 64 * kMiB;
  char *block = Take(kSize);
  char *wall = Take(kPage);
  for (size_t at = 0; at < kSize; at += kPage) block[at] = static_cast<char>(at / kPage);
  const auto faults = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
  };
  const long before = faults();
  char *moved = Resize(block, 2 * kSize, true);
  const long after = faults();
  ASSERT_NE(moved, nullptr);
  EXPECT_NE(moved, block);
  EXPECT_LT(after - before, static_cast<long>(kSize / HAK_PAGE_SIZE / 16));
  for (size_t at = 0; at < kSize; at += kPage) ASSERT_EQ(moved[at], static_cast<char>(at / kPage));
  EXPECT_FALSE(IsMapped(block, kPage)) << "the old addresses are the kernel's again";
  EXPECT_FALSE(IsMapped(block + kSize - kPage, kPage));
  for (char *taken : {wall, moved}) ASSERT_TRUE(Give(taken));
}

// Free pages that hold memory already take a copy: a move would drop their memory, and all would be touched anew.
TEST_F(PageHeap, WhereMemoryIsAlreadyABlockIsCopied) {
  constexpr size_t kSize = 2 * kMiB;
  char *room = Take(2 * kSize);
  char *wall = Take(kPage);
  memset(room, 'r', 2 * kSize);
  char *block = Take(kSize);
  char *behind = Take(kPage);
  for (size_t at = 0; at < kSize; at++) block[at] = static_cast<char>(at % 251);
  const uint64_t free_before = hak_page_heap_free_memory();
  ASSERT_TRUE(Give(room));
  char *moved = Resize(block, kSize + kMiB, true);
  ASSERT_EQ(moved, room);
  EXPECT_EQ(SizeOf(moved), kSize + kMiB);
  for (size_t at = 0; at < kSize; at++) ASSERT_EQ(moved[at], static_cast<char>(at % 251)) << at;
  // The rest of the room and the old pages are free, with their memory.
  EXPECT_TRUE(IsMapped(block, kSize));
  EXPECT_EQ(hak_page_heap_free_memory(), free_before + kMiB + kSize);
  EXPECT_FALSE(Give(block));
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  for (char *taken : {wall, moved, behind}) ASSERT_TRUE(Give(taken));
}

// A block that grows again and again gets more than it requested, so that it moves seldom.
TEST_F(PageHeap, WhatGrowsAgainMovesSeldom) {
  char *block = Take(2 * kMiB);
  int moves = 0;
  std::vector<char *> walls;
  for (size_t size = 2 * kMiB + kPage; size < 20 * kMiB; size += 64 * 1024) {
    if (SizeOf(block) >= size) continue;
    char *now = Resize(block, size, true);
    ASSERT_NE(now, nullptr);
    ASSERT_GE(SizeOf(now), size);
    if (now != block) {
      moves++;
      walls.push_back(Take(kPage));
    }
    block = now;
  }
  EXPECT_LE(moves, 40);
  for (char *wall : walls) ASSERT_TRUE(Give(wall));
  ASSERT_TRUE(Give(block));
}

// A tag stands for one size of run, which is what statistics count.
TEST_F(PageHeap, WhatHasATagGetsItsSize) {
  char *block = Take(2 * kMiB);
  char *behind = Take(kMiB);
  ASSERT_EQ(behind, block + 2 * kMiB);
  char *wall = Take(kPage);
  ASSERT_TRUE(Give(behind));
  ASSERT_EQ(hak_page_heap_resize(block, 3 * kMiB, 0, false), block);
  char *moved = static_cast<char *>(hak_page_heap_resize(block, 4 * kMiB, 7, true));
  ASSERT_NE(moved, block);
  EXPECT_EQ(SizeOf(moved), 4 * kMiB);
  const auto fits = [](uint32_t tag, size_t size) { return tag == 0 || (tag == 7 && size == 4 * kMiB); };
  EXPECT_STREQ(hak_page_heap_check(fits), nullptr);
  EXPECT_STREQ(hak_page_heap_check([](uint32_t tag, size_t) { return tag == 0; }),
               "run of another size than its tag stands for");
  for (char *taken : {wall, moved}) ASSERT_TRUE(Give(taken));
}

TEST_F(PageHeap, SmallBlocksDoNotMove) {
  char *block = Take(4 * kPage);
  char *wall = Take(kPage);
  EXPECT_EQ(Resize(block, 64 * kPage, true), nullptr);
  EXPECT_EQ(SizeOf(block), 4 * kPage);
  for (char *taken : {block, wall}) ASSERT_TRUE(Give(taken));
}

// Pages behind it were returned, so the block's last chunk is in small pages: two mappings of the kernel.
TEST_F(PageHeap, ABlockInTwoMappingsMoves) {
  hak_config.huge_pages = HAK_HUGE_PAGES_ON;
  for (const uint64_t failing : {0u, 1u, 2u}) {
    constexpr size_t kSize = 21 * kMiB;
    char *block = Take(kSize);
    memset(block, 'x', kSize);
    char *behind = Take(kMiB / 2);
    memset(behind, 'y', kMiB / 2);
    char *wall = Take(kMiB);
    ASSERT_TRUE(Give(behind));
    EXPECT_GE(hak_page_heap_trim(), kMiB / 2);
    const FaultPlan plan(failing != 0 ? HAK_FAULT_REMAP : 0, failing, 1);
    char *moved = Resize(block, 40 * kMiB, true);
    // A block of this size is copied by the caller if not even its first part moves.
    if (failing == 1) {
      ASSERT_EQ(moved, nullptr);
      moved = block;
    } else {
      ASSERT_NE(moved, nullptr) << failing;
      EXPECT_NE(moved, block);
      EXPECT_EQ(SizeOf(moved), 40 * kMiB);
    }
    EXPECT_EQ(std::count(moved, moved + kSize, 'x'), static_cast<std::ptrdiff_t>(kSize)) << failing;
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    if (moved != block) {
      EXPECT_FALSE(IsMapped(block, kSize)) << failing;
    }
    EXPECT_TRUE(Give(moved));
    EXPECT_TRUE(Give(wall));
    hak_page_heap_trim();
  }
}

TEST_F(PageHeap, AMoveThatFailsChangesNothing) {
  constexpr size_t kSize = 20 * kMiB;  // more than is copied
  char *block = Take(kSize, 0, 1);
  char *wall = Take(kPage);
  strcpy(block, "contents");
  const uint64_t committed = CommittedBeside(kSize + kPage);
  const FaultPlan plan(HAK_FAULT_REMAP);
  EXPECT_EQ(Resize(block, 40 * kMiB, true), nullptr);
  EXPECT_GE(hak_fault_hits(), 1u);
  EXPECT_EQ(SizeOf(block), kSize);
  EXPECT_STREQ(block, "contents");
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  EXPECT_EQ(CommittedBeside(kSize + kPage), committed);
  // The range that was meant as the new place is clean.
  char *other = Take(30 * kMiB, 0, 0, false);
  ASSERT_NE(other, nullptr);
  hak_page_map_clear(other, 30 * kMiB);
  EXPECT_TRUE(IsZero(other, 30 * kMiB));
  for (char *taken : {block, wall, other}) ASSERT_TRUE(Give(taken));
}

TEST_F(PageHeap, AfterAMoveThatFailsABlockIsCopied) {
  char *block = Take(2 * kMiB, 0, 1);
  char *wall = Take(kPage);
  memset(block, 'x', kMiB);
  const FaultPlan plan(HAK_FAULT_REMAP);
  char *moved = Resize(block, 40 * kMiB, true);
  EXPECT_GE(hak_fault_hits(), 1u);
  ASSERT_NE(moved, nullptr);
  EXPECT_EQ(SizeOf(moved), 40 * kMiB);
  for (size_t at = 0; at < kMiB; at++) ASSERT_EQ(moved[at], 'x') << at;
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  for (char *taken : {moved, wall}) ASSERT_TRUE(Give(taken));
}

}  // namespace
