// SPDX-License-Identifier: Apache-2.0
//
// Guarded blocks work in every profile; OBSERVE and HARDENED use them.
#include "allocator/large/guarded.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "allocator/large/guarded_held.h"
#include "allocator/os/decommit.h"
#include "allocator/os/fault.h"
#include "allocator/os/mapping_limit.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/policy/guard_budget.h"
#include "allocator/policy/memory_limit.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::IsMapped;
using hak_unit::IsReadable;
using hak_unit::IsZero;

const size_t kPage = hak_os_page_size();
constexpr size_t kMiB = size_t{1} << 20;

char *Take(size_t size, size_t align = 16, bool at_end = false) {
  return static_cast<char *>(hak_guarded_take(size, align, at_end, nullptr));
}

class Guarded : public testing::Test {
 protected:
  Guarded() : committed_(hak_commit_now()), mapped_(hak_os_totals().mapped) {}
  ~Guarded() override {
    hak_held_trim();
    EXPECT_STREQ(hak_guarded_verify(), nullptr);
    const struct hak_guarded_totals totals = hak_guarded_totals();
    EXPECT_EQ(totals.blocks, 0u);
    EXPECT_EQ(totals.bytes, 0u);
    EXPECT_EQ(totals.closed, 0u);
    EXPECT_EQ(totals.held, 0u);
    // Records stay: they belong to meta.
    EXPECT_LE(hak_commit_now(), committed_ + kMiB);
    EXPECT_LE(hak_os_totals().mapped, mapped_ + kMiB);
  }
  const uint64_t committed_;
  const uint64_t mapped_;
};

TEST_F(Guarded, IsAlignedZeroAndAsLargeAsAskedFor) {
  for (const size_t align : {size_t{1}, size_t{16}, kPage, 16 * kPage, 2 * kMiB, 64 * kMiB}) {
    for (const size_t size : {size_t{0}, size_t{1}, kPage - 1, kPage, kPage + 1, kMiB + 5}) {
      char *block = Take(size, align);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % std::max(align, kPage), 0u);
      EXPECT_EQ(hak_guarded_size(block), size);
      EXPECT_TRUE(IsZero(block, size));
      memset(block, 1, size);
      EXPECT_TRUE(hak_guarded_give(block));
    }
  }
}

TEST_F(Guarded, AtTheEndOfItsPages) {
  for (const size_t size : {size_t{1}, size_t{15}, size_t{16}, size_t{17}, kPage - 1, kPage, kPage + 1}) {
    char *block = Take(size, 16, true);
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 16, 0u);
    const size_t to_guard = kPage - reinterpret_cast<uintptr_t>(block + size) % kPage;
    EXPECT_LT(to_guard % kPage, 16u) << size;
    memset(block, 1, size);
    EXPECT_EQ(hak_guarded_size(block), size);
    EXPECT_FALSE(hak_guarded_resize(block, size, false)) << "it would not be at the end any more";
    EXPECT_TRUE(hak_guarded_give(block));
  }
}

TEST_F(Guarded, RefusesImpossibleRequests) {
  EXPECT_EQ(Take(SIZE_MAX), nullptr);
  EXPECT_EQ(Take(PTRDIFF_MAX), nullptr);
  EXPECT_EQ(Take(kPage, size_t{1} << 63), nullptr);
  EXPECT_EQ(Take(kPage, size_t{1} << 62), nullptr);
}

TEST_F(Guarded, OnlyAddressesOfLiveBlocksAreKnown) {
  char *block = Take(2 * kMiB);
  int local;
  for (char *other : {static_cast<char *>(nullptr), block + 1, block + kPage, block - kPage,
                      reinterpret_cast<char *>(&local), reinterpret_cast<char *>(UINTPTR_MAX)}) {
    EXPECT_FALSE(hak_guarded_give(other));
    EXPECT_EQ(hak_guarded_size(other), SIZE_MAX);
    EXPECT_FALSE(hak_guarded_resize(other, kPage, true));
    EXPECT_EQ(hak_guarded_held_size(other), SIZE_MAX);
  }
  EXPECT_TRUE(hak_guarded_give(block));
}

TEST_F(Guarded, PagesAroundAndFreedOnesAreClosed) {
  char *block = Take(3 * kPage);
  EXPECT_TRUE(IsReadable(block) && IsReadable(block + 3 * kPage - 1));
  EXPECT_FALSE(IsReadable(block - 1));
  EXPECT_FALSE(IsReadable(block + 3 * kPage));
  hak_guarded_give(block);
  EXPECT_FALSE(IsReadable(block));
  EXPECT_FALSE(IsReadable(block + 3 * kPage - 1));
}

TEST_F(Guarded, AWriteBesideTheBlockIsFound) {
  for (const bool at_end : {false, true}) {
    char *block = Take(kPage + 100, 16, at_end);
    block[kPage + 100] ^= 1;
    HAK_EXPECT_FATAL_BLOCK(hak_guarded_give(block), "overflow", block, kPage + 100);
    HAK_EXPECT_FATAL_BLOCK(hak_guarded_size(block), "overflow", block, kPage + 100);
    HAK_EXPECT_FATAL_BLOCK(hak_guarded_resize(block, kPage, true), "overflow", block, kPage + 100);
    block[kPage + 100] ^= 1;
    if (at_end) {
      block[-1] ^= 1;
      HAK_EXPECT_FATAL_BLOCK(hak_guarded_give(block), "underflow", block, kPage + 100);
      block[-1] ^= 1;
    }
    EXPECT_TRUE(hak_guarded_give(block));
  }
}

TEST_F(Guarded, ASecondFreeIsFoundAsLongAsTheQuarantineHolds) {
  char *block = Take(kMiB);
  EXPECT_TRUE(hak_guarded_give(block));
  EXPECT_EQ(hak_guarded_held_size(block), kMiB);
  HAK_EXPECT_FATAL_BLOCK(hak_guarded_give(block), "double free", block, kMiB);
  hak_held_trim();
  EXPECT_EQ(hak_guarded_held_size(block), SIZE_MAX);
  EXPECT_FALSE(IsMapped(block, kMiB));
}

TEST_F(Guarded, TheQuarantineIsBoundedAndHoldsNoMemory) {
  const uint64_t committed = hak_commit_now();
  for (int i = 0; i < 1000; i++) {
    char *block = Take(kMiB);
    ASSERT_NE(block, nullptr);
    memset(block, 1, kMiB);
    EXPECT_TRUE(hak_guarded_give(block));
  }
  EXPECT_GT(hak_guarded_totals().held, 10u);
  EXPECT_LE(hak_guarded_totals().held, 128u);
  EXPECT_EQ(hak_commit_now(), committed);
  EXPECT_STREQ(hak_guarded_verify(), nullptr);
}

// A large block brings the quarantine far beyond its bound: that takes many frees to make good, so that none is slow.
TEST_F(Guarded, OneFreeUnmapsOnlyAFewRanges) {
  constexpr size_t kHalfGiB = 512 * kMiB;
  const size_t small = std::max(kMiB, 66 * kPage);  // more pages than a range has that is kept for reuse
  const auto held_after_give = [](size_t size) -> uint64_t {
    char *block = Take(size);
    EXPECT_NE(block, nullptr);
    EXPECT_TRUE(block != nullptr && hak_guarded_give(block));
    return hak_guarded_totals().held;
  };
  for (uint64_t i = 1; i <= 100; i++) EXPECT_EQ(held_after_give(small), i);
  // The bound is 4 GiB: the eighth is beyond it by the bytes of the small ones, which were freed before.
  uint64_t held = 100;
  for (int i = 0; i < 7; i++) EXPECT_EQ(held_after_give(kHalfGiB), ++held);
  for (int i = 0; i < 20; i++) EXPECT_EQ(held_after_give(kHalfGiB), --held);
}

// Where the kernel has refused addresses, the quarantine leaves most of them to others. In a process of its own,
// because the bound stays.
TEST_F(Guarded, TheQuarantineIsSmallWhereAddressesAreShort) {
  const auto held_after = [](size_t refused, uint64_t committed) -> uint64_t {
    hak_held_trim();
    hak_held_refused(refused, committed);
    for (int i = 0; i < 60; i++) hak_guarded_give(Take(4 * kMiB));
    return hak_guarded_totals().held;
  };
  const auto run = [&] {
    if (held_after(1, uint64_t{1} << 40) != 60) _exit(1);     // a bound that exceeds the usual one
    if (held_after(kMiB + 1, kMiB) != 60) _exit(2);           // more than the program has
    if (held_after(1, uint64_t{1600} << 20) != 24) _exit(3);  // 100 MiB
    if (held_after(1, uint64_t{3200} << 20) != 24) _exit(4);  // it never becomes more again
    hak_held_refused(90 * kMiB, kMiB);                        // the quarantine is the program's too
    for (int i = 0; i < 60; i++) hak_guarded_give(Take(4 * kMiB));
    _exit(hak_guarded_totals().held == 3 ? 0 : 5);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "");
}

// Neither ranges that wait to be used again nor a block of more than the bound keep more addresses than that.
TEST_F(Guarded, NothingKeepsAddressesWhereTheyAreShort) {
  const auto run = [] {
    hak_held_refused(0, 0);
    std::vector<char *> blocks(400);
    for (char *&block : blocks) block = Take(std::min(kMiB / 4, 64 * kPage));
    for (char *block : blocks) hak_guarded_give(block);
    if (hak_guarded_totals().closed > 17 * kMiB) _exit(1);
    for (int i = 0; i < 50; i++) hak_guarded_give(Take(300 * 1024));
    hak_guarded_give(Take(1024 * kMiB));
    _exit(hak_guarded_totals().closed > 17 * kMiB ? 2 : 0);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "");
}

// The kernel may refuse to unmap one range and not the others.
TEST_F(Guarded, ATrimGoesOnAfterARefusal) {
  for (int i = 0; i < 10; i++) hak_guarded_give(Take(kMiB));
  ASSERT_EQ(hak_guarded_totals().held, 10u);
  {
    const FaultPlan plan(HAK_FAULT_UNMAP, 1, 1);
    EXPECT_NE(hak_held_trim(), 0u);
  }
  EXPECT_EQ(hak_guarded_totals().held, 1u);
}

// Ranges of moderate size are reused, so that a block takes two system calls in its life. Before that they stay closed
// for the length of the quarantine.
TEST_F(Guarded, PagesAreUsedAgainAfterTheQuarantine) {
  const size_t size = std::max(size_t{48} * 1024, kPage) - 5;  // Whole pages, except the canary.
  std::vector<char *> given;
  const auto pair = [&] {
    char *block = Take(size);
    ASSERT_NE(block, nullptr);
    const auto before = std::find(given.rbegin(), given.rend(), block);
    if (before != given.rend()) {
      EXPECT_GE(before - given.rbegin(), 127) << "other frees since";
    }
    EXPECT_TRUE(IsZero(block, size));
    EXPECT_FALSE(IsReadable(block - 1));
    EXPECT_FALSE(IsReadable(block + size + 5));
    memset(block, 1, size);
    EXPECT_TRUE(hak_guarded_give(block));
    EXPECT_FALSE(IsReadable(block));
    EXPECT_FALSE(IsReadable(block + size - 1));
    given.push_back(block);
  };
  for (int i = 0; i < 300; i++) pair();
  const uint64_t calls = hak_os_totals().calls;
  const uint64_t mapped = hak_os_totals().mapped;
  for (int i = 0; i < 500; i++) pair();
  EXPECT_LE(hak_os_totals().calls - calls, 1500u);
  EXPECT_EQ(hak_os_totals().mapped, mapped);
}

// A child that was created without fork handlers may inherit lists that a thread which does not exist there was
// changing: freed blocks are lost, and live ones are found.
TEST_F(Guarded, StartsAnewWhereTheLocksHolderDoesNotExist) {
  std::vector<char *> blocks;
  for (int i = 0; i < 300; i++) {
    blocks.push_back(Take(kPage * 3 + 5, 16, i % 10 == 0));
    ASSERT_NE(blocks.back(), nullptr);
    blocks.back()[0] = static_cast<char>(i);
  }
  for (size_t i = 150; i < blocks.size(); i++) ASSERT_TRUE(hak_guarded_give(blocks[i]));
  blocks.resize(150);
  const int result = hak_unit::ResultInChild([&blocks] {
    hak_unit::LoseHolder(&hak_mapping_mutex);
    hak_guarded_for_each([](hak_guarded *one) {
      one->live.next = reinterpret_cast<hak_address_entry *>(8);
      one->next = reinterpret_cast<hak_guarded *>(8);
    });
    std::vector<char *> more;
    for (int i = 0; i < 300; i++) {
      more.push_back(Take(kPage * 3));
      if (more.back() == nullptr || !IsZero(more.back(), kPage * 3)) return 1;
      memset(more.back(), 1, kPage * 3);
    }
    if (hak_guarded_verify() != nullptr || hak_guarded_totals().blocks != blocks.size() + more.size()) return 2;
    for (size_t i = 0; i < blocks.size(); i++) {
      if (blocks[i][0] != static_cast<char>(i) || hak_guarded_size(blocks[i]) != kPage * 3 + 5) return 3;
      if (hak_guarded_give(blocks[i]) != HAK_GUARDED_BLOCK || IsReadable(blocks[i])) return 4;
    }
    for (char *block : more) {
      if (hak_guarded_give(block) != HAK_GUARDED_BLOCK) return 5;
    }
    hak_held_trim();
    return hak_guarded_verify() == nullptr && hak_guarded_totals().blocks == 0 ? 0 : 6;
  });
  EXPECT_EQ(result, 0);
  for (char *block : blocks) EXPECT_TRUE(hak_guarded_give(block));
}

// The same if the first call is a trim, which knows freed blocks only.
TEST_F(Guarded, ATrimStartsAnewToo) {
  char *block = Take(kPage);
  EXPECT_TRUE(hak_guarded_give(Take(kPage)));
  const int result = hak_unit::ResultInChild([block] {
    hak_unit::LoseHolder(&hak_mapping_mutex);
    hak_guarded_for_each([](hak_guarded *one) { one->next = reinterpret_cast<hak_guarded *>(8); });
    hak_held_trim();
    return hak_guarded_give(block) == HAK_GUARDED_BLOCK && hak_guarded_verify() == nullptr ? 0 : 1;
  });
  EXPECT_EQ(result, 0);
  EXPECT_TRUE(hak_guarded_give(block));
}

// Expects that the address is in the guards, or if freed the pages, of the block.
void ExpectBeside(const char *address, const char *block, size_t size, bool freed) {
  struct hak_guarded_beside beside = {};
  ASSERT_EQ(hak_guarded_look_beside(address, &beside), HAK_GUARDED_BESIDE);
  EXPECT_EQ(beside.block, block);
  EXPECT_EQ(beside.size, size);
  EXPECT_EQ(beside.freed, freed);
}

enum hak_guarded_look Look(const void *address) {
  struct hak_guarded_beside beside = {};
  return hak_guarded_look_beside(address, &beside);
}

TEST_F(Guarded, TheBlockBesideAnInaccessibleAddressIsFound) {
  std::vector<char *> blocks;
  for (size_t i = 0; i < 300; i++) blocks.push_back(Take(3 * kPage + i % 50, 16, i % 2 == 0));
  const size_t open = 4 * kPage;
  const auto pages = [](char *block) { return block - reinterpret_cast<uintptr_t>(block) % kPage; };
  for (size_t i = 0; i < 300; i += 7) {
    const size_t size = 3 * kPage + i % 50;
    char *const start = pages(blocks[i]);
    const size_t data = (size + kPage - 1) / kPage * kPage;
    ExpectBeside(start - 1, blocks[i], size, false);
    ExpectBeside(start - kPage, blocks[i], size, false);
    ExpectBeside(start + data, blocks[i], size, false);
    ExpectBeside(start + data + kPage - 1, blocks[i], size, false);
    // What is accessible cannot have faulted by a guard.
    EXPECT_EQ(Look(start), HAK_GUARDED_FOREIGN);
    EXPECT_EQ(Look(start + data - 1), HAK_GUARDED_FOREIGN);
  }
  EXPECT_EQ(Look(nullptr), HAK_GUARDED_FOREIGN);
  EXPECT_EQ(Look(&blocks), HAK_GUARDED_FOREIGN);
  for (char *block : blocks) EXPECT_TRUE(hak_guarded_give(block));
  // Those of the quarantine, and those that wait to be used again.
  for (size_t i = 0; i < 300; i += 11) {
    const size_t size = 3 * kPage + i % 50;
    ExpectBeside(blocks[i], blocks[i], size, true);
    ExpectBeside(blocks[i] + size - 1, blocks[i], size, true);
    ExpectBeside(pages(blocks[i]) - 1, blocks[i], size, true);
  }
  hak_held_trim();
  EXPECT_EQ(Look(blocks[0]), HAK_GUARDED_FOREIGN);
  EXPECT_EQ(Look(blocks[299] + open), HAK_GUARDED_FOREIGN);
}

TEST_F(Guarded, ARangeWithoutABlockIsBesideNone) {
  char *block = Take(kPage);
  EXPECT_TRUE(hak_guarded_give(block));
  char *const memory = static_cast<char *>(hak_os_map(3 * kPage, kPage));
  ASSERT_NE(memory, nullptr);
  ASSERT_TRUE(hak_guarded_enter(memory, kPage - 8));
  EXPECT_EQ(Look(memory + kPage), HAK_GUARDED_FOREIGN) << "it has no guards";
  EXPECT_EQ(Look(memory), HAK_GUARDED_FOREIGN);
  EXPECT_EQ(hak_guarded_give(memory), HAK_GUARDED_WITHOUT);
  EXPECT_TRUE(hak_os_unmap(memory, 3 * kPage));
}

TEST_F(Guarded, ALookDoesNotWaitForTheLock) {
  char *block = Take(kPage);
  hak_mapping_lock();
  std::thread([block] {
    EXPECT_EQ(Look(block - 1), HAK_GUARDED_BUSY);
    EXPECT_FALSE(hak_lock_is_within());
  }).join();
  hak_mapping_unlock();
  ExpectBeside(block - 1, block, kPage, false);
  EXPECT_FALSE(hak_lock_is_within());
  EXPECT_TRUE(hak_guarded_give(block));
}

TEST_F(Guarded, ALookDoesNotTrustListsThatMayBeHalfChanged) {
  char *block = Take(kPage);
  const int result = hak_unit::ResultInChild([block] {
    if (Look(block - 1) != HAK_GUARDED_BESIDE) return 1;
    hak_unit::LoseHolder(&hak_mapping_mutex);
    hak_mapping_lock();
    hak_mapping_unlock();
    if (Look(block - 1) != HAK_GUARDED_FOREIGN) return 2;
    if (hak_guarded_size(block) != kPage) return 3;
    return Look(block - 1) == HAK_GUARDED_BESIDE ? 0 : 4;
  });
  EXPECT_EQ(result, 0);
  EXPECT_TRUE(hak_guarded_give(block));
}

TEST_F(Guarded, APlannedFaultWhereGuardsAreSetLeavesNothingBehind) {
  for (const uint64_t nth : {1u, 2u, 3u}) {
    for (const uint32_t kinds : {HAK_FAULT_PROTECT, HAK_FAULT_COMMIT, HAK_FAULT_PROTECT | HAK_FAULT_COMMIT}) {
      const FaultPlan plan(kinds, nth, 1);
      char *block = Take(9 * kPage);
      if (block == nullptr) continue;
      EXPECT_FALSE(IsReadable(block - 1));
      EXPECT_FALSE(IsReadable(block + 9 * kPage));
      memset(block, 1, 9 * kPage);
      EXPECT_TRUE(hak_guarded_give(block));
    }
  }
}

// Where the kernel does not close pages without a mapping of their own, they get one, a slice after the other.
TEST_F(Guarded, AFreedBlockIsClosedEitherWay) {
  ASSERT_TRUE(hak_guarded_give(Take(9 * kPage)));  // Its record stays.
  const uint64_t committed = hak_commit_now();
  for (const size_t bytes : {9 * kPage, size_t{HAK_MAPPING_SLICE}, size_t{2 * HAK_MAPPING_SLICE}}) {
    char *block = Take(bytes);  // Whole pages have no canary.
    ASSERT_NE(block, nullptr);
    memset(block, 1, 9 * kPage);
    {
      // Only the first call fails. Large blocks have a mapping of their own in any case.
      const FaultPlan plan(hak_os_guards_work() && bytes == 9 * kPage ? HAK_FAULT_PROTECT : 0, 1, 1);
      EXPECT_TRUE(hak_guarded_give(block));
    }
    EXPECT_FALSE(IsReadable(block));
    EXPECT_FALSE(IsReadable(block + bytes - 1));
    EXPECT_EQ(hak_commit_now(), committed) << bytes;
  }
}

TEST_F(Guarded, ResizesWithinItsPages) {
  char *block = Take(kPage + 10);
  memset(block, 7, kPage + 10);
  EXPECT_TRUE(hak_guarded_resize(block, 2 * kPage, false));
  EXPECT_EQ(hak_guarded_size(block), 2 * kPage);
  EXPECT_TRUE(hak_guarded_resize(block, kPage + 1, false));
  EXPECT_EQ(hak_guarded_size(block), kPage + 1);
  for (size_t i = 0; i <= kPage; i++) ASSERT_EQ(block[i], 7);
  for (const size_t size : {size_t{0}, size_t{1}, kPage, 2 * kPage + 1, SIZE_MAX, size_t{PTRDIFF_MAX}}) {
    EXPECT_FALSE(hak_guarded_resize(block, size, false)) << size;
  }
  EXPECT_EQ(hak_guarded_size(block), kPage + 1);
  // Where no other memory is available.
  EXPECT_FALSE(hak_guarded_resize(block, 2 * kPage + 1, true));
  EXPECT_TRUE(hak_guarded_resize(block, 10, true));
  EXPECT_EQ(hak_guarded_size(block), 10u);
  EXPECT_EQ(block[9], 7);
  HAK_EXPECT_FATAL((block[10] ^= 1, hak_guarded_give(block)), "overflow", block);
  EXPECT_TRUE(hak_guarded_give(block));
}

TEST_F(Guarded, OutOfMemoryLeavesEverythingAsItWas) {
  char *block = Take(kMiB);
  for (const uint32_t kind : {HAK_FAULT_MAP, HAK_FAULT_COMMIT, HAK_FAULT_COMMIT | HAK_FAULT_UNMAP}) {
    const FaultPlan plan(kind);
    EXPECT_EQ(Take(kMiB), nullptr);
    EXPECT_NE(hak_fault_hits(), 0u);
  }
  EXPECT_EQ(hak_guarded_totals().blocks, 1u);
  EXPECT_STREQ(hak_guarded_verify(), nullptr);
  EXPECT_TRUE(hak_guarded_give(block));
}

TEST_F(Guarded, WhatTheKernelDoesNotCloseOrUnmapStaysOurs) {
  const uint64_t committed = hak_commit_now();
  std::vector<char *> blocks;
  for (int i = 0; i < 200; i++) blocks.push_back(Take(kPage));
  {
    const FaultPlan plan(HAK_FAULT_PROTECT | HAK_FAULT_UNMAP);
    for (char *block : blocks) EXPECT_TRUE(hak_guarded_give(block));
    EXPECT_EQ(hak_guarded_totals().held, 200u);
    EXPECT_EQ(hak_commit_now(), committed + 200 * kPage);
    EXPECT_EQ(hak_held_trim(), 0u);
    EXPECT_TRUE(IsMapped(blocks[0], kPage));
  }
  EXPECT_NE(hak_held_trim(), 0u);
  EXPECT_EQ(hak_commit_now(), committed);
  EXPECT_FALSE(IsMapped(blocks[0], kPage));
}

TEST_F(Guarded, SampledBlocksAreCountedAndBounded) {
  const uint64_t before = hak_guarded_totals().sampled;
  std::vector<char *> blocks;
  for (char *block; (block = Take(16, 16, true)) != nullptr && blocks.size() < 2000;) blocks.push_back(block);
  EXPECT_EQ(blocks.size(), 1000u);
  EXPECT_EQ(hak_guarded_totals().sampled, before + 1000);
  char *large = Take(kMiB);
  EXPECT_NE(large, nullptr) << "the bound is for sampled ones";
  EXPECT_TRUE(hak_guarded_give(large));
  EXPECT_TRUE(hak_guarded_give(blocks.back()));
  blocks.back() = Take(16, 16, true);
  EXPECT_NE(blocks.back(), nullptr);
  for (char *block : blocks) EXPECT_TRUE(hak_guarded_give(block));
}

// ---- Without guards -----------------------------------------------------------------------------

class GuardedBudget : public Guarded {
 protected:
  // Room for four blocks.
  GuardedBudget() { hak_guard_budget_init(20); }
  ~GuardedBudget() override {
    hak_held_trim();
    EXPECT_EQ(hak_guard_budget_used(), 0u);
    hak_guard_budget_init(HAK_OS_MAPPING_LIMIT_DEFAULT);
  }
};

TEST_F(GuardedBudget, IsHeldAndComesBackWithTheQuarantine) {
  std::vector<char *> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(Take(kPage));
  bool without = false;
  EXPECT_EQ(hak_guarded_take(kPage, 16, false, &without), nullptr);
  EXPECT_TRUE(without);
  EXPECT_EQ(hak_guard_budget_used(), 4u * HAK_GUARD_BLOCK);
  for (char *block : blocks) EXPECT_EQ(hak_guarded_give(block), HAK_GUARDED_BLOCK);
  EXPECT_EQ(hak_guard_budget_used(), 4u * HAK_GUARD_BLOCK) << "their addresses are closed";
  hak_held_trim();
  EXPECT_EQ(hak_guard_budget_used(), 0u);
  without = true;
  char *block = static_cast<char *>(hak_guarded_take(kPage, 16, false, &without));
  EXPECT_NE(block, nullptr);
  EXPECT_FALSE(without);
  hak_guarded_give(block);
}

TEST_F(GuardedBudget, NothingIsKeptOfABlockThatCouldNotBeMapped) {
  for (const auto call : {HAK_FAULT_MAP, HAK_FAULT_COMMIT}) {
    const FaultPlan plan(call);
    bool without = false;
    EXPECT_EQ(hak_guarded_take(kPage, 16, false, &without), nullptr);
    EXPECT_TRUE(without) << "there may be memory without guards";
    EXPECT_EQ(hak_guard_budget_used(), 0u);
  }
}

TEST_F(GuardedBudget, ABlockWithoutGuardsHasItsSizeAndItsCanary) {
  const size_t page = hak_os_page_size();
  char *memory = static_cast<char *>(hak_os_map(3 * page, page));
  ASSERT_NE(memory, nullptr);
  for (const size_t size : {size_t{0}, size_t{1}, page - 96, page}) {
    ASSERT_TRUE(hak_guarded_enter(memory, size));
    EXPECT_EQ(hak_guarded_size(memory), size);
    EXPECT_EQ(hak_guarded_totals().bytes, size);
    EXPECT_EQ(hak_guarded_totals().closed, 0u);
    EXPECT_STREQ(hak_guarded_verify(), nullptr);
    if (size < page) {
      HAK_EXPECT_FATAL((memory[size] ^= 1, hak_guarded_give(memory)), "overflow", memory);
    }
    EXPECT_TRUE(hak_guarded_resize(memory, page - 96, true));
    EXPECT_EQ(hak_guarded_size(memory), page - 96);
    EXPECT_EQ(hak_guarded_give(memory), HAK_GUARDED_WITHOUT);
    EXPECT_EQ(hak_guarded_give(memory), HAK_GUARDED_NONE);
    EXPECT_EQ(hak_guarded_size(memory), SIZE_MAX);
    memset(memory, 0, 3 * page);  // It is the caller's again.
  }
  EXPECT_TRUE(hak_os_unmap(memory, 3 * page));
}

}  // namespace
