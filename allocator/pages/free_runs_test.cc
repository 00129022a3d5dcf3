// SPDX-License-Identifier: Apache-2.0
#include "allocator/pages/free_runs.h"

#include <gtest/gtest.h>
#include <stdint.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/page_map.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::Random;

constexpr size_t kPage = 65536;  // a multiple of every page size
constexpr uint64_t kLeaf = uint64_t{1} << HAK_LEAF_SHIFT;

// Free runs are only records: the tests make addresses up, because the memory is never touched.
class FreeRuns : public testing::Test {
 protected:
  FreeRuns() {
    hak_mapping_lock();
    EXPECT_TRUE(hak_page_map_cover(base_ - kPage, kLeaf));
    EXPECT_TRUE(hak_run_reserve(64));
    hak_page_map_set_dirty(base_, kLeaf / 2, false);
  }
  ~FreeRuns() override {
    EXPECT_STREQ(hak_free_runs_verify(), nullptr);
    while (hak_run *run = hak_run_largest()) {
      hak_run_take_out(run);
      hak_run_drop(run);
    }
    for (hak_run *run : transit_) hak_run_drop(run);
    EXPECT_EQ(hak_free_runs_bytes(), 0u);
    EXPECT_EQ(hak_free_runs_dirty(), 0u);
    EXPECT_EQ(hak_run_oldest_dirty(), nullptr);
    hak_mapping_unlock();
  }

  // A run in transit of `pages` pages; all or none of them are dirty.
  hak_run *New(size_t page, size_t pages, bool dirty = false) const {
    hak_page_map_set_dirty(At(page), pages * kPage, dirty);
    return hak_run_new(At(page), pages * kPage, dirty ? pages * kPage : 0);
  }
  hak_run *NewFree(size_t page, size_t pages, bool dirty = false, uint64_t since = 1) const {
    hak_run *run = New(page, pages, dirty);
    hak_run_make_free(run, since);
    return run;
  }
  char *At(size_t page) const { return base_ + page * kPage; }
  void ExpectRun(const hak_run *run, size_t page, size_t pages, size_t dirty) const {
    ASSERT_NE(run, nullptr);
    EXPECT_EQ(run->start, At(page));
    EXPECT_EQ(run->size, pages * kPage);
    EXPECT_EQ(run->dirty, dirty * kPage);
  }

  char *const base_ = reinterpret_cast<char *>(static_cast<uintptr_t>((uint64_t{40} << HAK_BRANCH_SHIFT) + kLeaf));
  std::vector<hak_run *> transit_;
};

TEST_F(FreeRuns, ANewRunIsInTransitAndInThePageMap) {
  hak_run *run = New(0, 5, true);
  transit_.push_back(run);
  ExpectRun(run, 0, 5, 5);
  EXPECT_EQ(run->state, HAK_RUN_TRANSIT);
  EXPECT_EQ(hak_run_end(run), At(5));
  EXPECT_EQ(hak_page_map_run(At(0)), run);
  EXPECT_EQ(hak_page_map_run(At(5) - 1), run);
  EXPECT_EQ(hak_free_runs_bytes(), 0u);
  EXPECT_EQ(hak_run_find(kPage, kPage), nullptr);
}

TEST_F(FreeRuns, RecordsAreUsedAgain) {
  std::vector<hak_run *> runs;
  for (size_t i = 0; i < 64; i++) runs.push_back(New(2 * i, 1));
  size_t in_use = 0;
  hak_run_for_each([](const hak_run *, void *count) { ++*static_cast<size_t *>(count); }, &in_use);
  EXPECT_EQ(in_use, 64u);
  std::sort(runs.begin(), runs.end());
  EXPECT_EQ(std::unique(runs.begin(), runs.end()), runs.end());
  for (hak_run *run : runs) {
    hak_run_drop(run);
    EXPECT_EQ(run->state, HAK_RUN_UNUSED);
    EXPECT_EQ(run->size, 0u);
  }
  const FaultPlan plan(HAK_FAULT_MAP | HAK_FAULT_COMMIT);
  EXPECT_TRUE(hak_run_reserve(64)) << "no new ones";
  EXPECT_FALSE(hak_run_reserve(1u << 20)) << "more than there are";
}

TEST_F(FreeRuns, FreeNeighboursMergeOnBothSides) {
  NewFree(0, 2, true, 30);
  NewFree(4, 3, false);
  EXPECT_EQ(hak_free_runs_bytes(), 5 * kPage);
  hak_run *middle = New(2, 2, true);
  hak_run_make_free(middle, 20);
  ExpectRun(middle, 0, 7, 4);
  EXPECT_EQ(middle->state, HAK_RUN_FREE);
  EXPECT_EQ(middle->freed_ms, 30u) << "the later one of what holds memory";
  EXPECT_EQ(hak_run_largest(), middle);
  EXPECT_EQ(hak_run_oldest_dirty(), middle);
  EXPECT_EQ(middle->newer, nullptr);
  EXPECT_EQ(hak_page_map_run(At(0)), middle);
  EXPECT_EQ(hak_page_map_run(At(7) - 1), middle);
  EXPECT_EQ(hak_free_runs_bytes(), 7 * kPage);
  EXPECT_EQ(hak_free_runs_dirty(), 4 * kPage);
}

TEST_F(FreeRuns, LiveNeighboursAndThoseInTransitDoNotMerge) {
  hak_run *live = New(0, 2, true);
  live->state = HAK_RUN_LIVE;
  hak_run *leaving = New(4, 2);
  leaving->state = HAK_RUN_LEAVING;
  transit_ = {live, leaving};
  hak_run *run = NewFree(2, 2, true);
  ExpectRun(run, 2, 2, 2);
  EXPECT_EQ(hak_run_free_after(live), run);
  EXPECT_EQ(hak_run_free_after(run), nullptr);
}

// A stale entry of an earlier run in the page map is not mistaken for a neighbour.
TEST_F(FreeRuns, StaleEntriesAreNoNeighbours) {
  hak_run *whole = NewFree(0, 6);
  hak_run_take_out(whole);
  hak_run *rest = hak_run_split(whole, 4 * kPage);
  hak_run_make_free(whole, 0);
  // The entry of page 5 names the rest. Its record is now used for another run, which ends at page 20.
  hak_run_drop(rest);
  hak_run *other = NewFree(17, 3);
  EXPECT_EQ(other, rest);
  hak_run *behind = NewFree(6, 2);
  ExpectRun(behind, 6, 2, 0);
  ExpectRun(whole, 0, 4, 0);
  ExpectRun(other, 17, 3, 0);
}

TEST_F(FreeRuns, ACleanRunThatMergesLeavesTheTimeOfTheOther) {
  hak_run *run = New(0, 1, true);
  hak_run_make_free(run, 5);
  hak_run *clean = New(1, 1, false);
  hak_run_make_free(clean, 900);
  ExpectRun(clean, 0, 2, 1);
  EXPECT_EQ(clean->freed_ms, 5u);
}

TEST_F(FreeRuns, ASplitSharesTheDirtyPages) {
  // No pages, all pages, and some pages; of the two parts, once the first and once the second is shorter.
  for (const size_t cut : {1u, 3u, 7u}) {
    for (unsigned bits = 0; bits < 256; bits++) {
      hak_run *run = New(0, 8, false);
      size_t dirty[2] = {0, 0};
      for (size_t page = 0; page < 8; page++) {
        if ((bits >> page & 1) == 0) continue;
        hak_page_map_set_dirty(At(page), kPage, true);
        dirty[page >= cut]++;
      }
      run->dirty = (dirty[0] + dirty[1]) * kPage;
      hak_run *rest = hak_run_split(run, cut * kPage);
      ExpectRun(run, 0, cut, dirty[0]);
      ExpectRun(rest, cut, 8 - cut, dirty[1]);
      EXPECT_EQ(rest->state, HAK_RUN_TRANSIT);
      EXPECT_EQ(hak_page_map_run(At(0)), run);
      EXPECT_EQ(hak_page_map_run(At(cut) - 1), run);
      EXPECT_EQ(hak_page_map_run(At(cut)), rest);
      EXPECT_EQ(hak_page_map_run(At(8) - 1), rest);
      hak_run_drop(run);
      hak_run_drop(rest);
      ASSERT_FALSE(HasFailure()) << cut << " " << bits;
    }
  }
}

TEST_F(FreeRuns, ThePartsOfALiveRunKnowNothingOfDirt) {
  hak_run *run = New(0, 8, true);
  run->dirty = 0;
  run->state = HAK_RUN_LIVE;
  hak_run *rest = hak_run_split(run, 3 * kPage);
  ExpectRun(run, 0, 3, 0);
  EXPECT_EQ(run->state, HAK_RUN_LIVE);
  ExpectRun(rest, 3, 5, 0);
  transit_ = {run, rest};
}

TEST_F(FreeRuns, WhatHoldsMemoryQueuesByAge) {
  hak_run *b = NewFree(0, 1, true, 20);
  NewFree(2, 1, false, 1);
  hak_run *d = NewFree(4, 1, true, 40);
  hak_run *a = NewFree(6, 1, true, 10);  // Before the oldest.
  hak_run *c = NewFree(8, 1, true, 30);  // In between.
  hak_run *c2 = NewFree(10, 1, true, 30);
  EXPECT_EQ(hak_run_oldest_dirty(), a);
  EXPECT_EQ(a->older, nullptr);
  const hak_run *order[] = {a, b, c, c2, d};
  const hak_run *at = a;
  for (const hak_run *run : order) {
    ASSERT_EQ(at, run);
    if (at->newer != nullptr) {
      EXPECT_EQ(at->newer->older, at);
    }
    at = at->newer;
  }
  EXPECT_EQ(at, nullptr);
  EXPECT_STREQ(hak_free_runs_verify(), nullptr);
  for (hak_run *run : {c, a, d}) {
    hak_run_take_out(run);
    EXPECT_EQ(run->state, HAK_RUN_TRANSIT);
    EXPECT_STREQ(hak_free_runs_verify(), nullptr);
    transit_.push_back(run);
  }
  EXPECT_EQ(hak_run_oldest_dirty(), b);
  EXPECT_EQ(b->newer, c2);
  EXPECT_EQ(c2->newer, nullptr);
  EXPECT_EQ(c2->older, b);
}

TEST_F(FreeRuns, TheSmallestAndLowestThatServesIsFound) {
  NewFree(0, 8);
  hak_run *four = NewFree(10, 4);
  NewFree(20, 4, true);
  hak_run *two = NewFree(30, 2);
  EXPECT_EQ(hak_run_find(1, HAK_PAGE_SIZE), two);
  EXPECT_EQ(hak_run_find(2 * kPage, HAK_PAGE_SIZE), two);
  EXPECT_EQ(hak_run_find(2 * kPage + HAK_PAGE_SIZE, HAK_PAGE_SIZE), four);
  EXPECT_EQ(hak_run_find(4 * kPage, HAK_PAGE_SIZE), four);
  ExpectRun(hak_run_find(4 * kPage + HAK_PAGE_SIZE, HAK_PAGE_SIZE), 0, 8, 0);
  ExpectRun(hak_run_find(8 * kPage, HAK_PAGE_SIZE), 0, 8, 0);
  EXPECT_EQ(hak_run_find(8 * kPage + HAK_PAGE_SIZE, HAK_PAGE_SIZE), nullptr);
  ExpectRun(hak_run_largest(), 0, 8, 0);
}

// The suitable run is found when it is aligned, also when other runs of its size are badly aligned.
TEST_F(FreeRuns, AnAlignmentIsFoundWhereThereIsOne) {
  NewFree(1, 4);
  NewFree(9, 4);
  EXPECT_EQ(hak_run_find(4 * kPage, 4 * kPage), nullptr);
  hak_run *exact = NewFree(20, 4);
  EXPECT_EQ(hak_run_find(4 * kPage, 4 * kPage), exact);
  hak_run *large = NewFree(31, 30);
  ExpectRun(hak_run_find(3 * kPage, 2 * kPage), 1, 4, 0);  // From page 2 on.
  EXPECT_EQ(hak_run_find(29 * kPage, 32 * kPage), large);
  EXPECT_EQ(hak_run_find(30 * kPage, 32 * kPage), nullptr);
  EXPECT_EQ(hak_run_find(kPage, 64 * kPage), nullptr);
}

// Many runs that are large enough but badly aligned do not hide a larger one.
TEST_F(FreeRuns, ManyThatLieBadlyDoNotHideALargerOne) {
  ASSERT_TRUE(hak_run_reserve(200));
  for (size_t i = 0; i < 150; i++) NewFree(1 + 4 * i, 2);
  EXPECT_EQ(hak_run_find(2 * kPage, 4 * kPage), nullptr);
  hak_run *large = NewFree(1001, 6);
  EXPECT_EQ(hak_run_find(2 * kPage, 4 * kPage), large);
}

TEST_F(FreeRuns, AloneIsWhatTouchesNoOtherRun) {
  hak_run *run = NewFree(1, 2);
  EXPECT_EQ(hak_run_next_alone(), run);
  hak_run *live = New(0, 1);
  live->state = HAK_RUN_LIVE;
  EXPECT_EQ(hak_run_next_alone(), nullptr);
  hak_run *behind = New(9, 1);
  hak_run *other = NewFree(8, 1);
  EXPECT_EQ(hak_run_next_alone(), nullptr);
  hak_run_drop(behind);
  EXPECT_EQ(hak_run_next_alone(), other);
  hak_run_drop(live);
  EXPECT_EQ(hak_run_next_alone(), other) << "the smallest";
  transit_.push_back(other);
  hak_run_take_out(other);
  EXPECT_EQ(hak_run_next_alone(), run);
}

TEST_F(FreeRuns, VerifyNoticesWhatIsWrong) {
  hak_run *run = NewFree(0, 4, true, 10);
  hak_run *second = NewFree(8, 4, true, 20);
  ASSERT_STREQ(hak_free_runs_verify(), nullptr);
  const auto fault = [] {
    const char *what = hak_free_runs_verify();
    return std::string(what != nullptr ? what : "");
  };
  run->dirty -= HAK_PAGE_SIZE;
  EXPECT_EQ(fault(), "free run miscounted");
  run->dirty += HAK_PAGE_SIZE;
  hak_page_map_set_dirty(At(2), HAK_PAGE_SIZE, false);
  EXPECT_EQ(fault(), "free run miscounted");
  hak_page_map_set_dirty(At(2), HAK_PAGE_SIZE, true);
  hak_page_map_set_run(At(3), kPage, second);
  EXPECT_EQ(fault(), "run that the page map does not know");
  hak_page_map_set_run(At(0), 4 * kPage, run);
  std::swap(run->freed_ms, second->freed_ms);
  EXPECT_EQ(fault(), "queue of free runs out of order");
  std::swap(run->freed_ms, second->freed_ms);
  second->start++;
  EXPECT_NE(fault(), "");
  second->start--;
  run->newer = nullptr;
  EXPECT_EQ(fault(), "free run outside the queue");
  run->newer = second;
  hak_run *behind = New(12, 2);
  behind->state = HAK_RUN_FREE;
  EXPECT_NE(fault(), "");
  hak_run_drop(behind);
  EXPECT_EQ(fault(), "");
}

// Compares the state of each page with the records.
TEST_F(FreeRuns, AgreesWithAModelOfPages) {
  constexpr size_t kPages = 120;
  enum State : uint8_t { kOutside, kFree, kFreeDirty, kLive };
  std::vector<State> pages(kPages, kOutside);
  std::vector<hak_run *> live;
  Random random(1);
  ASSERT_TRUE(hak_run_reserve(kPages + 8));
  // At first all pages are in one run.
  NewFree(0, kPages);
  std::fill(pages.begin(), pages.end(), kFree);
  const auto is_free = [&](size_t page) { return pages[page] == kFree || pages[page] == kFreeDirty; };
  uint64_t now = 1;
  for (int i = 0; i < hak_unit::Operations(20000); i++) {
    ASSERT_TRUE(hak_run_reserve(3));
    if (random.OneIn(2)) {
      const size_t count = 1 + random.Below(random.OneIn(4) ? 30 : 5);
      const size_t align = size_t{1} << random.Below(4);
      // The smallest and lowest sequence of free pages that has room.
      size_t best = kPages;
      size_t best_length = SIZE_MAX;
      for (size_t page = 0; page < kPages; page++) {
        if (!is_free(page) || (page > 0 && is_free(page - 1))) continue;
        size_t length = 0;
        while (page + length < kPages && is_free(page + length)) length++;
        const size_t first = (page + align - 1) / align * align;
        if (first + count <= page + length && length < best_length) {
          best = page;
          best_length = length;
        }
      }
      hak_run *run = hak_run_find(count * kPage, align * kPage);
      ASSERT_EQ(run != nullptr, best != kPages);
      if (run == nullptr) continue;
      ASSERT_EQ(run->start, At(best));
      ASSERT_EQ(run->size, best_length * kPage);
      const size_t first = (best + align - 1) / align * align;
      hak_run_take_out(run);
      run = hak_run_cut(run, At(first), count * kPage);
      const auto begin = pages.begin() + static_cast<std::ptrdiff_t>(first);
      ASSERT_EQ(run->dirty,
                static_cast<size_t>(std::count(begin, begin + static_cast<std::ptrdiff_t>(count), kFreeDirty)) * kPage);
      std::fill(begin, begin + static_cast<std::ptrdiff_t>(count), kLive);
      run->state = HAK_RUN_LIVE;
      run->dirty = 0;
      live.push_back(run);
    } else if (!live.empty()) {
      const size_t n = random.Below(live.size());
      hak_run *run = live[n];
      live[n] = live.back();
      live.pop_back();
      const bool dirty = random.OneIn(2);
      const auto begin = pages.begin() + (run->start - At(0)) / static_cast<std::ptrdiff_t>(kPage);
      std::fill(begin, begin + static_cast<std::ptrdiff_t>(run->size / kPage), dirty ? kFreeDirty : kFree);
      hak_page_map_set_dirty(run->start, run->size, dirty);
      run->dirty = dirty ? run->size : 0;
      run->state = HAK_RUN_TRANSIT;
      hak_run_make_free(run, now);
      now += random.Below(2);
    }
    const auto dirty = static_cast<size_t>(std::count(pages.begin(), pages.end(), kFreeDirty));
    const auto clean = static_cast<size_t>(std::count(pages.begin(), pages.end(), kFree));
    ASSERT_EQ(hak_free_runs_dirty(), dirty * kPage);
    ASSERT_EQ(hak_free_runs_bytes(), (dirty + clean) * kPage);
    ASSERT_STREQ(hak_free_runs_verify(), nullptr) << i;
  }
  transit_ = live;
}

}  // namespace
