// SPDX-License-Identifier: Apache-2.0
#include "allocator/pages/run_release.h"

#include <gtest/gtest.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "allocator/os/decommit.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/free_runs.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/test/kernel_support.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::IsMapped;
using hak_unit::IsZero;
using hak_unit::ResidentPages;

constexpr uint64_t kDeadline = 10000;
constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kSlice = 4 * kMiB;
const size_t kPage = hak_os_page_size();

char *TakeUntouched(size_t size, size_t align = kPage) {
  hak_page_request request = {};
  request.size = size;
  request.align = align;
  request.grow = true;
  return static_cast<char *>(hak_page_heap_take(&request));
}
char *Take(size_t size, size_t align = kPage) {
  char *block = TakeUntouched(size, align);
  if (block != nullptr) memset(block, 0x5A, size);
  return block;
}
void Give(char *block) { EXPECT_TRUE(hak_page_heap_give(block)); }
void Give(const std::vector<char *> &blocks) {
  for (char *block : blocks) Give(block);
}
uint64_t FreeMemory() { return hak_page_heap_free_memory(); }

// The caller sets the clock of the deadline.
bool Due(uint64_t now) {
  hak_mapping_lock();
  const bool worked = hak_run_release_due(now);
  hak_mapping_unlock();
  EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  return worked;
}
// Checks at every part of the deadline until `until`; returns the bytes that were returned.
uint64_t DueUntil(uint64_t from, uint64_t until) {
  const uint64_t before = FreeMemory();
  for (uint64_t now = from; now <= until; now += kDeadline / 32) {
    for (int i = 0; i < 1000 && Due(now); i++) {
    }
  }
  return before - FreeMemory();
}

// Each case runs in its own process, because every decision depends on the most that was ever committed.
class RunRelease : public testing::Test {
 protected:
  RunRelease() {
    hak_config.decommit_deadline_ms = kDeadline;
    hak_config.mapping_cache_bytes = 64 * kMiB;
    hak_config.lean_decommit = HAK_DECOMMIT_OFF;
    hak_config.huge_pages = HAK_HUGE_PAGES_OFF;
  }
};

#define IN_CHILD(body) HAK_EXPECT_PASSES_IN_CHILD(body())

// ---- The bound ------------------------------------------------------------------------------------

TEST_F(RunRelease, KeepsWhatTheSettingAllows) {
  IN_CHILD([] {
    std::vector<char *> blocks;
    for (int i = 0; i < 40; i++) blocks.push_back(Take(2 * kMiB, 2 * kMiB));
    for (char *block : blocks) {
      Give(block);
      EXPECT_LE(FreeMemory(), 64 * kMiB);
      EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    }
    EXPECT_EQ(FreeMemory(), 64 * kMiB);
    // Returned memory is gone, and the rest is resident.
    size_t resident = 0;
    for (char *block : blocks) {
      if (IsMapped(block, 2 * kMiB)) resident += ResidentPages(block, 2 * kMiB) * kPage;
    }
    EXPECT_LE(resident, 64 * kMiB + 40 * kPage);
    EXPECT_GE(resident, 64 * kMiB);
  });
}

TEST_F(RunRelease, KeepsAQuarterOfTheMostThatWasCommitted) {
  IN_CHILD([] {
    hak_config.mapping_cache_bytes = kMiB;
    std::vector<char *> blocks;
    for (int i = 0; i < 20; i++) blocks.push_back(Take(4 * kMiB, 2 * kMiB));
    Give(blocks.back());
    blocks.pop_back();
    EXPECT_EQ(FreeMemory(), 4 * kMiB) << "less than a quarter of 80 MiB";
    Give(blocks);
    EXPECT_GE(FreeMemory(), 16 * kMiB);
    EXPECT_LE(FreeMemory(), 22 * kMiB);
  });
}

// The first block of a program may be its only one.
TEST_F(RunRelease, TheMostIsWhatIsLiveAlready) {
  IN_CHILD([] {
    hak_config.mapping_cache_bytes = kMiB;
    char *block = Take(64 * kMiB, 2 * kMiB);
    Give(block);
    EXPECT_GE(FreeMemory(), 16 * kMiB);
    EXPECT_LE(FreeMemory(), 18 * kMiB);
  });
}

// If a block is far beyond the bound, only the part that may stay is kept.
TEST_F(RunRelease, TheEndOfAHugeBlockGoesBackWithItsAddresses) {
  IN_CHILD([] {
    hak_config.mapping_cache_bytes = 32 * kMiB;
    char *block = Take(160 * kMiB, 2 * kMiB);
    const uint64_t peak = hak_commit_now();
    Give(block);
    EXPECT_GE(FreeMemory(), 32 * kMiB);
    EXPECT_LE(FreeMemory(), peak / 4);
    EXPECT_EQ(ResidentPages(block, 32 * kMiB), 32 * kMiB / kPage) << "the beginning stays";
    EXPECT_FALSE(IsMapped(block + 160 * kMiB - kPage, kPage));
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  });
}

// What a program takes and frees again and again is not returned each time, however much it is.
TEST_F(RunRelease, WhatWasReturnedTooEarlyIsKeptNextTime) {
  IN_CHILD([] {
    constexpr size_t kSize = 40 * kMiB;
    uint64_t calls = 0;
    for (int round = 0; round < 20; round++) {
      std::vector<char *> blocks;
      for (int i = 0; i < 4; i++) blocks.push_back(TakeUntouched(kSize));
      const uint64_t before = hak_os_totals().calls;
      Give(blocks);
      const uint64_t made = hak_os_totals().calls - before;
      EXPECT_STREQ(hak_page_heap_verify(), nullptr);
      if (round == 0) {
        EXPECT_LE(FreeMemory(), 64 * kMiB) << "beyond the bound";
        EXPECT_GT(made, 0u);
      }
      if (round >= 4) calls += made;
    }
    EXPECT_EQ(calls, 0u);
    EXPECT_GE(FreeMemory(), 4 * kSize);
    // Not needed for the whole deadline, it goes back all the same.
    const uint64_t now = hak_os_now_ms();
    DueUntil(now, now + 3 * kDeadline);
    EXPECT_EQ(FreeMemory(), 0u);
  });
}

TEST_F(RunRelease, ASettingOfZeroReturnsAllAtOnce) {
  IN_CHILD([] {
    for (const bool bound : {true, false}) {
      hak_config.mapping_cache_bytes = bound ? 0 : 64 * kMiB;
      hak_config.decommit_deadline_ms = bound ? kDeadline : 0;
      for (const size_t size : {kPage, 3 * kPage, kMiB, 5 * kMiB, 130 * kMiB}) {
        char *block = Take(size);
        char *wall = Take(kPage);
        Give(block);
        EXPECT_EQ(FreeMemory(), 0u);
        if (IsMapped(block, size)) {
          EXPECT_LE(ResidentPages(block, size), 1u);
        }
        Give(wall);
      }
    }
  });
}

TEST_F(RunRelease, LeanReturnsWhatIsBeyondItsTarget) {
  IN_CHILD([] {
    hak_config.lean_decommit = HAK_DECOMMIT_DONTNEED;
    hak_config.lean_target_bytes = hak_commit_now() + 16 * kMiB;
    char *few = Take(4 * kMiB);
    Give(few);
    EXPECT_EQ(FreeMemory(), 4 * kMiB) << "below the target";
    char *wall = Take(20 * kMiB);
    char *block = Take(4 * kMiB);
    const uint64_t before = FreeMemory();
    Give(block);
    EXPECT_EQ(FreeMemory(), before);
    Give(wall);
  });
}

// ---- The deadline ---------------------------------------------------------------------------------

TEST_F(RunRelease, WhatLiesUnusedGoesBackAfterTheDeadlineInSlices) {
  IN_CHILD([] {
    char *block = Take(18 * kMiB, 2 * kMiB);
    char *wall = Take(kPage);
    Give(block);
    const uint64_t start = hak_os_now_ms();
    EXPECT_EQ(DueUntil(start, start + kDeadline - kDeadline / 8), 0u) << "not before the deadline";
    const uint64_t now = start + kDeadline + kDeadline / 4;
    uint64_t left = FreeMemory();
    EXPECT_EQ(left, 18 * kMiB);
    while (Due(now)) {
      EXPECT_LT(FreeMemory(), left);
      EXPECT_LE(left - FreeMemory(), kSlice);
      left = FreeMemory();
    }
    EXPECT_EQ(left, 0u);
    EXPECT_LE(ResidentPages(block, 18 * kMiB), 1u);
    EXPECT_FALSE(Due(now));
    Give(wall);
  });
}

TEST_F(RunRelease, TheOldestGoesFirst) {
  IN_CHILD([] {
    char *a = Take(4 * kMiB, 2 * kMiB);
    char *wall = Take(2 * kMiB, 2 * kMiB);
    char *b = Take(4 * kMiB, 2 * kMiB);
    char *end = Take(2 * kMiB, 2 * kMiB);
    Give(b);
    usleep(20 * 1000);
    Give(a);
    const uint64_t start = hak_os_now_ms();
    EXPECT_FALSE(Due(start));
    EXPECT_TRUE(Due(start + 2 * kDeadline));
    EXPECT_LE(ResidentPages(b, 4 * kMiB), 1u);
    EXPECT_EQ(ResidentPages(a, 4 * kMiB), 4 * kMiB / kPage);
    EXPECT_TRUE(Due(start + 2 * kDeadline));
    EXPECT_LE(ResidentPages(a, 4 * kMiB), 1u);
    Give({wall, end});
  });
}

// Whole huge pages are returned first, and of these the last ones.
TEST_F(RunRelease, OfARunWholeChunksGoFirst) {
  IN_CHILD([] {
    char *block = Take(8 * kMiB, 2 * kMiB);
    char *wall = Take(kPage);
    // One and a half chunks, some whole chunks, and a quarter.
    char *keep = block;
    ASSERT_EQ(hak_page_heap_resize(block, kMiB / 2, 0, false), block);
    char *tail = block + 7 * kMiB + kMiB / 2;
    const uint64_t start = hak_os_now_ms();
    EXPECT_FALSE(Due(start));
    EXPECT_TRUE(Due(start + 2 * kDeadline));
    // 4 MiB of whole chunks are gone: from 4 MiB to 8 MiB, because the last chunk is whole too.
    EXPECT_EQ(FreeMemory(), 7 * kMiB + kMiB / 2 - kSlice);
    EXPECT_LE(ResidentPages(block + 4 * kMiB, 4 * kMiB), 1u);
    EXPECT_LE(ResidentPages(tail, kMiB / 2), 1u);
    EXPECT_TRUE(Due(start + 2 * kDeadline));
    EXPECT_EQ(FreeMemory(), kMiB + kMiB / 2) << "the one chunk between the ends";
    EXPECT_EQ(ResidentPages(block, 2 * kMiB), 2 * kMiB / kPage);
    EXPECT_TRUE(Due(start + 2 * kDeadline));
    EXPECT_EQ(FreeMemory(), 0u);
    EXPECT_EQ(ResidentPages(keep, kMiB / 2), kMiB / 2 / kPage) << "live";
    EXPECT_FALSE(Due(start + 2 * kDeadline));
    Give({keep, wall});
  });
}

// Memory that a program takes and frees again and again stays, however much it is. With the real clock, because frees
// use it too.
TEST_F(RunRelease, WhatIsUsedAgainAndAgainStays) {
  IN_CHILD([] {
    hak_config.decommit_deadline_ms = 500;
    char *block = Take(24 * kMiB, 2 * kMiB);
    char *wall = Take(kPage);
    Give(block);
    uint64_t longest = 0;
    uint64_t last = hak_os_now_ms();
    for (const uint64_t end = last + 1500; last < end;) {
      char *again = Take(16 * kMiB);
      Give(again);
      const uint64_t now = hak_os_now_ms();
      longest = std::max(longest, now - last);
      last = now;
      Due(now);
      usleep(5000);
    }
    // On a machine that stops the program for a while, the program does look idle.
    if (longest < 200) {
      EXPECT_GE(FreeMemory(), 16 * kMiB);
      EXPECT_LE(FreeMemory(), 16 * kMiB + kSlice);
    }
    Give(wall);
  });
}

TEST_F(RunRelease, WithoutMemoryOrTimeNothingMayBeDue) {
  IN_CHILD([] {
    const uint64_t now = hak_os_now_ms();
    EXPECT_FALSE(hak_run_release_may_be_due(now)) << "nothing is free";
    Give(Take(8 * kMiB));
    EXPECT_TRUE(hak_run_release_may_be_due(now));
    EXPECT_FALSE(Due(now));
    EXPECT_FALSE(hak_run_release_may_be_due(now + 1)) << "looked at just now";
    EXPECT_FALSE(hak_page_heap_tick(now + 1));
    EXPECT_TRUE(hak_run_release_may_be_due(now + kDeadline / 16 + 1));
    EXPECT_TRUE(hak_page_heap_tick(now + 2 * kDeadline));
    EXPECT_TRUE(hak_run_release_may_be_due(now + 2 * kDeadline)) << "more may follow at once";
  });
}

TEST_F(RunRelease, MemoryThatTheKernelDoesNotTakeIsNotAskedForAtOnceAgain) {
  IN_CHILD([] {
    char *block = Take(4 * kMiB, 2 * kMiB);
    char *wall = Take(kPage);
    Give(block);
    const uint64_t start = hak_os_now_ms();
    EXPECT_FALSE(Due(start));
    {
      const FaultPlan plan(HAK_FAULT_DECOMMIT | HAK_FAULT_UNMAP);
      EXPECT_FALSE(Due(start + 2 * kDeadline));
      EXPECT_EQ(FreeMemory(), 4 * kMiB);
      const uint64_t calls = hak_os_totals().calls;
      EXPECT_FALSE(Due(start + 2 * kDeadline + 1));
      EXPECT_EQ(hak_os_totals().calls, calls);
      EXPECT_EQ(block[kPage], 0x5A) << "it holds what it held";
    }
    EXPECT_FALSE(Due(start + 3 * kDeadline - kDeadline / 8)) << "a deadline later";
    EXPECT_TRUE(Due(start + 4 * kDeadline));
    EXPECT_EQ(FreeMemory(), 0u);
    Give(wall);
  });
}

// ---- Growth ---------------------------------------------------------------------------------------

// Holes that are too small are returned before the process becomes larger than ever before.
TEST_F(RunRelease, BeforeGrowthHolesMakeWay) {
  IN_CHILD([] {
    std::vector<char *> walls;
    std::vector<char *> holes;
    for (int i = 0; i < 8; i++) {
      holes.push_back(Take(4 * kMiB, 2 * kMiB));
      walls.push_back(Take(2 * kMiB, 2 * kMiB));
    }
    Give(holes);
    EXPECT_EQ(FreeMemory(), 32 * kMiB);
    const uint64_t committed = hak_commit_now();
    char *block = Take(12 * kMiB);
    EXPECT_EQ(FreeMemory(), 20 * kMiB);
    EXPECT_LE(hak_commit_now(), committed + kMiB);
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    Give(block);
    Give(walls);
  });
}

// ---- Huge pages -----------------------------------------------------------------------------------

bool IsHuge(const char *at) {
  hak_mapping_lock();
  const bool huge = hak_chunk_of(at)->huge;
  hak_mapping_unlock();
  return huge;
}

TEST_F(RunRelease, WhatTheProgramMayLeaveUntouchedStaysOnSmallPages) {
  if (!hak_test::HasHugePages()) GTEST_SKIP() << "no huge pages";
  IN_CHILD([] {
    hak_config.huge_pages = HAK_HUGE_PAGES_ON;
    hak_page_request request = {};
    request.size = 8 * kMiB;
    request.align = 2 * kMiB;
    request.grow = true;
    request.sparse = true;
    auto *block = static_cast<char *>(hak_page_heap_take(&request));
    ASSERT_NE(block, nullptr);
    block[0] = 1;
    EXPECT_FALSE(IsHuge(block));
    EXPECT_EQ(ResidentPages(block, 8 * kMiB), 1u);
    char *dense = Take(8 * kMiB, 2 * kMiB);
    EXPECT_TRUE(IsHuge(dense + 6 * kMiB)) << "its first chunk may be a part of the range before";
    Give({block, dense});
  });
}

TEST_F(RunRelease, AChunkOfWhichAPartGoesBackIsTakenApart) {
  if (!hak_test::HasHugePages()) GTEST_SKIP() << "no huge pages";
  IN_CHILD([] {
    hak_config.huge_pages = HAK_HUGE_PAGES_ON;
    char *block = Take(6 * kMiB, 2 * kMiB);
    EXPECT_TRUE(IsHuge(block));
    EXPECT_TRUE(IsHuge(block + 2 * kMiB));
    // Frees the end of the first chunk and all of the others.
    char *wall = Take(2 * kMiB, 2 * kMiB);
    ASSERT_EQ(hak_page_heap_resize(block, kMiB, 0, false), block);
    EXPECT_TRUE(IsHuge(block)) << "all of it is still there";
    const uint64_t start = hak_os_now_ms();
    EXPECT_FALSE(Due(start));
    EXPECT_TRUE(Due(start + 2 * kDeadline));
    EXPECT_EQ(FreeMemory(), kMiB);
    EXPECT_TRUE(IsHuge(block));
    EXPECT_TRUE(IsHuge(block + 2 * kMiB)) << "one that went back as a whole stays one";
    EXPECT_TRUE(Due(start + 2 * kDeadline));
    EXPECT_EQ(FreeMemory(), 0u);
    EXPECT_FALSE(IsHuge(block));
    EXPECT_EQ(block[kMiB - 1], 0x5A);
    EXPECT_LE(ResidentPages(block, 2 * kMiB), kMiB / kPage + 1);
    // From now on a block in it takes only its own memory.
    const uint64_t committed = hak_commit_now();
    char *part = Take(kPage);
    EXPECT_EQ(part, block + kMiB);
    EXPECT_EQ(hak_commit_now(), committed + kPage);
    Give({block, wall, part});
  });
}

// A chunk in small pages may become a huge page after all of it was returned.
TEST_F(RunRelease, AChunkThatWentBackAsAWholeIsRenewed) {
  if (!hak_test::HasHugePages()) GTEST_SKIP() << "no huge pages";
  IN_CHILD([] {
    char *block = Take(4 * kMiB, 2 * kMiB);
    char *wall = Take(2 * kMiB, 2 * kMiB);
    EXPECT_FALSE(IsHuge(block));
    hak_config.huge_pages = HAK_HUGE_PAGES_ON;
    Give(block);
    const uint64_t start = hak_os_now_ms();
    EXPECT_FALSE(Due(start));
    EXPECT_TRUE(Due(start + 2 * kDeadline));
    EXPECT_EQ(FreeMemory(), 0u);
    EXPECT_TRUE(IsHuge(block));
    EXPECT_TRUE(IsHuge(block + 2 * kMiB));
    EXPECT_FALSE(IsHuge(wall));
    // The first touch of a huge page takes all of it, and all of it is counted.
    const uint64_t committed = hak_commit_now();
    char *part = Take(kMiB);
    EXPECT_EQ(part, block);
    EXPECT_EQ(hak_commit_now(), committed + 2 * kMiB);
    EXPECT_EQ(FreeMemory(), kMiB);
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    Give({part, wall});
  });
}

// ---- Records of pages -----------------------------------------------------------------------------

size_t ResidentRecords(const char *address) {
  return ResidentPages(hak_page_records_of(address), sizeof(hak_page_records)) * kPage;
}

TEST_F(RunRelease, RecordsGoBackWithTheAddresses) {
  IN_CHILD([] {
    constexpr size_t kBlocks = 4096;
    std::vector<char *> blocks(kBlocks);
    for (char *&block : blocks) block = TakeUntouched(kMiB / 4);
    char *const first = blocks.front();
    char *const last = blocks.back();
    const size_t full = ResidentRecords(first) + ResidentRecords(last);
    EXPECT_GE(full, kBlocks / 8 * HAK_PAGE_SIZE) << "a run begins in each chunk";
    hak_config.mapping_cache_bytes = 2048 * kMiB;
    Give(blocks);
    EXPECT_GE(ResidentRecords(first) + ResidentRecords(last), full);
    // What nobody needed for a deadline is unmapped, in slices. The records follow but for a few.
    const uint64_t start = hak_os_now_ms();
    EXPECT_EQ(DueUntil(start, start + 3 * kDeadline), 1024 * kMiB);
    EXPECT_LE(hak_page_heap_totals().mapped_bytes, 200 * kMiB);
    EXPECT_LE(ResidentRecords(first) + ResidentRecords(last), full / 2);
    hak_page_heap_trim();
    EXPECT_EQ(hak_page_heap_totals().mapped_bytes, 0u);
    EXPECT_LE(ResidentRecords(first) + ResidentRecords(last), 2 * kPage)
        << "of zeros, where neighbours were looked for";
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  });
}

}  // namespace
