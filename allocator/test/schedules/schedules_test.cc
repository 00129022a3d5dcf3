// SPDX-License-Identifier: Apache-2.0
//
// Interleavings of the real code for remote frees, the orphanage and adoption: a small program of three threads, some
// thousands of schedules by scheduler.h. The oracle knows who has each block; at the end nothing may be left, and the
// records must be right. HAK_TEST_SEED repeats a run.
#include <gtest/gtest.h>
#include <stdint.h>

#include <iterator>
#include <memory>
#include <vector>

#include "allocator/heap/give_back.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/idle_slabs.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/test_owner.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/test/schedules/live_blocks.h"
#include "allocator/test/schedules/races.h"
#include "allocator/test/schedules/scheduler.h"
#include "allocator/test/schedules/searches.h"
#include "allocator/test/test_random.h"

namespace {

using hak_schedules::Fail;
using hak_schedules::LiveBlocks;
using hak_schedules::Plan;
using hak_schedules::Planted;
using hak_schedules::Result;
using hak_test::Random;
using hak_unit::Owner;

// The smallest blocks, of which a slab has thousands, and the largest, of which it has few: such slabs become empty.
constexpr uint32_t kClasses[] = {1, HAK_CLASS_COUNT - 1};

// Three threads. One owns slabs, goes on with its work, and ends in most runs. Of its blocks the second one frees half.
// The third may give slabs of the others to the orphanage, as if they were idle. It takes blocks of the same class,
// from the orphanage if there are some, and frees the other half.
class Family {
 public:
  explicit Family(uint64_t seed)
      : random_(seed),
        class_id_(kClasses[random_.Index(std::size(kClasses))]),
        owner_(std::make_unique<Owner>()),
        ends_(!random_.OneIn(4)),
        gives_(random_.OneIn(2)),
        calls_(random_.Below(4)),
        taken_(1 + random_.Below(4)),
        batch_(1 + random_.Index(4)) {
    for (uint64_t i = 4 + random_.Below(random_.OneIn(2) ? 5 : 21); i > 0; i--)
      shares_[i % 2].push_back(Malloc(owner_.get()));
  }

  void Own() {
    Work(owner_.get(), calls_);
    hak_heap_enter(owner_->heap());
    hak_remote_drain(owner_->heap());
    hak_heap_leave(owner_->heap());
    if (ends_) owner_.reset();
  }
  void Free() { FreeShare(&shares_[0], freer_.heap()); }
  void Adopt() {
    for (int visits = gives_ ? 3 : 0; visits > 0; visits--) hak_heap_visit_next(Give, third_.heap());
    Work(&third_, taken_);
    FreeShare(&shares_[1], third_.heap());
  }

 private:
  void *Malloc(Owner *by) {
    void *const block = by->Malloc(class_id_);
    if (block == nullptr) Fail("there is no memory");
    live_.Take(block);
    return block;
  }
  static void Give(hak_heap *heap, void *mine) {
    if (heap != mine) hak_idle_slabs_give(heap, heap->idle.ticked_ms, 0);
  }
  void Work(Owner *by, uint64_t count) {
    std::vector<void *> held;
    for (; count > 0; count--) held.push_back(Malloc(by));
    for (void *block : held) {
      live_.Give(block);
      by->Free(block);
    }
  }
  // In one chain or in several.
  void FreeShare(std::vector<void *> *share, hak_heap *heap) {
    while (!share->empty()) {
      std::vector<void *> some;
      for (; some.size() < batch_ && !share->empty(); share->pop_back()) some.push_back(share->back());
      for (void *block : some) live_.Give(block);
      hak_heap_enter(heap);
      hak_give_back(heap, some.data(), static_cast<uint32_t>(some.size()));
      hak_heap_leave(heap);
    }
  }

  Random random_;
  const uint32_t class_id_;
  LiveBlocks live_;
  std::unique_ptr<Owner> owner_;
  Owner freer_;
  Owner third_;
  std::vector<void *> shares_[2];
  const bool ends_;
  const bool gives_;
  const uint64_t calls_;
  const uint64_t taken_;
  const size_t batch_;
};

Result RemoteFreesWhileTheirOwnerEnds(const Plan &plan) {
  auto family = std::make_unique<Family>(plan.seed);
  const Result result =
      hak_schedules::Run(plan, {[&] { family->Own(); }, [&] { family->Free(); }, [&] { family->Adopt(); }});
  family.reset();
  // All blocks were freed, and all heaps are closed.
  if (hak_pool_totals().tiny_blocks != 0) Fail("a block got lost");
  const char *fault = hak_heap_check(&hak_orphanage);
  if (fault == nullptr) fault = hak_pool_verify();
  if (fault != nullptr) Fail(fault);
  return result;
}

class Schedules : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    // Nothing is due: time stands still.
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    // Bins stay small.
    hak_config.thread_cache_bytes = 0;
  }
};

TEST_F(Schedules, RemoteFreesWhileTheirOwnerEnds) {
  hak_schedules::SearchFindsNothing(RemoteFreesWhileTheirOwnerEnds, 5000);
}

TEST_F(Schedules, TheSameSeedGivesTheSameRun) {
  hak_schedules::SameSeedGivesTheSameRun(RemoteFreesWhileTheirOwnerEnds);
}

// As a planted race may make it, by a list that has become a ring.
Result DoesNotEndAfterItsThreads(const Plan &plan) {
  const Result result = hak_schedules::Run(plan, {[] {}, [] {}});
  volatile bool always = true;
  while (always) {
  }
  return result;
}

TEST_F(Schedules, AScheduleThatDoesNotEndIsFound) {
  hak_schedules::Search search{1, 5, 0};
  search.seconds = 1;
  const hak_schedules::Found found = hak_schedules::Explore(search, DoesNotEndAfterItsThreads);
  EXPECT_TRUE(found.failed);
  EXPECT_EQ(found.schedules, 1U);
}

class PlantedRaces : public Schedules, public testing::WithParamInterface<Planted> {};

TEST_P(PlantedRaces, IsFound) { hak_schedules::PlantedRaceIsFound(RemoteFreesWhileTheirOwnerEnds, GetParam()); }

TEST_P(PlantedRaces, IsNotThereIfOneThreadRunsAfterTheOther) {
  hak_schedules::PlantedRaceIsNotThereInOrder(RemoteFreesWhileTheirOwnerEnds, GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, PlantedRaces,
                         testing::Values(Planted{"TornPush", HAK_TEST_TORN_PUSH, 20000},
                                         Planted{"TornNotice", HAK_TEST_TORN_NOTICE, 20000},
                                         Planted{"TornDetach", HAK_TEST_TORN_DETACH, 50000},
                                         Planted{"TornDrain", HAK_TEST_TORN_DRAIN, 200000},
                                         Planted{"LostNotices", HAK_TEST_LOST_NOTICES, 2000},
                                         Planted{"OrphanFreed", HAK_TEST_ORPHAN_FREED, 100000},
                                         Planted{"EarlyOrphan", HAK_TEST_EARLY_ORPHAN, 100000}),
                         hak_schedules::NameOf);

}  // namespace
