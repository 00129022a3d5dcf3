// SPDX-License-Identifier: Apache-2.0
//
// Interleavings of the real code for the slab pool, whose slabs and superslabs are in transit while their memory or
// their addresses are returned without the lock: two threads that take and give slabs, and one that trims. The oracle
// knows who has which addresses and what they hold; at the end the records must be right, and a trim must return
// everything.
#include <gtest/gtest.h>
#include <stdint.h>
#include <string.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/decommit.h"
#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/slab/pool_lock.h"
#include "allocator/slab/slab.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_pool_state.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/slab/slab_release.h"
#include "allocator/slab/superslab_records.h"
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

constexpr uint64_t kHour = uint64_t{3600} * 1000;
// A class of few blocks a slab.
constexpr uint32_t kClass = HAK_CLASS_COUNT - 1;

// The pool only stores owners: any address that is not NULL will do.
hak_heap *SomeOwner() { return reinterpret_cast<hak_heap *>(uintptr_t{64}); }

class Family {
 public:
  explicit Family(uint64_t seed) : random_(seed) {
    // Freed memory goes back at once, or at a trim; at once lazily, or not; with its addresses, or without.
    hak_config.decommit_deadline_ms = random_.OneIn(2) ? 0 : kHour;
    hak_config.keep_superslabs = random_.Below(3);
    constexpr hak_decommit_mode kModes[] = {HAK_DECOMMIT_OFF, HAK_DECOMMIT_OFF, HAK_DECOMMIT_FREE,
                                            HAK_DECOMMIT_DONTNEED};
    hak_config.lean_decommit = kModes[random_.Below(4)];
    for (uint64_t i = 1 + random_.Below(36); i > 0; i--) Take(&shared_);
    for (uint64_t i = random_.Below(36); i > 0 && !shared_.empty(); i--) Give(Remove(&random_, &shared_));
  }

  // Half of what it gives the other one took.
  void Use() {
    Random random(random_.Next());
    std::vector<hak_slab *> mine;
    for (uint64_t i = 2 + random.Below(5); i > 0; i--) {
      std::vector<hak_slab *> *const some = random.OneIn(2) ? &mine : &shared_;
      if (some->empty() || random.OneIn(2)) {
        Take(some);
      } else {
        Give(Remove(&random, some));
      }
    }
    while (!mine.empty()) Give(Remove(&random, &mine));
  }
  void Trim() {
    Random random(random_.Next());
    std::vector<hak_slab *> mine;
    for (uint64_t i = 1 + random.Below(3); i > 0; i--) {
      if (random.OneIn(3)) {
        hak_pool_make_way(HAK_SUPERSLAB_SIZE);
      } else {
        hak_pool_trim(random.OneIn(4) ? HAK_SLAB_SIZE : 0);
      }
      if (random.OneIn(2)) Take(&mine);
    }
    while (!mine.empty()) Give(Remove(&random, &mine));
  }

  // After the threads.
  void Check() {
    Verify();
    while (!shared_.empty()) Give(Remove(&random_, &shared_));
    if (live_.Count() != 0) Fail("the program still has slabs");
    Verify();
    if (hak_pool_totals().slabs_used != 0) Fail("a slab got lost");
    if (hak_config.decommit_deadline_ms == 0 && hak_config.keep_superslabs == 0) {
      while (hak_pool_tick(hak_os_now_ms())) {
      }
      if (hak_pool_totals().superslabs != 0) Fail("an empty superslab waits for nothing");
    }
    hak_pool_trim(0);
    Verify();
    const struct hak_pool_totals left = hak_pool_totals();
    if (left.superslabs != 0 || left.slabs_free != 0) Fail("a trim left something");
    if (hak_pool_free_bytes() != 0 || hak_commit_now() != 0) Fail("the bytes do not add up");
  }

 private:
  static void Verify() {
    const char *const fault = hak_pool_verify();
    if (fault != nullptr) Fail(fault);
  }
  void Take(std::vector<hak_slab *> *to) {
    hak_slab *const slab = hak_pool_take(kClass, SomeOwner(), true);
    if (slab == nullptr) Fail("there is no memory");
    char *const begin = hak_slab_begin(slab);
    const auto size = static_cast<size_t>(hak_slab_end(slab) - begin);
    if (slab->zeroed) {
      for (const char *at : {begin, begin + size / 2, begin + size - 1}) {
        if (*at != 0) Fail("a slab that is called zero is not");
      }
    }
    std::vector<void *> blocks(slab->capacity);
    if (hak_slab_carve(slab, blocks.data(), slab->capacity) != slab->capacity)
      Fail("a slab that was just taken is full");
    live_.Take(begin, size);
    begin[size / 2] = 1;
    to->push_back(slab);
  }
  void Give(hak_slab *slab) {
    live_.Give(hak_slab_begin(slab));
    hak_pool_give(slab);
  }

  Random random_;
  LiveRanges live_;
  std::vector<hak_slab *> shared_;
};

Result SlabsInTransit(const Plan &plan) {
  auto family = std::make_unique<Family>(plan.seed);
  const Result result =
      hak_schedules::Run(plan, {[&] { family->Use(); }, [&] { family->Use(); }, [&] { family->Trim(); }});
  family->Check();
  return result;
}

// A thread makes a system call; another one may not go on before.
Result OneWaitsForTheOther(const Plan &plan) {
  bool is_out = false;
  bool is_back = false;
  const auto returns = [&] {
    hak_pool_enter();
    const bool out = hak_pool_step_out();
    is_out = true;
    hak_test_point();
    hak_test_point();
    is_back = true;
    hak_pool_step_in(out);
    hak_lock_release(&hak_pool_mutex);
  };
  const auto waits = [&] {
    hak_test_point();
    const bool was_out = is_out;
    hak_pool_settle();
    if (was_out && !is_back) Fail("it did not wait");
  };
  return hak_schedules::Run(plan, {returns, waits});
}

// The same for a fork, which holds the lock afterwards.
Result AForkWaits(const Plan &plan) {
  bool is_out = false;
  const auto returns = [&] {
    hak_pool_enter();
    is_out = hak_pool_step_out();
    const bool out = is_out;
    hak_test_point();
    is_out = false;
    hak_pool_step_in(out);
    hak_lock_release(&hak_pool_mutex);
  };
  const auto forks = [&] {
    hak_pool_lock();
    for (int i = 0; i < 3; i++) {
      if (is_out) Fail("a thread is in a system call");
      hak_test_point();
    }
    hak_pool_unlock();
  };
  return hak_schedules::Run(plan, {returns, returns, forks});
}

class PoolSchedules : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    hak_superslab_records_init();
    hak_config.huge_pages = HAK_HUGE_PAGES_OFF;
    hak_config.lean_target_bytes = 0;
    hak_config.memory_limit_bytes = 0;
    hak_limit_changed();
  }
};

TEST_F(PoolSchedules, SlabsInTransit) { hak_schedules::SearchFindsNothing(SlabsInTransit, 5000); }

TEST_F(PoolSchedules, TheSameSeedGivesTheSameRun) { hak_schedules::SameSeedGivesTheSameRun(SlabsInTransit); }

TEST_F(PoolSchedules, ARequestWaitsForWhatIsInTransit) { hak_schedules::SearchFindsNothing(OneWaitsForTheOther, 2000); }

TEST_F(PoolSchedules, AForkWaitsForWhatIsInTransit) { hak_schedules::SearchFindsNothing(AForkWaits, 2000); }

TEST_F(PoolSchedules, ARequestThatDoesNotWaitIsFound) {
  hak_schedules::PlantedRaceIsFound(OneWaitsForTheOther, Planted{"SettlesAtOnce", HAK_TEST_SETTLES_AT_ONCE, 2000});
}

// In one thread the lock is free whenever nobody holds it.
TEST_F(PoolSchedules, MemoryIsReturnedWithoutTheLock) {
  static int calls;
  static std::string under_lock;
  calls = 0;
  under_lock.clear();
  hak_schedules::on_call = [](const char *name) {
    if (strcmp(name, "map") == 0 || strcmp(name, "advise") == 0) return;
    calls++;
    if (atomic_load_explicit(&hak_pool_mutex.state, memory_order_relaxed) != 0) under_lock = name;
  };
  for (uint64_t seed = 0; seed < 50; seed++) {
    Family family(seed);
    family.Use();
    family.Trim();
    family.Check();
  }
  hak_schedules::on_call = nullptr;
  EXPECT_GT(calls, 100);
  EXPECT_EQ(under_lock, "");
}

class PlantedRaces : public PoolSchedules, public testing::WithParamInterface<Planted> {};

TEST_P(PlantedRaces, IsFound) { hak_schedules::PlantedRaceIsFound(SlabsInTransit, GetParam()); }

TEST_P(PlantedRaces, IsNotThereIfOneThreadRunsAfterTheOther) {
  hak_schedules::PlantedRaceIsNotThereInOrder(SlabsInTransit, GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, PlantedRaces,
                         testing::Values(Planted{"LateLeave", HAK_TEST_LATE_LEAVE, 100000},
                                         Planted{"TakenInTransit", HAK_TEST_TAKEN_IN_TRANSIT, 20000},
                                         Planted{"ForgetsEmpty", HAK_TEST_FORGETS_EMPTY, 300000}),
                         hak_schedules::NameOf);

}  // namespace
