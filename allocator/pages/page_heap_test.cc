// SPDX-License-Identifier: Apache-2.0
#include "allocator/pages/page_heap.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <set>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/free_runs.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/page_map.h"
#include "allocator/pages/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"

namespace {

using hak_unit::CommittedBeside;
using hak_unit::FaultPlan;
using hak_unit::Give;
using hak_unit::IsMapped;
using hak_unit::IsZero;
using hak_unit::kHour;
using hak_unit::kMiB;
using hak_unit::kPage;
using hak_unit::PageHeap;
using hak_unit::Random;
using hak_unit::ResidentPages;
using hak_unit::Resize;
using hak_unit::SizeOf;
using hak_unit::Take;

TEST_F(PageHeap, BlocksAreWholePagesAligned) {
  for (size_t align = kPage; align <= 64 * kMiB; align *= 2) {
    for (const size_t size : {kPage, 2 * kPage, 9 * kPage, kMiB, 2 * kMiB, 2 * kMiB + kPage, 5 * kMiB}) {
      char *block = Take(size, align);
      ASSERT_NE(block, nullptr);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(block) % align, 0u);
      ASSERT_EQ(SizeOf(block), size);
      ASSERT_TRUE(IsMapped(block, size));
      block[0] = block[size - 1] = 1;
      ASSERT_STREQ(hak_page_heap_verify(), nullptr);
      ASSERT_TRUE(Give(block));
    }
  }
  // 64 MiB at a multiple of 64 MiB needs at most twice that.
  EXPECT_LE(hak_page_heap_totals().mapped_bytes, 160 * kMiB);
}

TEST_F(PageHeap, RefusesImpossibleRequests) {
  for (const size_t size : {SIZE_MAX / 2 + 1 - 65536, size_t{1} << 62, size_t{1} << 48}) {
    EXPECT_EQ(Take(size), nullptr);
    EXPECT_EQ(Take(size, 64 * kMiB), nullptr);
  }
  EXPECT_EQ(Take(kPage, size_t{1} << 63), nullptr);
  EXPECT_EQ(Take(kPage, size_t{1} << 62), nullptr);
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
}

TEST_F(PageHeap, AFrontIsWhereTheBlockBegins) {
  char *block = Take(2 * kMiB, 0, 1);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % kPage, 64u);
  EXPECT_EQ(hak_page_heap_look(block).front, 64u);
  EXPECT_EQ(SizeOf(block - 64), 0u);
  EXPECT_FALSE(Give(block - 64));
  EXPECT_EQ(Resize(block - 64, 3 * kMiB, true), nullptr);
  EXPECT_EQ(Resize(block, kMiB, true), block);
  strcpy(block, "contents");
  char *moved = Resize(block, 70 * kMiB, true);
  ASSERT_NE(moved, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(moved) % kPage, 64u);
  EXPECT_STREQ(moved, "contents");
  EXPECT_TRUE(Give(moved));
}

TEST_F(PageHeap, OnlyAddressesOfLiveBlocksAreKnown) {
  char *block = Take(2 * kMiB);
  int local;
  for (char *other : {static_cast<char *>(nullptr), block + 1, block + kPage, block - kPage, block + 2 * kMiB - kPage,
                      reinterpret_cast<char *>(&local), reinterpret_cast<char *>(UINTPTR_MAX)}) {
    EXPECT_EQ(SizeOf(other), 0u);
    EXPECT_FALSE(Give(other));
    EXPECT_EQ(Resize(other, 5 * kMiB, true), nullptr);
  }
  EXPECT_TRUE(Give(block));
  EXPECT_FALSE(Give(block));
  EXPECT_EQ(SizeOf(block), 0u);
  EXPECT_EQ(Resize(block, 5 * kMiB, true), nullptr);
}

TEST_F(PageHeap, TotalsAreOfLiveAndFreeRuns) {
  char *a = Take(3 * kMiB);
  char *b = Take(kMiB, 0, 1);
  struct hak_page_heap_totals totals = hak_page_heap_totals();
  EXPECT_EQ(totals.blocks, 2u);
  // With a front, a part of the run is not usable.
  EXPECT_LT(totals.bytes, 4 * kMiB);
  EXPECT_GE(totals.bytes, 4 * kMiB - 4096);
  EXPECT_EQ(totals.cached_bytes, 0u);
  EXPECT_EQ(totals.mapped_bytes, totals.free_bytes + 4 * kMiB);
  ASSERT_TRUE(Give(a));
  totals = hak_page_heap_totals();
  EXPECT_EQ(totals.blocks, 1u);
  EXPECT_EQ(totals.cached_bytes, 3 * kMiB);
  EXPECT_EQ(hak_page_heap_free_memory(), 3 * kMiB);
  EXPECT_EQ(totals.mapped_bytes, totals.free_bytes + kMiB);
  ASSERT_TRUE(Give(b));
}

// A child that was created without fork handlers may inherit lists that a thread which does not exist there was
// changing.
TEST_F(PageHeap, StartsAnewWhereTheLocksHolderDoesNotExist) {
  std::vector<char *> blocks;
  for (int i = 0; i < 40; i++) {
    blocks.push_back(Take(static_cast<size_t>(i % 5 + 1) * kMiB));
    ASSERT_NE(blocks.back(), nullptr);
    blocks.back()[0] = static_cast<char>(i);
  }
  for (size_t i = 0; i < blocks.size(); i += 2) ASSERT_TRUE(Give(blocks[i]));
  const int result = hak_unit::ResultInChild([&blocks] {
    hak_unit::LoseHolder(&hak_mapping_mutex);
    hak_run_for_each(
        [](const hak_run *run, void *) {
          if (run->state != HAK_RUN_FREE) return;
          hak_run *half = const_cast<hak_run *>(run);
          half->left = half->right = half->older = half->newer = reinterpret_cast<hak_run *>(8);
        },
        nullptr);
    char *first = Take(kMiB);
    if (first == nullptr || !IsZero(first, kMiB) || hak_page_heap_verify() != nullptr) return 1;
    if (hak_page_heap_totals().blocks != blocks.size() / 2 + 1 || hak_page_heap_totals().cached_bytes != 0) return 2;
    memset(first, 1, kMiB);
    for (size_t i = 1; i < blocks.size(); i += 2) {
      if (blocks[i][0] != static_cast<char>(i)) return 3;
      char *larger = Resize(blocks[i], SizeOf(blocks[i]) + kMiB, true);
      if (!Give(larger != nullptr ? larger : blocks[i])) return 4;
    }
    std::vector<char *> more;
    for (int i = 0; i < 40; i++) more.push_back(Take(static_cast<size_t>(i % 7 + 1) * kMiB));
    for (char *block : more) {
      if (block == first || !Give(block)) return 5;
    }
    if (first[kMiB - 1] != 1 || !Give(first)) return 6;
    hak_page_heap_trim();
    return hak_page_heap_verify() == nullptr && hak_page_heap_totals().blocks == 0 ? 0 : 7;
  });
  EXPECT_EQ(result, 0);
  for (size_t i = 1; i < blocks.size(); i += 2) EXPECT_TRUE(Give(blocks[i]));
}

// ---- Which pages ----------------------------------------------------------------------------------

TEST_F(PageHeap, AHoleIsUsedBeforeNewAddresses) {
  std::vector<char *> blocks;
  for (int i = 0; i < 16; i++) blocks.push_back(Take(kMiB));
  const uint64_t mapped = hak_page_heap_totals().mapped_bytes;
  // The second hole fits exactly; the first one is larger and lower.
  for (const size_t i : {2u, 3u, 8u}) ASSERT_TRUE(Give(blocks[i]));
  const uint64_t calls = hak_os_totals().calls;
  char *again = Take(kMiB);
  EXPECT_EQ(again, blocks[8]);
  char *both = Take(2 * kMiB);
  EXPECT_EQ(both, std::min(blocks[2], blocks[3])) << "two freed neighbours are one run";
  EXPECT_EQ(hak_os_totals().calls, calls) << "without a call";
  EXPECT_EQ(hak_page_heap_totals().mapped_bytes, mapped);
  EXPECT_EQ(hak_page_heap_totals().cached_bytes, 0u);
  ASSERT_TRUE(Give(again));
  ASSERT_TRUE(Give(both));
  for (size_t i = 0; i < blocks.size(); i++) {
    if (i != 2 && i != 3 && i != 8) {
      ASSERT_TRUE(Give(blocks[i]));
    }
  }
}

TEST_F(PageHeap, APartOfAHoleServesToo) {
  char *block = Take(8 * kMiB);
  char *wall = Take(kPage);
  ASSERT_TRUE(Give(block));
  char *smaller = Take(6 * kMiB + kPage);
  EXPECT_EQ(smaller, block);
  EXPECT_EQ(SizeOf(smaller), 6 * kMiB + kPage);
  char *rest = Take(2 * kMiB - kPage, 0, 0, false);
  EXPECT_EQ(rest, block + 6 * kMiB + kPage);
  for (char *taken : {wall, smaller, rest}) ASSERT_TRUE(Give(taken));
}

TEST_F(PageHeap, WithoutLeaveToGrowOnlyFreeRunsServe) {
  EXPECT_EQ(Take(kPage, 0, 0, false), nullptr);
  EXPECT_EQ(hak_page_heap_totals().mapped_bytes, 0u);
  char *block = Take(kPage);
  const uint64_t mapped = hak_page_heap_totals().mapped_bytes;
  EXPECT_EQ(Take(mapped, 0, 0, false), nullptr);
  char *rest = Take(mapped - kPage, 0, 0, false);
  EXPECT_NE(rest, nullptr) << "the whole rest of the range";
  EXPECT_EQ(Take(kPage, 0, 0, false), nullptr);
  EXPECT_EQ(hak_page_heap_totals().mapped_bytes, mapped);
  EXPECT_TRUE(Give(block));
  EXPECT_TRUE(Give(rest));
}

// A free run at the end of the heap becomes a part of the next block.
TEST_F(PageHeap, TheHeapGrowsFromItsFreeEnd) {
  char *block = Take(4 * kMiB);
  ASSERT_TRUE(Give(block));
  const uint64_t mapped = hak_page_heap_totals().mapped_bytes;
  char *larger = Take(mapped + 4 * kMiB);
  EXPECT_EQ(hak_page_heap_totals().mapped_bytes, mapped + 4 * kMiB);
  EXPECT_TRUE(Give(larger));
}

TEST_F(PageHeap, ThousandsOfBlocksAreAllFound) {
  std::set<char *> blocks;
  constexpr uint64_t kBlocks = 5000;
  for (uint64_t i = 0; i < kBlocks; i++) {
    char *block = Take(kPage);
    ASSERT_NE(block, nullptr);
    ASSERT_TRUE(blocks.insert(block).second);
    if (i % 500 == 0) {
      ASSERT_STREQ(hak_page_heap_verify(), nullptr);
    }
  }
  EXPECT_EQ(hak_page_heap_totals().blocks, kBlocks);
  EXPECT_EQ(hak_page_heap_totals().bytes, kBlocks * kPage);
  for (char *block : blocks) ASSERT_EQ(SizeOf(block), kPage);
  for (char *block : blocks) ASSERT_TRUE(Give(block));
  for (char *block : blocks) ASSERT_EQ(SizeOf(block), 0u);
  EXPECT_EQ(hak_page_heap_totals().cached_bytes, kBlocks * kPage);
}

// ---- Contents -------------------------------------------------------------------------------------

TEST_F(PageHeap, FreshPagesAreCleanAndFreedOnesAreCleared) {
  char *block = Take(4 * kMiB);
  EXPECT_TRUE(IsZero(block, 4 * kMiB));
  hak_page_map_clear(block, 4 * kMiB);
  EXPECT_EQ(ResidentPages(block, 4 * kMiB), 4 * kMiB / kPage) << "read above";
  ASSERT_TRUE(Give(block));
  hak_page_heap_trim();
  block = Take(4 * kMiB);
  hak_page_map_clear(block, 4 * kMiB);
  EXPECT_EQ(ResidentPages(block, 4 * kMiB), 0u) << "no page is touched that is zero already";
  memset(block, 0xAB, 4 * kMiB);
  ASSERT_TRUE(Give(block));
  char *again = Take(4 * kMiB);
  EXPECT_EQ(again, block);
  EXPECT_EQ(again[0], static_cast<char>(0xAB)) << "nobody cleared it";
  hak_page_map_clear(again, 3 * kMiB);
  EXPECT_TRUE(IsZero(again, 3 * kMiB));
  EXPECT_EQ(again[3 * kMiB], static_cast<char>(0xAB));
  ASSERT_TRUE(Give(again));
}

// Some pages of the block are fresh and others were used.
TEST_F(PageHeap, OfAMixedRunOnlyTheUsedPagesAreCleared) {
  char *block = Take(8 * kMiB);
  char *wall = Take(2 * kMiB);
  ASSERT_EQ(hak_page_heap_totals().free_bytes, 0u);
  ASSERT_TRUE(Give(block));
  {
    const FaultPlan plan(HAK_FAULT_UNMAP);
    hak_page_heap_trim();
  }
  char *part = Take(kMiB);
  ASSERT_EQ(part, block) << "its addresses stayed";
  memset(part, 1, kMiB);
  ASSERT_TRUE(Give(part));
  block = Take(8 * kMiB);
  ASSERT_EQ(block, part);
  hak_page_map_clear(block, 8 * kMiB);
  EXPECT_EQ(ResidentPages(block, 8 * kMiB), kMiB / kPage);
  EXPECT_TRUE(IsZero(block, 8 * kMiB));
  for (char *taken : {wall, block}) ASSERT_TRUE(Give(taken));
}

// ---- Giving back ----------------------------------------------------------------------------------

TEST_F(PageHeap, TrimReturnsMemoryAndAddresses) {
  char *block = Take(40 * kMiB);
  char *wall = Take(kPage);
  char *small = Take(kMiB);
  memset(block, 1, 40 * kMiB);
  memset(small, 1, kMiB);
  const uint64_t resident = hak_os_resident_bytes();
  ASSERT_TRUE(Give(block));
  ASSERT_TRUE(Give(small));
  EXPECT_EQ(hak_page_heap_free_memory(), 41 * kMiB);
  EXPECT_EQ(hak_page_heap_trim(), 41 * kMiB);
  EXPECT_EQ(hak_page_heap_free_memory(), 0u);
  EXPECT_EQ(hak_page_heap_trim(), 0u);
  if (!hak_test::kSlowBuild) {
    EXPECT_LE(hak_os_resident_bytes() + 38 * kMiB, resident);
  }
  EXPECT_FALSE(IsMapped(block, kPage));
  EXPECT_FALSE(IsMapped(block + 40 * kMiB - kPage, kPage));
  EXPECT_EQ(SizeOf(wall), kPage);
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  ASSERT_TRUE(Give(wall));
}

TEST_F(PageHeap, WithoutABoundOrADeadlineNothingIsKept) {
  for (const bool bound : {true, false}) {
    hak_config.mapping_cache_bytes = bound ? 0 : 32 * kMiB;
    hak_config.decommit_deadline_ms = bound ? kHour : 0;
    char *block = Take(2 * kMiB);
    memset(block, 1, 2 * kMiB);
    EXPECT_TRUE(Give(block));
    EXPECT_EQ(hak_page_heap_free_memory(), 0u);
    if (IsMapped(block, 2 * kMiB)) {
      EXPECT_LE(ResidentPages(block, 2 * kMiB), 1u) << "that of zeros";
    }
    char *again = Take(2 * kMiB);
    hak_page_map_clear(again, 2 * kMiB);
    EXPECT_TRUE(IsZero(again, 2 * kMiB));
    EXPECT_TRUE(Give(again));
  }
}

// The limit on mappings: a range that cannot be unmapped stays in the heap, without memory, and is used or unmapped
// later.
TEST_F(PageHeap, AnUnmapThatFailsIsTriedAgain) {
  char *block = Take(4 * kMiB);
  memset(block, 9, 4 * kMiB);
  {
    const FaultPlan plan(HAK_FAULT_UNMAP);
    EXPECT_TRUE(Give(block));
    EXPECT_EQ(hak_page_heap_trim(), 4 * kMiB);
    EXPECT_GE(hak_fault_hits(), 1u);
    EXPECT_TRUE(IsMapped(block, 4 * kMiB));
    EXPECT_LE(ResidentPages(block, 4 * kMiB), 1u);  // the zero page
    EXPECT_EQ(hak_page_heap_free_memory(), 0u);
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    EXPECT_EQ(Take(4 * kMiB, 0, 0, false), block);
    hak_page_map_clear(block, 4 * kMiB);
    EXPECT_TRUE(IsZero(block, 4 * kMiB));
    EXPECT_TRUE(Give(block));
  }
  hak_page_heap_trim();
  EXPECT_FALSE(IsMapped(block, kPage));
}

TEST_F(PageHeap, AnUnmapAndADecommitThatFailKeepTheMemoryAndSayIt) {
  char *block = Take(4 * kMiB);
  memset(block, 9, 4 * kMiB);
  {
    const FaultPlan plan(HAK_FAULT_UNMAP | HAK_FAULT_DECOMMIT);
    EXPECT_TRUE(Give(block));
    EXPECT_EQ(hak_page_heap_trim(), 0u);
    EXPECT_EQ(hak_page_heap_free_memory(), 4 * kMiB);
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    EXPECT_EQ(hak_page_heap_trim(), 0u);
    EXPECT_EQ(Take(4 * kMiB, 0, 0, false), block);
    hak_page_map_clear(block, 4 * kMiB);
    EXPECT_TRUE(IsZero(block, 4 * kMiB));
    EXPECT_TRUE(Give(block));
  }
  EXPECT_EQ(hak_page_heap_trim(), 4 * kMiB);
  EXPECT_FALSE(IsMapped(block, kPage));
}

TEST_F(PageHeap, ARunThatIsRefusedCountsNothingAsReturned) {
  char *first = Take(4 * kMiB);
  char *second = Take(4 * kMiB);
  ASSERT_EQ(second, first + 4 * kMiB);
  {
    const FaultPlan plan(HAK_FAULT_UNMAP);
    EXPECT_TRUE(Give(second));
    EXPECT_EQ(hak_page_heap_trim(), 4 * kMiB);
  }
  EXPECT_TRUE(Give(first));
  EXPECT_EQ(hak_page_heap_free_memory(), 4 * kMiB);  // half of the run
  {
    const FaultPlan plan(HAK_FAULT_UNMAP | HAK_FAULT_DECOMMIT);
    EXPECT_EQ(hak_page_heap_trim(), 0u);
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  }
  EXPECT_GE(hak_page_heap_trim(), 4 * kMiB);
  EXPECT_EQ(hak_page_heap_free_memory(), 0u);
}

TEST_F(PageHeap, AnUnmapThatFailsInTheMiddleKeepsTheRest) {
  char *block = Take(40 * kMiB);
  memset(block, 9, 40 * kMiB);
  ASSERT_TRUE(Give(block));
  for (uint64_t k = 1; k <= 4; k++) {
    const FaultPlan plan(HAK_FAULT_UNMAP, k, 1);
    hak_page_heap_trim();
    ASSERT_STREQ(hak_page_heap_verify(), nullptr) << k;
    ASSERT_EQ(hak_page_heap_free_memory(), 0u);
    char *again = Take(40 * kMiB);
    hak_page_map_clear(again, 40 * kMiB);
    ASSERT_TRUE(IsZero(again, 40 * kMiB)) << k;
    memset(again, 9, 40 * kMiB);
    ASSERT_TRUE(Give(again));
  }
}

TEST_F(PageHeap, TicksDoNothingBeforeTheDeadline) {
  char *block = Take(4 * kMiB);
  ASSERT_TRUE(Give(block));
  const uint64_t calls = hak_os_totals().calls;
  EXPECT_FALSE(hak_page_heap_tick(hak_os_now_ms()));
  EXPECT_EQ(hak_os_totals().calls, calls);
  EXPECT_EQ(hak_page_heap_free_memory(), 4 * kMiB);
}

// ---- The limit ------------------------------------------------------------------------------------

TEST_F(PageHeap, NothingIsTakenBeyondTheLimit) {
  char *first = Take(kMiB);
  hak_config.memory_limit_bytes = hak_commit_now() + 16 * kMiB;
  hak_limit_changed();
  char *block = Take(12 * kMiB);
  ASSERT_NE(block, nullptr);
  const uint64_t mapped = hak_page_heap_totals().mapped_bytes;
  EXPECT_EQ(Take(12 * kMiB), nullptr);
  EXPECT_EQ(hak_page_heap_totals().mapped_bytes, mapped);
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  // Freed memory counts until it is returned. If it is used again, it is not counted twice.
  ASSERT_TRUE(Give(block));
  block = Take(12 * kMiB);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(Resize(block, 40 * kMiB, true), nullptr);
  EXPECT_EQ(SizeOf(block), 12 * kMiB);
  ASSERT_TRUE(Give(block));
  hak_page_heap_trim();
  block = Take(12 * kMiB);
  EXPECT_NE(block, nullptr);
  EXPECT_TRUE(Give(block));
  EXPECT_TRUE(Give(first));
}

TEST_F(PageHeap, WhatIsCommittedIsLiveBlocksAndFreeMemory) {
  Random random(3);
  std::vector<char *> blocks;
  uint64_t live = 0;
  const uint64_t before = CommittedBeside(0);
  for (int i = 0; i < hak_unit::Operations(4000); i++) {
    if (random.OneIn(100)) hak_page_heap_trim();
    if (random.OneIn(2) || blocks.empty()) {
      char *block = Take((1 + random.Below(random.OneIn(8) ? 2000 : 40)) * kPage, kPage << random.Below(6));
      ASSERT_NE(block, nullptr);
      live += SizeOf(block);
      blocks.push_back(block);
    } else {
      const size_t n = random.Below(blocks.size());
      live -= SizeOf(blocks[n]);
      if (random.OneIn(3)) {
        char *resized = Resize(blocks[n], (1 + random.Below(2000)) * kPage, random.OneIn(2));
        if (resized != nullptr) blocks[n] = resized;
        live += SizeOf(blocks[n]);
      } else {
        ASSERT_TRUE(Give(blocks[n]));
        blocks[n] = blocks.back();
        blocks.pop_back();
      }
    }
    // Records of runs may have been added.
    ASSERT_GE(CommittedBeside(live), before) << i;
    ASSERT_LE(CommittedBeside(live), before + kMiB) << i;
  }
  for (char *block : blocks) ASSERT_TRUE(Give(block));
}

// ---- Addresses ------------------------------------------------------------------------------------

// Blocks move in many ways, and addresses are returned in any order. A heap that becomes no larger must stay where it
// is, because each chunk that it ever had keeps a record.
TEST_F(PageHeap, AddressesThatWentBackAreUsedAgain) {
  Random random(5);
  std::set<uintptr_t> chunks;
  uint64_t map_bytes = 0;
  for (int round = 0; round < 200; round++) {
    std::vector<char *> blocks;
    for (int i = 0; i < 8; i++) {
      char *block = Take((1 + random.Below(500)) * kPage, kPage << random.Below(10));
      ASSERT_NE(block, nullptr);
      char *moved = random.OneIn(2) ? Resize(block, 4 * SizeOf(block), true) : nullptr;
      blocks.push_back(moved != nullptr ? moved : block);
      chunks.insert(reinterpret_cast<uintptr_t>(blocks.back()) / HAK_CHUNK_SIZE);
    }
    for (char *block : blocks) ASSERT_TRUE(Give(block));
    if (random.OneIn(2)) hak_page_heap_trim();
    if (round == 100) map_bytes = hak_page_map_bytes();
  }
  EXPECT_LE(chunks.size() * HAK_CHUNK_SIZE / kMiB, 512u * kPage / 4096);
  EXPECT_EQ(hak_page_map_bytes(), map_bytes);
}

// Records stay for good: none may be made for addresses that the kernel does not grant.
TEST_F(PageHeap, ARequestThatIsRefusedLeavesNoRecords) {
  char *first = Take(kMiB);  // From now on it is known where the heap grows.
  ASSERT_NE(first, nullptr);
  const uint64_t map_bytes = hak_page_map_bytes();
  char *endless = Take(size_t{1} << 46);
  if (endless != nullptr) {
    EXPECT_TRUE(Give(endless)) << "this kernel grants everything";
  } else {
    EXPECT_EQ(hak_page_map_bytes(), map_bytes);
  }
  EXPECT_TRUE(Give(first));
}

// What exceeds the bound of a freed block is unmapped, and the end of its range must not keep the heap from growing
// where it was.
TEST_F(PageHeap, BlocksBeyondTheBoundUseTheSameAddresses) {
  hak_config.mapping_cache_bytes = 8 * kMiB;
  for (const enum hak_huge_pages huge : {HAK_HUGE_PAGES_OFF, HAK_HUGE_PAGES_ON}) {
    hak_config.huge_pages = huge;
    Random random(6);
    char *lowest = nullptr;
    char *highest = nullptr;
    for (int round = 0; round < 60; round++) {
      char *block = Take((200 + random.Below(300)) * kMiB + (1 + random.Below(500)) * kPage);
      ASSERT_NE(block, nullptr);
      if (lowest == nullptr || block < lowest) lowest = block;
      highest = std::max(highest, block);
      *block = 1;
      ASSERT_TRUE(Give(block));
      ASSERT_STREQ(hak_page_heap_verify(), nullptr);
    }
    EXPECT_LE(static_cast<size_t>(highest - lowest), 1024 * kMiB);
    // It is all one free run: nothing is left over where the heap once was.
    EXPECT_LE(hak_page_heap_totals().mapped_bytes, 600 * kMiB);
  }
}

// ---- Memory of the records ------------------------------------------------------------------------

size_t ResidentRecords(const char *address) {
  return ResidentPages(hak_page_records_of(address), sizeof(hak_page_records)) * kPage;
}

TEST_F(PageHeap, AnUntouchedBlockTakesHardlyAnyRecords) {
  for (const enum hak_huge_pages huge : {HAK_HUGE_PAGES_OFF, HAK_HUGE_PAGES_ON}) {
    hak_config.huge_pages = huge;
    char *block = Take(1024 * kMiB);
    ASSERT_NE(block, nullptr);
    hak_page_map_clear(block, 1024 * kMiB);
    char *const end = block + 1024 * kMiB - 1;
    // Where it begins and where it ends: the run, the tag, the bits.
    EXPECT_LE(ResidentRecords(block), 3 * kPage);
    EXPECT_LE(ResidentRecords(end), 4 * kPage);
    ASSERT_TRUE(Give(block));
    hak_page_heap_trim();
    EXPECT_EQ(ResidentRecords(block), 0u);
    EXPECT_EQ(ResidentRecords(end), 0u);
  }
}

// A record that goes back and is needed again costs a system call and a page fault: not for each block.
TEST_F(PageHeap, RecordsOfWhatComesAndGoesStay) {
  hak_config.mapping_cache_bytes = 0;
  ASSERT_TRUE(Give(Take(256 * kMiB)));
  const uint64_t decommits = hak_os_totals().decommits;
  for (int round = 0; round < 20; round++) ASSERT_TRUE(Give(Take(256 * kMiB)));
  EXPECT_EQ(hak_os_totals().decommits, decommits);
  EXPECT_EQ(hak_page_heap_totals().mapped_bytes, 0u);
}

// A block grows by moving again and again, beside another one that stays.
TEST_F(PageHeap, MovesDoNotUseAddressesUp) {
  std::set<uintptr_t> chunks;
  char *wall = Take(kPage);
  for (int round = 0; round < 100; round++) {
    char *block = Take(kMiB);
    for (size_t size = 2 * kMiB; size <= 32 * kMiB; size *= 2) {
      char *between = Take(kPage);
      char *now = Resize(block, size, true);
      ASSERT_NE(now, nullptr);
      block = now;
      chunks.insert(reinterpret_cast<uintptr_t>(block) / HAK_CHUNK_SIZE);
      ASSERT_TRUE(Give(between));
    }
    ASSERT_TRUE(Give(block));
    if (round % 10 == 0) hak_page_heap_trim();
  }
  EXPECT_LE(chunks.size(), 100u);
  ASSERT_TRUE(Give(wall));
}

// ---- Refusals by the kernel -----------------------------------------------------------------------

TEST_F(PageHeap, TakesFailCleanlyAndRecover) {
  const uint64_t mapped = hak_os_totals().mapped;
  {
    const FaultPlan plan(HAK_FAULT_MAP);
    EXPECT_EQ(Take(2 * kMiB), nullptr);
    EXPECT_EQ(Take(2 * kMiB, 4 * kMiB), nullptr);
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    EXPECT_EQ(hak_page_heap_totals().blocks, 0u);
  }
  EXPECT_EQ(hak_os_totals().mapped, mapped);
  char *block = Take(2 * kMiB);
  EXPECT_NE(block, nullptr);
  EXPECT_TRUE(Give(block));
}

// Single calls fail, or all calls from one on: calls of one kind or of any kind.
TEST_F(PageHeap, EveryCallToTheKernelMayFail) {
  hak_config.huge_pages = HAK_HUGE_PAGES_ON;
  for (const uint64_t deadline : {uint64_t{0}, kHour}) {
    hak_config.decommit_deadline_ms = deadline;
    for (const uint32_t kinds :
         {HAK_FAULT_MAP, HAK_FAULT_UNMAP, HAK_FAULT_REMAP, HAK_FAULT_DECOMMIT, HAK_FAULT_ADVISE, HAK_FAULT_ALL}) {
      for (const uint64_t count : {uint64_t{1}, UINT64_MAX}) {
        for (uint64_t k = 1;; k++) {
          bool done;
          {
            const FaultPlan plan(kinds, k, count);
            std::vector<char *> blocks;
            for (size_t i = 0; i < 4; i++) {
              char *block = Take((i + 2) * kMiB, i == 2 ? 8 * kMiB : 0);
              if (block == nullptr) continue;
              *block = static_cast<char>(i + 1);
              blocks.push_back(block);
            }
            for (char *&block : blocks) {
              const char mark = *block;
              char *resized = Resize(block, 7 * kMiB, true);
              if (resized != nullptr) block = resized;
              ASSERT_EQ(*block, mark) << kinds << " " << k;
            }
            ASSERT_STREQ(hak_page_heap_verify(), nullptr) << kinds << " " << k;
            for (char *block : blocks) ASSERT_TRUE(Give(block));
            hak_page_heap_trim();
            ASSERT_STREQ(hak_page_heap_verify(), nullptr) << kinds << " " << k;
            done = hak_fault_hits() == 0;
          }
          hak_page_heap_trim();
          ASSERT_STREQ(hak_page_heap_verify(), nullptr) << kinds << " " << k;
          ASSERT_EQ(hak_page_heap_totals().mapped_bytes, 0u) << kinds << " " << k;
          if (done) break;
          ASSERT_LT(k, 1000u);
        }
      }
    }
  }
}

}  // namespace
