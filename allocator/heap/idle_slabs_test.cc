// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/idle_slabs.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "allocator/heap/give_back.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/test_owner.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"

namespace {

using hak_unit::Owner;

constexpr uint32_t kClass = 4;  // 64 bytes
constexpr uint32_t kOther = 9;
constexpr uint64_t kIdleMs = 100;

class IdleSlabs : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  IdleSlabs() {
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    // Bins stay small.
    hak_config.thread_cache_bytes = 0;
  }
  ~IdleSlabs() override {
    EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
    EXPECT_STREQ(hak_pool_verify(), nullptr);
  }

  // As another thread does.
  static uint32_t Give(hak_heap *heap, uint64_t now, uint64_t idle_ms = kIdleMs) {
    hak_heap_enter(heap);
    const uint32_t given = hak_idle_slabs_give(heap, now, idle_ms);
    EXPECT_EQ(hak_heap_check(heap), nullptr);
    hak_heap_leave(heap);
    EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
    return given;
  }
  // A moment at which the thread has been idle for this long since its last tick.
  static uint64_t After(const Owner &owner, uint64_t ms) { return owner.heap()->idle.ticked_ms + ms; }
  // Two visits to a thread that has made no call for long.
  static uint32_t GiveIdle(const Owner &owner) {
    const uint64_t now = After(owner, kIdleMs);
    return Give(owner.heap(), now) + Give(owner.heap(), now + kIdleMs);
  }
  static std::vector<void *> Take(hak_heap *heap, uint32_t class_id, size_t count) {
    std::vector<void *> blocks(count);
    hak_heap_enter(heap);
    for (size_t got = 0; got < count;) {
      const uint32_t more =
          hak_heap_take(heap, class_id, blocks.data() + got, static_cast<uint32_t>(count - got), nullptr);
      if (more == 0) abort();
      got += more;
    }
    hak_heap_leave(heap);
    return blocks;
  }
  static void Return(hak_heap *heap, std::vector<void *> blocks) {
    hak_heap_enter(heap);
    hak_give_back(heap, blocks.data(), static_cast<uint32_t>(blocks.size()));
    hak_heap_leave(heap);
  }
  // Takes as many blocks as fill `slabs` slabs, and frees all but each `kept`th. Returns those.
  static std::vector<void *> Scatter(hak_heap *heap, uint32_t class_id, size_t slabs, size_t kept) {
    const std::vector<void *> all = Take(heap, class_id, slabs * HAK_SLAB_SIZE / hak_class_stride(class_id));
    std::vector<void *> live;
    std::vector<void *> freed;
    for (size_t i = 0; i < all.size(); i++) (i % kept == 0 ? live : freed).push_back(all[i]);
    Return(heap, freed);
    return live;
  }
  static size_t OwnedBy(const hak_heap *heap, const std::vector<void *> &blocks) {
    return static_cast<size_t>(std::count_if(blocks.begin(), blocks.end(), [&](void *block) {
      return atomic_load_explicit(&hak_slab_of(block)->owner, memory_order_relaxed) == heap;
    }));
  }
};

TEST_F(IdleSlabs, ABusyThreadFillsWhatAnIdleOneLeft) {
  const Owner idle;
  const Owner busy;
  const std::vector<void *> live = Scatter(idle.heap(), kClass, 40, 8);
  // Behind a header, where there is one.
  const auto inside = [](void *block) { return static_cast<char *>(block) + 16; };
  for (size_t i = 0; i < live.size(); i++) memset(inside(live[i]), static_cast<int>(i), 32);
  const uint64_t slabs = hak_pool_totals().slabs_used;
  EXPECT_GE(GiveIdle(idle), 39u);
  EXPECT_EQ(OwnedBy(&hak_orphanage, live), live.size());
  EXPECT_EQ(hak_pool_totals().slabs_used, slabs);
  const std::vector<void *> more = Take(busy.heap(), kClass, 30 * HAK_SLAB_SIZE / 64);
  EXPECT_EQ(hak_pool_totals().slabs_used, slabs) << "no fresh slab while others have room";
  for (void *block : more) memset(inside(block), 0xEE, 32);
  for (size_t i = 0; i < live.size(); i++) {
    const std::vector<unsigned char> expected(32, static_cast<unsigned char>(i));
    ASSERT_EQ(memcmp(inside(live[i]), expected.data(), 32), 0) << i;
  }
  // The idle thread frees its blocks as it would free blocks of others.
  Return(idle.heap(), live);
  hak_heap_enter(busy.heap());
  hak_remote_drain(busy.heap());
  hak_heap_leave(busy.heap());
  Return(busy.heap(), more);
}

TEST_F(IdleSlabs, AnAwakenedThreadTakesThemBack) {
  const Owner idle;
  const std::vector<void *> live = Scatter(idle.heap(), kClass, 10, 4);
  ASSERT_GE(GiveIdle(idle), 9u);
  const uint64_t slabs = hak_pool_totals().slabs_used;
  const std::vector<void *> more = Take(idle.heap(), kClass, 6 * HAK_SLAB_SIZE / 64);
  EXPECT_EQ(hak_pool_totals().slabs_used, slabs);
  EXPECT_NE(OwnedBy(idle.heap(), live), 0u);
  Return(idle.heap(), more);
  Return(idle.heap(), live);
}

TEST_F(IdleSlabs, AThreadThatTickedLatelyKeepsThem) {
  Owner owner;
  const std::vector<void *> live = Scatter(owner.heap(), kClass, 4, 4);
  EXPECT_EQ(Give(owner.heap(), After(owner, kIdleMs - 1)), 0u);
  EXPECT_EQ(OwnedBy(owner.heap(), live), live.size());
  // Slow calls: a tick.
  const uint64_t before = owner.heap()->idle.ticked_ms;
  while (hak_os_now_ms() == before) continue;
  void *blocks[200];
  for (void *&block : blocks) block = owner.Malloc(kOther);
  for (void *block : blocks) owner.Free(block);
  EXPECT_GT(owner.heap()->idle.ticked_ms, before);
  EXPECT_EQ(Give(owner.heap(), before + kIdleMs), 0u);
  Return(owner.heap(), live);
}

// A thread that works with one class leaves the slabs of another one.
TEST_F(IdleSlabs, EachClassIsIdleByItself) {
  const Owner owner;
  hak_heap *const heap = owner.heap();
  const std::vector<void *> idle = Scatter(heap, kClass, 4, 4);
  std::vector<void *> busy = Scatter(heap, kOther, 4, 4);
  const uint64_t begin = After(owner, 0);
  for (uint64_t ms = 0; ms <= kIdleMs; ms += kIdleMs / 4) {
    const uint64_t now = begin + ms;
    heap->idle.ticked_ms = now;
    Return(heap, {busy.back()});
    busy.pop_back();
    if (ms == kIdleMs) break;
    EXPECT_EQ(Give(heap, now), 0u) << "not before the time is over";
  }
  EXPECT_GE(Give(heap, begin + kIdleMs), 3u);
  EXPECT_EQ(OwnedBy(&hak_orphanage, idle), idle.size());
  EXPECT_EQ(OwnedBy(heap, busy), busy.size());
  Return(heap, idle);
  Return(heap, busy);
}

// A thread whose calls its cache serves makes no slow call. If its heap is small, nobody takes slabs from it.
TEST_F(IdleSlabs, AThreadThatWorksWithinItsCacheKeepsThem) {
  Owner owner;
  hak_heap *const heap = owner.heap();
  const std::vector<void *> live = Scatter(heap, kClass, 4, 4);
  std::vector<void *> cached(4);
  for (void *&block : cached) block = owner.Malloc(kClass);
  const uint64_t begin = After(owner, kIdleMs);
  for (uint64_t ms = 0; ms <= 5 * kIdleMs; ms++) {
    ASSERT_EQ(Give(heap, begin + ms), 0u) << ms;
    if (ms % 2 == 0) {
      owner.Free(cached.back());
      cached.pop_back();
    } else {
      cached.push_back(owner.Malloc(kClass));
    }
  }
  const uint64_t idle = begin + 5 * kIdleMs;
  EXPECT_EQ(Give(heap, idle + 1), 0u);
  EXPECT_EQ(Give(heap, idle + kIdleMs), 0u);
  EXPECT_NE(Give(heap, idle + kIdleMs + 1), 0u);
  for (void *block : cached) owner.Free(block);
  Return(heap, live);
}

// A thread that comes with an older time than the one before it does not see ages.
TEST_F(IdleSlabs, TimeMayGoBackALittle) {
  const Owner owner;
  hak_heap *const heap = owner.heap();
  const std::vector<void *> live = Scatter(heap, kClass, 4, 4);
  const uint64_t now = After(owner, kIdleMs);
  EXPECT_EQ(Give(heap, now), 0u);
  EXPECT_EQ(Give(heap, now - 1), 0u);
  EXPECT_EQ(OwnedBy(heap, live), live.size());
  Return(heap, live);
}

TEST_F(IdleSlabs, SlabsWithLittleRoomStay) {
  const Owner owner;
  const std::vector<void *> all = Take(owner.heap(), kClass, 4 * HAK_SLAB_SIZE / 64);
  EXPECT_LE(GiveIdle(owner), 1u) << "only the one that is not carved to the end";
  std::vector<void *> some;
  std::vector<void *> rest;
  for (size_t i = 0; i < all.size(); i++) (i % 16 == 0 ? some : rest).push_back(all[i]);
  Return(owner.heap(), some);
  EXPECT_LE(GiveIdle(owner), 1u);
  EXPECT_GE(OwnedBy(owner.heap(), rest), rest.size() * 3 / 5);
  Return(owner.heap(), rest);
}

TEST_F(IdleSlabs, WhollyFreeSlabsGoToThePool) {
  const Owner owner;
  Return(owner.heap(), Take(owner.heap(), kClass, 4 * HAK_SLAB_SIZE / 64));
  ASSERT_NE(hak_pool_totals().slabs_used, 0u);
  EXPECT_NE(GiveIdle(owner), 0u);
  EXPECT_EQ(hak_pool_totals().slabs_used, 0u);
}

// A slab with remote frees stays until its owner has collected them.
TEST_F(IdleSlabs, ASlabWithRemoteFreesStays) {
  const Owner idle;
  const Owner other;
  std::vector<void *> live = Scatter(idle.heap(), kClass, 3, 4);
  hak_slab *const slab = hak_slab_of(live.back());
  Return(other.heap(), {live.back()});
  live.pop_back();
  ASSERT_NE(atomic_load_explicit(&slab->remote, memory_order_relaxed), 0u);
  EXPECT_NE(GiveIdle(idle), 0u);
  EXPECT_EQ(atomic_load_explicit(&slab->owner, memory_order_relaxed), idle.heap());
  hak_heap_enter(idle.heap());
  hak_remote_drain(idle.heap());
  hak_heap_leave(idle.heap());
  EXPECT_NE(GiveIdle(idle), 0u);
  EXPECT_EQ(atomic_load_explicit(&slab->owner, memory_order_relaxed), &hak_orphanage);
  Return(other.heap(), live);
}

// The heap must still put the rest of a chain into the slab.
TEST_F(IdleSlabs, ASlabWhoseChainIsPutInPartStays) {
  const Owner idle;
  const Owner other;
  std::vector<void *> all = Take(idle.heap(), kClass, 2 * HAK_SLAB_SIZE / 64);
  std::sort(all.begin(), all.end());
  hak_slab *const slab = hak_slab_of(all[0]);
  const auto end = std::find_if(all.begin(), all.end(), [&](void *block) { return hak_slab_of(block) != slab; });
  const auto chain_end = end - 1;
  ASSERT_GT(chain_end - all.begin(), HAK_DRAIN_BLOCKS);
  Return(other.heap(), {all.begin(), chain_end});
  hak_heap_enter(idle.heap());
  ASSERT_TRUE(hak_remote_drain_some(idle.heap()));
  hak_heap_leave(idle.heap());
  ASSERT_EQ(atomic_load_explicit(&slab->remote, memory_order_relaxed), 0u);
  GiveIdle(idle);
  EXPECT_EQ(atomic_load_explicit(&slab->owner, memory_order_relaxed), idle.heap());
  hak_heap_enter(idle.heap());
  hak_remote_drain(idle.heap());
  hak_heap_leave(idle.heap());
  GiveIdle(idle);
  EXPECT_EQ(atomic_load_explicit(&slab->owner, memory_order_relaxed), &hak_orphanage);
  Return(other.heap(), {chain_end, all.end()});
}

// Work for others is bounded, and what is left is given by the next calls.
TEST_F(IdleSlabs, OneCallGivesABoundedNumber) {
  const Owner idle;
  uint32_t class_id = HAK_CLASS_COUNT - 1;
  while (hak_class_stride(class_id) > HAK_SLAB_SIZE / 16) class_id--;
  const std::vector<void *> live = Scatter(idle.heap(), class_id, 800, 4);
  const uint64_t slabs = idle.heap()->slabs;
  const uint64_t now = After(idle, kIdleMs);
  // So much is free that the first visit does it.
  const uint32_t first = Give(idle.heap(), now);
  EXPECT_LT(first, slabs * 2 / 3);
  uint32_t given = first;
  while (const uint32_t more = Give(idle.heap(), now)) given += more;
  EXPECT_GE(given, slabs - 1);
  Return(idle.heap(), live);
}

TEST_F(IdleSlabs, ANewThreadIsNotIdle) {
  const Owner owner;
  const uint64_t now = hak_os_now_ms();
  EXPECT_LE(now - owner.heap()->idle.ticked_ms, uint64_t{60} * 1000) << "it begins when the heap is opened";
  EXPECT_LE(owner.heap()->idle.ticked_ms, now);
}

}  // namespace
