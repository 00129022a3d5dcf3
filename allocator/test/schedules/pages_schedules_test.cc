// SPDX-License-Identifier: Apache-2.0
//
// Interleavings of the real code for the page heap, whose runs are in transit while their memory or their addresses are
// returned without the lock: two threads that take, resize and give blocks, and one that trims. The oracle knows who
// has which addresses and what they hold; at the end the records must be right, and a trim must return everything.
#include <gtest/gtest.h>
#include <stdint.h>

#include <memory>
#include <utility>
#include <vector>

#include "allocator/os/base.h"
#include "allocator/os/os.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/test/schedules/live_ranges.h"
#include "allocator/test/schedules/races.h"
#include "allocator/test/schedules/scheduler.h"
#include "allocator/test/schedules/searches.h"
#include "allocator/test/test_random.h"

namespace {

using hak_schedules::Fail;
using hak_schedules::LiveRanges;
using hak_schedules::Plan;
using hak_schedules::Planted;
using hak_schedules::Remove;
using hak_schedules::Result;
using hak_test::Random;

constexpr size_t kMiB = size_t{1} << 20;
// More than the records of all runs and pages of these programs take.
constexpr uint64_t kRecords = 16 * kMiB;
// How many pages of a zeroed block are read.
constexpr size_t kLooks = 8;

class Family {
 public:
  explicit Family(uint64_t seed) : random_(seed) {
    // Freed memory goes back at once, or stays until a trim.
    hak_config.mapping_cache_bytes = random_.OneIn(3) ? 0 : 64 * kMiB;
    for (uint64_t i = 1 + random_.Below(5); i > 0; i--) Take(&random_, &shared_);
    for (uint64_t i = random_.Below(4); i > 0 && !shared_.empty(); i--) Give(Remove(&random_, &shared_));
  }

  // Half of what it gives the other one took.
  void Use() {
    Random random(random_.Next());
    std::vector<char *> mine;
    for (uint64_t i = 2 + random.Below(5); i > 0; i--) {
      std::vector<char *> *const some = random.OneIn(2) ? &mine : &shared_;
      if (some->empty() || random.OneIn(2)) {
        Take(&random, some);
      } else if (random.OneIn(3)) {
        Resize(&random, some);
      } else {
        Give(Remove(&random, some));
      }
    }
    while (!mine.empty()) Give(Remove(&random, &mine));
  }
  void Trim() {
    Random random(random_.Next());
    std::vector<char *> mine;
    for (uint64_t i = 1 + random.Below(2); i > 0; i--) {
      hak_page_heap_trim();
      if (random.OneIn(2)) Take(&random, &mine);
    }
    while (!mine.empty()) Give(Remove(&random, &mine));
  }

  // After the threads.
  void Check() {
    while (!shared_.empty()) Give(Remove(&random_, &shared_));
    if (live_.Count() != 0) Fail("the program still has blocks");
    Verify();
    const struct hak_page_heap_totals all_free = hak_page_heap_totals();
    if (all_free.blocks != 0 || all_free.bytes != 0) Fail("a block got lost");
    if (all_free.free_bytes != all_free.mapped_bytes) Fail("a run got lost");
    hak_page_heap_trim();
    Verify();
    const struct hak_page_heap_totals left = hak_page_heap_totals();
    if (left.mapped_bytes != 0 || left.cached_bytes != 0) Fail("a trim left something");
    if (hak_commit_now() > kRecords) Fail("the committed bytes do not add up");
  }

 private:
  static void Verify() {
    const char *const fault = hak_page_heap_verify();
    if (fault != nullptr) Fail(fault);
  }
  // Most are of few pages, beside each other in a word of the page map.
  static size_t SizeFor(Random *random) {
    const uint64_t pages = random->OneIn(4) ? 256 + random->Below(512) : 1 + random->Below(40);
    return pages * hak_os_page_size();
  }

  void Take(Random *random, std::vector<char *> *to) {
    hak_page_request request = {};
    request.size = SizeFor(random);
    request.align = hak_os_page_size();
    request.grow = true;
    char *const block = static_cast<char *>(hak_page_heap_take(&request));
    if (block == nullptr) Fail("there is no memory");
    if (random->OneIn(2)) {
      hak_page_map_clear(block, request.size);
      RequireZero(block, request.size);
    }
    live_.Take(block, request.size);
    to->push_back(block);
  }
  static void RequireZero(const char *block, size_t size) {
    const size_t page = hak_os_page_size();
    for (size_t i = 0; i < kLooks; i++) {
      const char *const at = block + (size / page - 1) * i / (kLooks - 1) * page;
      if (at[0] != 0 || at[page - 1] != 0) Fail("a zeroed block is not zero");
    }
  }
  void Give(char *block) {
    live_.Give(block);
    if (!hak_page_heap_give(block)) Fail("the page heap does not know the block");
  }
  void Resize(Random *random, std::vector<char *> *some) {
    char *const block = Remove(random, some);
    const size_t before = live_.Give(block);
    const size_t size = random->OneIn(2) ? before + SizeFor(random) : SizeFor(random);
    auto *now = static_cast<char *>(hak_page_heap_resize(block, size, 0, true));
    const bool done = now != nullptr;
    if (!done) now = block;
    LiveRanges::Require(now, block);
    live_.Take(now, done ? size : before);
    some->push_back(now);
  }

  Random random_;
  LiveRanges live_;
  std::vector<char *> shared_;
};

Result RunsInTransit(const Plan &plan) {
  auto family = std::make_unique<Family>(plan.seed);
  const Result result =
      hak_schedules::Run(plan, {[&] { family->Use(); }, [&] { family->Use(); }, [&] { family->Trim(); }});
  family->Check();
  return result;
}

class PagesSchedules : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    // Time stands still.
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.lean_decommit = HAK_DECOMMIT_OFF;
    hak_config.huge_pages = HAK_HUGE_PAGES_OFF;
    hak_config.memory_limit_bytes = 0;
    hak_limit_changed();
  }
};

TEST_F(PagesSchedules, RunsInTransit) { hak_schedules::SearchFindsNothing(RunsInTransit, 5000); }

TEST_F(PagesSchedules, TheSameSeedGivesTheSameRun) { hak_schedules::SameSeedGivesTheSameRun(RunsInTransit); }

class PlantedRaces : public PagesSchedules, public testing::WithParamInterface<Planted> {};

TEST_P(PlantedRaces, IsFound) { hak_schedules::PlantedRaceIsFound(RunsInTransit, GetParam()); }

TEST_P(PlantedRaces, IsNotThereIfOneThreadRunsAfterTheOther) {
  hak_schedules::PlantedRaceIsNotThereInOrder(RunsInTransit, GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, PlantedRaces,
                         testing::Values(Planted{"LateTakeOut", HAK_TEST_LATE_TAKE_OUT, 100000},
                                         Planted{"FreeInTransit", HAK_TEST_FREE_IN_TRANSIT, 20000},
                                         Planted{"LateCall", HAK_TEST_LATE_CALL, 100000}),
                         hak_schedules::NameOf);

}  // namespace
