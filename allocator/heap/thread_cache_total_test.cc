// SPDX-License-Identifier: Apache-2.0
//
// The bound on the caches of all threads together: what each cache gets, gives up, and takes back.
#include <gtest/gtest.h>
#include <stdint.h>

#include <memory>
#include <vector>

#include "allocator/heap/heap_life.h"
#include "allocator/heap/test_owner.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/policy/cache_total.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"

namespace {

using hak_unit::Owner;

constexpr uint64_t kMiB = uint64_t{1} << 20;
// What lies between small classes and large ones.
const uint32_t kClasses[] = {1, 4, 9, 17, 25, 33, 40, HAK_CLASS_COUNT - 1};

class ThreadCacheTotal : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  void SetUp() override {
    if (HAK_FAST) GTEST_SKIP() << "no bound";
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.thread_cache_bytes = size_t{64} << 20;
    SetTotal(0);
    ASSERT_EQ(hak_cache_total_reserved(), 0u);
  }
  void TearDown() override {
    if (HAK_FAST) return;
    Check();
    owners_.clear();
    EXPECT_EQ(hak_cache_total_reserved(), 0u) << "all room is released";
    SetTotal(0);
  }

  static void SetTotal(uint64_t bytes) { hak_config.total_thread_cache_bytes = bytes; }
  static uint64_t Cached() { return hak_heap_totals().cached_bytes; }

  Owner &NewOwner() {
    owners_.push_back(std::make_unique<Owner>());
    return *owners_.back();
  }
  // Each class has many blocks at a time, so that its bin would grow to its bound.
  static void Use(Owner &owner) {
    for (const uint32_t class_id : kClasses) {
      std::vector<void *> blocks;
      for (int i = 0; i < 600; i++) {
        blocks.push_back(owner.Malloc(class_id));
        ASSERT_NE(blocks.back(), nullptr);
      }
      for (void *block : blocks) owner.Free(block);
    }
  }
  static uint64_t Room(const Owner &owner) { return owner.heap()->upkeep.cache_bytes; }

  void Check() {
    uint64_t room = 0;
    for (const auto &owner : owners_) {
      uint64_t bytes = 0;
      for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
        if (owner->Base(id) == nullptr) continue;
        void **const limit = owner->heap()->classes[id].idle.full_limit;
        bytes += static_cast<uint64_t>((limit != nullptr ? limit : owner->Bin(id)->limit) - owner->Base(id) - 1) *
                 hak_class_stride(id);
      }
      EXPECT_EQ(Room(*owner), bytes);
      room += bytes - owner->heap()->upkeep.yielded_bytes;
      EXPECT_EQ(hak_heap_check(owner->heap()), nullptr);
    }
    EXPECT_EQ(hak_cache_total_reserved(), room);
  }
  // As another thread does for an idle one, which it has emptied.
  static void Yield(const Owner &owner, bool emptied) {
    hak_heap_enter(owner.heap());
    if (emptied) hak_thread_cache_flush_all(owner.heap());
    hak_thread_cache_yield(owner.heap());
    hak_heap_leave(owner.heap());
  }

  std::vector<std::unique_ptr<Owner>> owners_;
};

TEST_F(ThreadCacheTotal, ManyCachesTogetherStayWithinTheBound) {
  for (const uint64_t total : {64 * kMiB, 8 * kMiB, kMiB, uint64_t{100} << 10, uint64_t{1} << 10}) {
    SetTotal(total);
    owners_.clear();
    for (int i = 0; i < 12; i++) {
      NewOwner();
      for (const auto &owner : owners_) {
        Use(*owner);
        ASSERT_LE(hak_cache_total_reserved(), total / 4 * 3);
        ASSERT_LE(Cached(), total / 4 * 3);
      }
    }
    Check();
    // No cache is left without a part where there is enough for a bin each.
    if (total < kMiB) continue;
    for (const auto &owner : owners_) EXPECT_GT(Room(*owner), 0u) << total;
  }
}

TEST_F(ThreadCacheTotal, WithoutABoundTheRoomIsCounted) {
  for (int i = 0; i < 3; i++) Use(NewOwner());
  EXPECT_GT(hak_cache_total_reserved(), 3 * kMiB);
  Check();
}

// A cache that filled the bound while it was alone gives most of it up while it works beside others.
TEST_F(ThreadCacheTotal, ABusyCacheSharesWithThoseThatComeLater) {
  SetTotal(16 * kMiB);
  Owner &first = NewOwner();
  for (int i = 0; i < 4; i++) Use(first);
  const uint64_t alone = Room(first);
  EXPECT_GT(alone, 2 * kMiB);
  for (int i = 0; i < 9; i++) NewOwner();
  for (int round = 0; round < 60; round++) {
    for (const auto &owner : owners_) Use(*owner);
  }
  EXPECT_LT(Room(first), alone);
  for (const auto &owner : owners_) {
    EXPECT_GE(Room(*owner), 12 * kMiB / 60);
    EXPECT_LE(Room(*owner), 12 * kMiB / 3);
  }
}

TEST_F(ThreadCacheTotal, ALowerBoundTakesEffectAtTheNextSlowCall) {
  for (int i = 0; i < 4; i++) Use(NewOwner());
  ASSERT_GT(Cached(), 2 * kMiB);
  SetTotal(kMiB);
  for (const auto &owner : owners_) {
    hak_heap_enter(owner->heap());
    void *const block = hak_thread_cache_take_past(owner->heap(), 9);
    hak_heap_leave(owner->heap());
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(Room(*owner) == 0 || hak_cache_total_reserved() <= kMiB / 4 * 3);
    owner->Free(block);
  }
  EXPECT_LE(hak_cache_total_reserved(), kMiB / 4 * 3);
  EXPECT_LE(Cached(), kMiB / 4 * 3);
  Check();
}

// The latest block of a class stays in its bin, and its bytes stay reserved.
TEST_F(ThreadCacheTotal, WhatOthersLeaveInACacheIsNotReleased) {
  for (const bool wakes : {true, false}) {
    SetTotal(4 * kMiB);
    Owner &idle = NewOwner();
    for (int i = 0; i < 3; i++) Use(idle);
    while (!hak_cache_total_is_short()) Use(NewOwner());
    hak_heap_enter(idle.heap());
    hak_thread_cache_flush_all(idle.heap());
    hak_heap_leave(idle.heap());
    void *const block = idle.Malloc(9);
    std::vector<void *> others;
    while (idle.Top(9) != idle.Base(9) + 1) others.push_back(idle.Malloc(9));
    idle.Free(block);
    const uint64_t room = Room(idle);
    Yield(idle, false);
    EXPECT_EQ(idle.heap()->upkeep.yielded_bytes, room - hak_class_stride(9));
    Check();
    if (!wakes) SetTotal(uint64_t{1} << 10);
    for (void *other : others) idle.Free(other);
    EXPECT_EQ(idle.heap()->upkeep.yielded_bytes, 0u);
    EXPECT_TRUE(wakes || Room(idle) < 1024);
    Check();
    owners_.clear();
    EXPECT_EQ(hak_cache_total_reserved(), 0u);
  }
}

// The room of an idle thread does not stay with it, and the thread goes on as before when it wakes.
TEST_F(ThreadCacheTotal, AnIdleCacheYields) {
  SetTotal(4 * kMiB);
  Owner &idle = NewOwner();
  Owner &busy = NewOwner();
  for (int i = 0; i < 3; i++) Use(idle);
  const uint64_t room = Room(idle);
  while (!hak_cache_total_is_short()) Use(busy);
  Yield(idle, true);
  ASSERT_EQ(idle.heap()->upkeep.yielded_bytes, room);
  EXPECT_EQ(hak_cache_total_reserved(), Room(busy));
  Check();
  Yield(idle, false);  // once only
  EXPECT_EQ(hak_cache_total_reserved(), Room(busy));
  // While there is room, it wakes with what it had.
  SetTotal(0);
  idle.Free(idle.Malloc(9));
  EXPECT_EQ(idle.heap()->upkeep.yielded_bytes, 0u);
  EXPECT_GE(Room(idle), room);
  Check();
}

TEST_F(ThreadCacheTotal, AnIdleCacheWhoseRoomIsGoneStartsAnew) {
  SetTotal(4 * kMiB);
  Owner &idle = NewOwner();
  for (int i = 0; i < 3; i++) Use(idle);
  const uint64_t room = Room(idle);
  while (!hak_cache_total_is_short()) Use(NewOwner());
  Yield(idle, true);
  ASSERT_EQ(idle.heap()->upkeep.yielded_bytes, room);
  for (int i = 0; i < 3; i++) Use(*owners_.back());
  for (int i = 0; i < 3; i++) Use(NewOwner());
  idle.Free(idle.Malloc(9));
  EXPECT_EQ(idle.heap()->upkeep.yielded_bytes, 0u);
  EXPECT_LT(Room(idle), room);
  EXPECT_LE(hak_cache_total_reserved(), 3 * kMiB);
  EXPECT_LE(Cached(), 3 * kMiB);
}

TEST_F(ThreadCacheTotal, AThreadThatEndsAfterItYieldedReleasesNothingTwice) {
  SetTotal(4 * kMiB);
  Owner &idle = NewOwner();
  for (int i = 0; i < 3; i++) Use(idle);
  while (!hak_cache_total_is_short()) Use(NewOwner());
  const uint64_t room = Room(idle);
  Yield(idle, true);
  ASSERT_EQ(idle.heap()->upkeep.yielded_bytes, room);
  owners_.erase(owners_.begin());
  Check();
}

TEST_F(ThreadCacheTotal, ACacheWithBlocksDoesNotYield) {
  SetTotal(4 * kMiB);
  Owner &owner = NewOwner();
  for (int i = 0; i < 3; i++) Use(owner);
  while (!hak_cache_total_is_short()) Use(NewOwner());
  Yield(owner, false);
  EXPECT_EQ(owner.heap()->upkeep.yielded_bytes, 0u);
  Check();
}

}  // namespace
