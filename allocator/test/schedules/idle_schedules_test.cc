// SPDX-License-Identifier: Apache-2.0
//
// Interleavings of the real code for the caches of idle threads (heap/idle_cache.h): the owner of a cache, a thread
// that empties it, and one that does both to another cache. No thread is idle here: what the protocol must bear is that
// the owner runs meanwhile. The oracle knows who has each block; at the end nothing may be left, and the records must
// be right.
#include <gtest/gtest.h>
#include <stdint.h>
#include <string.h>

#include <iterator>
#include <memory>
#include <set>
#include <vector>

#include "allocator/heap/bin.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/idle_cache.h"
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

// Small blocks, of which a bin holds many, and larger ones, of which it holds few.
constexpr uint32_t kClasses[] = {1, 4, 9};

class Family {
 public:
  explicit Family(uint64_t seed) : random_(seed), class_id_(kClasses[random_.Index(std::size(kClasses))]) {
    for (User &user : users_) user.random = Random(random_.Next());
    // What the caches hold before; the other one frees some of the first one's blocks.
    std::vector<void *> blocks;
    for (uint64_t i = 1 + random_.Below(8); i > 0; i--) blocks.push_back(Malloc(&users_[0]));
    for (void *block : blocks) {
      if (random_.OneIn(8)) {
        users_[1].held.push_back(block);
      } else {
        Free(&users_[0], block);
      }
    }
  }

  // The stack goes up and down over the same few slots.
  void Use(size_t who) {
    User *const user = &users_[who];
    for (uint64_t i = 1 + user->random.Below(6); i > 0; i--) {
      if (user->random.OneIn(2)) {
        user->held.push_back(Malloc(user));
      } else if (!user->held.empty()) {
        FreeOne(user);
      }
    }
    while (!user->held.empty()) FreeOne(user);
    if (user->random.OneIn(4)) user->owner.reset();
  }
  // Visits the heaps as the reclaim work does.
  void Steal(uint64_t visits) {
    Random random(random_.Next());
    for (; visits > 0; visits--) hak_heap_visit_next(Visit, &random);
  }
  void UseAndSteal() {
    Steal(random_.Below(2));
    Use(1);
  }
  void StealOften() { Steal(1 + random_.Below(2)); }

  // After the threads: the bins are what their records say.
  void Check() {
    for (User &user : users_) {
      if (user.owner == nullptr) continue;
      for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) CheckBin(user.owner->heap(), class_id);
    }
  }

 private:
  struct User {
    std::unique_ptr<Owner> owner = std::make_unique<Owner>();
    Random random{0};
    std::vector<void *> held;
  };

  static void Visit(hak_heap *heap, void *context) {
    auto *const random = static_cast<Random *>(context);
    hak_idle_cache_steal(heap, 1, 0);
    if (random->OneIn(4)) hak_idle_cache_trip(heap);
    if (random->OneIn(4)) hak_remote_drain(heap);
    if (random->OneIn(4)) hak_heap_release_empty(heap);
  }
  // As many slots of the stack are empty as thieves say they took, and no block is in two of them.
  static void CheckBin(hak_heap *heap, uint32_t class_id) {
    const hak_bin *bin = &heap->cache.bins[class_id];
    if (hak_bin_base(bin) == nullptr) return;
    uint32_t empty = 0;
    std::set<void *> blocks;
    for (void **slot = hak_bin_first(bin); slot <= hak_bin_top(bin); slot++) {
      if (*slot == nullptr) {
        empty++;
      } else if (!blocks.insert(*slot).second) {
        Fail("a block is in two slots");
      }
    }
    if (empty != atomic_load_explicit(&heap->classes[class_id].idle.stolen, memory_order_relaxed)) {
      Fail("the empty slots are not those that were stolen");
    }
  }

  void *Malloc(User *user) {
    void *const block = user->owner->Malloc(class_id_);
    if (block == nullptr) Fail("there is no memory");
    live_.Take(block);
    return block;
  }
  void Free(User *user, void *block) {
    live_.Give(block);
    user->owner->Free(block);
  }
  void FreeOne(User *user) {
    const size_t at = user->random.Index(user->held.size());
    void *const block = user->held[at];
    user->held.erase(user->held.begin() + static_cast<ptrdiff_t>(at));
    Free(user, block);
  }

  Random random_;
  const uint32_t class_id_;
  LiveBlocks live_;
  User users_[2];
};

Result CachesThatOthersEmpty(const Plan &plan) {
  auto family = std::make_unique<Family>(plan.seed);
  const Result result = hak_schedules::Run(
      plan, {[&] { family->Use(0); }, [&] { family->UseAndSteal(); }, [&] { family->StealOften(); }});
  family->Check();
  family.reset();
  // All blocks were freed, and all heaps are closed.
  if (hak_pool_totals().tiny_blocks != 0) Fail("a block got lost");
  const char *fault = hak_heap_check(&hak_orphanage);
  if (fault == nullptr) fault = hak_pool_verify();
  if (fault != nullptr) Fail(fault);
  return result;
}

class IdleSchedules : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    // Nothing is due: time stands still.
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    // Bins stay small.
    hak_config.thread_cache_bytes = 0;
  }
};

TEST_F(IdleSchedules, CachesThatOthersEmpty) { hak_schedules::SearchFindsNothing(CachesThatOthersEmpty, 5000); }

TEST_F(IdleSchedules, TheSameSeedGivesTheSameRun) { hak_schedules::SameSeedGivesTheSameRun(CachesThatOthersEmpty); }

class PlantedRaces : public IdleSchedules, public testing::WithParamInterface<Planted> {};

TEST_P(PlantedRaces, IsFound) { hak_schedules::PlantedRaceIsFound(CachesThatOthersEmpty, GetParam()); }

TEST_P(PlantedRaces, IsNotThereIfOneThreadRunsAfterTheOther) {
  hak_schedules::PlantedRaceIsNotThereInOrder(CachesThatOthersEmpty, GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, PlantedRaces,
                         testing::Values(Planted{"PutsNoneBack", HAK_TEST_PUTS_NONE_BACK, 20000},
                                         Planted{"StaleTop", HAK_TEST_STALE_TOP, 400000},
                                         Planted{"TornSteal", HAK_TEST_TORN_STEAL, 400000}),
                         hak_schedules::NameOf);

}  // namespace
