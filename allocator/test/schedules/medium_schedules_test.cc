// SPDX-License-Identifier: Apache-2.0
//
// Interleavings of the real code for the cache of medium blocks, whose slots other threads empty: two threads with such
// caches, and one that empties and counts them. The oracle knows who has which addresses; at the end the page heap and
// the caches must agree on how many blocks there are, and in the end there may be none.
#include <gtest/gtest.h>
#include <stdint.h>

#include <memory>
#include <vector>

#include "allocator/heap/heap.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/medium_cache.h"
#include "allocator/heap/test_owner.h"
#include "allocator/large/large.h"
#include "allocator/large/medium.h"
#include "allocator/meta/meta.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/config.h"
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
using hak_schedules::Result;
using hak_test::Random;
using hak_unit::Owner;

constexpr size_t kMiB = size_t{1} << 20;
// A class with eight slots, and its neighbour.
constexpr uint32_t kClass = 24;
// The last that is counted.
constexpr uint32_t kNeverUsed = HAK_MEDIUM_COUNT - 1;

size_t SizeOf(uint32_t class_id) { return hak_medium_usable(class_id); }

class Family {
 public:
  explicit Family(uint64_t seed) : random_(seed), idle_ms_(random_.OneIn(3)) {
    hak_config.thread_cache_bytes = random_.OneIn(4) ? kMiB : 4 * kMiB;
    for (User &user : users_) user.random = Random(random_.Next());
    // What the caches hold before: up to all slots of the class.
    std::vector<char *> blocks;
    for (uint64_t i = random_.Below(9); i > 0; i--) blocks.push_back(Fresh(kClass));
    for (char *block : blocks) Free(&users_[0], block);
    for (uint64_t i = 2 + random_.Below(4); i > 0; i--) shared_.push_back(Fresh(kClass));
  }

  // Takes and frees; half of what it frees the other one took.
  void Use(size_t who) {
    User *const user = &users_[who];
    for (uint64_t i = 2 + user->random.Below(6); i > 0; i--) {
      if (user->random.OneIn(2)) {
        Keep(user, Take(user, kClass + (user->random.OneIn(8) ? 1 : 0)));
      } else if (!shared_.empty()) {
        Free(user, Next());
      }
    }
    while (!user->held.empty()) {
      char *const block = user->held.back();
      user->held.pop_back();
      Free(user, block);
    }
    if (user->random.OneIn(4)) user->owner.reset();
    if (user->random.OneIn(2)) UseRecord();
  }
  // Visits the heaps as the reclaim work does, counts as statistics do, and uses the page heap meanwhile.
  void Empty() {
    Random random(random_.Next());
    std::vector<char *> held;
    for (uint64_t i = 2 + random.Below(4); i > 0; i--) {
      hak_heap_visit_next(Visit, this);
      now_++;
      if (random.OneIn(4)) Count();
      if (random.OneIn(2)) held.push_back(Fresh(kClass));
    }
    for (char *block : held) GiveToPages(block);
  }

  // After the threads: what the caches say they hold is what the page heap counts beside the live blocks.
  void Check() {
    while (!shared_.empty()) GiveToPages(Next());
    uint64_t cached = 0;
    for (const User &user : users_) {
      if (user.owner == nullptr) continue;
      uint64_t counts[HAK_MEDIUM_COUNT] = {};
      hak_medium_count(user.owner->heap(), counts);
      for (const uint64_t count : counts) cached += count;
      CheckRecords(user.owner->heap());
    }
    if (live_.Count() != 0) Fail("the program still has blocks");
    if (hak_page_heap_totals().blocks != cached) Fail("the caches and the page heap disagree");
    for (hak_medium_cache *record : reused_) hak_meta_free(record, sizeof *record);
  }

 private:
  struct User {
    std::unique_ptr<Owner> owner = std::make_unique<Owner>();
    Random random{0};
    std::vector<char *> held;
  };

  static void Visit(hak_heap *heap, void *family) {
    const auto *const self = static_cast<Family *>(family);
    hak_medium_flush_idle(heap, self->now_, self->idle_ms_);
  }
  // Takes a record like that of a cache. What it writes to it would read as a cache with blocks of a class that has
  // none.
  void UseRecord() {
    auto *const record = static_cast<hak_medium_cache *>(hak_meta_alloc(sizeof(hak_medium_cache)));
    if (record == nullptr) Fail("there is no memory");
    for (hak_medium_bin &bin : record->bins) bin = {.slots = &decoy_, .bytes = 0, .room = 0, .used = 0};
    record->bins[kNeverUsed].room = 1;
    reused_.push_back(record);
  }
  void Count() {
    if (hak_heap_totals().cached_medium[kNeverUsed] != 0) Fail("a record that is not a cache any more is counted");
  }
  // No block lies above the used slots of its class, and the bytes are those of the used slots.
  static void CheckRecords(const hak_heap *heap) {
    const hak_medium_cache *cache = atomic_load_explicit(&heap->medium, memory_order_relaxed);
    if (cache == nullptr) return;
    uint64_t bytes = 0;
    for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
      const hak_medium_bin &bin = cache->bins[class_id];
      bytes += static_cast<uint64_t>(bin.used) * bin.bytes;
      for (uint32_t i = bin.used; i < bin.room; i++) {
        if (atomic_load_explicit(&bin.slots[i], memory_order_relaxed) != nullptr) {
          Fail("a slot that is not in use has a block");
        }
      }
    }
    if (bytes != cache->bytes) Fail("the cache's bytes are wrong");
  }

  char *Fresh(uint32_t class_id) {
    void *const block = hak_large_alloc(SizeOf(class_id), 1, false, true);
    if (block == nullptr) Fail("there is no memory");
    live_.Take(static_cast<char *>(block), SizeOf(class_id));
    return static_cast<char *>(block);
  }
  char *Take(User *user, uint32_t class_id) {
    void *const block = hak_medium_take(user->owner->heap(), SizeOf(class_id));
    if (block == nullptr) return Fresh(class_id);
    live_.Take(static_cast<char *>(block), SizeOf(class_id));
    return static_cast<char *>(block);
  }
  void Keep(User *user, char *block) { (user->random.OneIn(2) ? user->held : shared_).push_back(block); }
  char *Next() {
    char *const block = shared_.back();
    shared_.pop_back();
    return block;
  }
  void Free(User *user, char *block) {
    live_.Give(block);
    if (hak_medium_give(user->owner->heap(), block) != HAK_MEDIUM_REFUSED) return;
    if (!hak_large_free(block)) Fail("the page heap does not know the block");
  }
  void GiveToPages(char *block) {
    live_.Give(block);
    if (!hak_large_free(block)) Fail("the page heap does not know the block");
  }

  Random random_;
  const uint64_t idle_ms_;
  uint64_t now_ = 1;
  LiveRanges live_;
  User users_[2];
  std::vector<char *> shared_;
  HAK_ATOMIC(void *) decoy_ = this;
  std::vector<hak_medium_cache *> reused_;
};

Result SlotsThatOthersEmpty(const Plan &plan) {
  auto family = std::make_unique<Family>(plan.seed);
  const Result result =
      hak_schedules::Run(plan, {[&] { family->Use(0); }, [&] { family->Use(1); }, [&] { family->Empty(); }});
  family->Check();
  family.reset();
  if (hak_page_heap_totals().blocks != 0) Fail("a block got lost");
  const char *const fault = hak_page_heap_verify();
  if (fault != nullptr) Fail(fault);
  return result;
}

class MediumSchedules : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    // Nothing is due, and freed pages stay: the page heap makes no system call.
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.mapping_cache_bytes = 64 * kMiB;
  }
};

TEST_F(MediumSchedules, SlotsThatOthersEmpty) { hak_schedules::SearchFindsNothing(SlotsThatOthersEmpty, 5000); }

TEST_F(MediumSchedules, TheSameSeedGivesTheSameRun) { hak_schedules::SameSeedGivesTheSameRun(SlotsThatOthersEmpty); }

class PlantedRaces : public MediumSchedules, public testing::WithParamInterface<Planted> {};

TEST_P(PlantedRaces, IsFound) { hak_schedules::PlantedRaceIsFound(SlotsThatOthersEmpty, GetParam()); }

TEST_P(PlantedRaces, IsNotThereIfOneThreadRunsAfterTheOther) {
  hak_schedules::PlantedRaceIsNotThereInOrder(SlotsThatOthersEmpty, GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, PlantedRaces,
                         testing::Values(Planted{"TornEmpty", HAK_TEST_TORN_EMPTY, 20000},
                                         Planted{"TornMove", HAK_TEST_TORN_MOVE, 200000},
                                         Planted{"LateTag", HAK_TEST_LATE_TAG, 400000},
                                         Planted{"EarlyDestroy", HAK_TEST_EARLY_DESTROY, 400000}),
                         hak_schedules::NameOf);

}  // namespace
