// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/medium_cache.h"

#include <gtest/gtest.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "allocator/heap/heap_life.h"
#include "allocator/heap/test_owner.h"
#include "allocator/large/large.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/config.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::Owner;
using hak_unit::Random;

constexpr uint64_t kHour = uint64_t{3600} * 1000;
constexpr size_t kKiB = 1024;

char *Take(size_t size) { return static_cast<char *>(hak_large_alloc(size, 1, false, true)); }
char *FromCache(const Owner &owner, size_t size) { return static_cast<char *>(hak_medium_take(owner.heap(), size)); }
bool Give(const Owner &owner, void *block) { return hak_medium_give(owner.heap(), block) != HAK_MEDIUM_REFUSED; }

uint32_t Flush(const Owner &owner) {
  hak_heap_enter(owner.heap());
  const uint32_t count = hak_medium_flush(owner.heap());
  hak_heap_leave(owner.heap());
  return count;
}

uint32_t FlushIdle(const Owner &owner, uint64_t now, uint64_t idle_ms) {
  hak_heap_enter(owner.heap());
  const uint32_t count = hak_medium_flush_idle(owner.heap(), now, idle_ms);
  hak_heap_leave(owner.heap());
  return count;
}

struct Counts {
  uint64_t blocks = 0;
  uint64_t bytes = 0;
};
Counts Count(const Owner &owner) {
  uint64_t of_class[HAK_MEDIUM_COUNT] = {};
  hak_medium_count(owner.heap(), of_class);
  Counts counts;
  for (uint32_t id = 0; id < HAK_MEDIUM_COUNT; id++) {
    counts.blocks += of_class[id];
    counts.bytes += of_class[id] * hak_medium_usable(id);
  }
  return counts;
}

class MediumCache : public testing::Test {
 protected:
  MediumCache() {
    hak_config.decommit_deadline_ms = kHour;
    hak_config.mapping_cache_bytes = size_t{64} * kKiB * kKiB;
    hak_config.thread_cache_bytes = 2 * kKiB * kKiB;
  }
  void SetUp() override {
    if (!HAK_MEDIUM_ON) GTEST_SKIP() << "no block is medium";
  }
  ~MediumCache() override {
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    EXPECT_EQ(hak_page_heap_totals().blocks, 0u);
  }
};

TEST_F(MediumCache, AFreedBlockIsTakenAgainByItsClass) {
  const Owner owner;
  char *block = Take(100 * kKiB);
  const size_t usable = hak_large_usable(block);
  EXPECT_EQ(FromCache(owner, 100 * kKiB), nullptr) << "nothing is cached yet";
  ASSERT_TRUE(Give(owner, block));
  EXPECT_EQ(Count(owner).blocks, 1u);
  EXPECT_EQ(Count(owner).bytes, usable);
  EXPECT_EQ(hak_large_usable(block), 0u) << "no live block";
  EXPECT_EQ(hak_page_heap_totals().blocks, 1u) << "the page heap knows nothing of it";
  EXPECT_EQ(FromCache(owner, usable + 1), nullptr);
  EXPECT_EQ(FromCache(owner, hak_medium_usable(hak_medium_class(usable) - 1)), nullptr);
  EXPECT_EQ(FromCache(owner, usable), block);
  EXPECT_EQ(hak_large_usable(block), usable);
  EXPECT_EQ(Count(owner).blocks, 0u);
  EXPECT_EQ(FromCache(owner, usable), nullptr) << "once only";
  EXPECT_TRUE(hak_large_free(block));
}

// Of the class of 40 KiB.
const uint32_t kSlots = hak_medium_slots(hak_medium_class(40 * kKiB));

TEST_F(MediumCache, EachClassHasItsOwnSlots) {
  const Owner owner;
  char *block = Take(40 * kKiB);
  ASSERT_TRUE(Give(owner, block));
  const hak_medium_cache *cache = atomic_load_explicit(&owner.heap()->medium, memory_order_relaxed);
  const HAK_ATOMIC(void *) *first = cache->slots;
  for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
    const hak_medium_bin &bin = cache->bins[class_id];
    EXPECT_EQ(bin.slots, first) << class_id;
    EXPECT_EQ(bin.bytes, hak_medium_bytes(class_id)) << class_id;
    EXPECT_EQ(bin.room, hak_medium_slots(class_id)) << class_id;
    EXPECT_GE(bin.room, 8u) << class_id;
    EXPECT_EQ(bin.room % 2, 0u) << "halves";
    first += bin.room;
  }
  EXPECT_EQ(first, cache->slots + HAK_MEDIUM_ALL_SLOTS);
  EXPECT_EQ(Flush(owner), 1u);
}

TEST_F(MediumCache, TheLatestIsTakenFirst) {
  const Owner owner;
  std::vector<char *> blocks(kSlots);
  for (char *&block : blocks) block = Take(40 * kKiB);
  for (char *block : blocks) ASSERT_TRUE(Give(owner, block));
  for (uint32_t i = kSlots; i-- > 0;) EXPECT_EQ(FromCache(owner, 40 * kKiB), blocks[i]);
  for (char *block : blocks) EXPECT_TRUE(hak_large_free(block));
}

TEST_F(MediumCache, OfAFullClassTheOldestGoBack) {
  const Owner owner;
  std::vector<char *> blocks;
  for (uint32_t i = 0; i < kSlots + 1; i++) blocks.push_back(Take(40 * kKiB));
  for (char *block : blocks) ASSERT_TRUE(Give(owner, block));
  EXPECT_EQ(Count(owner).blocks, kSlots / 2 + 1);
  EXPECT_EQ(hak_page_heap_totals().blocks, kSlots / 2 + 1);
  for (uint32_t i = kSlots + 1; i-- > kSlots / 2;) {
    ASSERT_EQ(FromCache(owner, 40 * kKiB), blocks[i]);
    EXPECT_TRUE(hak_large_free(blocks[i]));
  }
  EXPECT_EQ(FromCache(owner, 40 * kKiB), nullptr);
}

// Blocks that a full class returns no longer count against the bound, however many they are.
TEST_F(MediumCache, AFullClassDoesNotFillTheCache) {
  const Owner owner;
  for (uint32_t i = 1; i <= 200; i++) {
    ASSERT_TRUE(Give(owner, Take(40 * kKiB)));
    // After the first overflow the class has one slot more than half of them, or all of them, in turns.
    const uint32_t over = i <= kSlots ? 0 : (i - kSlots - 1) / (kSlots / 2) + 1;
    ASSERT_EQ(Count(owner).blocks, i - over * (kSlots / 2)) << i;
  }
  Flush(owner);
}

// What each of `threads` caches may hold together with those of the others.
constexpr struct {
  size_t threads;
  uint64_t mib;
} kBounds[] = {{1, 4}, {8, 4}, {9, 2}, {16, 2}, {17, 1}, {40, 1}};

TEST_F(MediumCache, HoldsFourMegabytesAtMostAndLessWithManyThreads) {
  std::vector<std::unique_ptr<Owner>> owners;
  for (const auto &row : kBounds) {
    hak_config.thread_cache_bytes = 8 * kKiB * kKiB;
    while (owners.size() < row.threads) {
      owners.push_back(std::make_unique<Owner>());
      ASSERT_TRUE(Give(*owners.back(), Take(40 * kKiB)));
    }
    const Owner &owner = *owners.back();
    for (const uint64_t setting : {uint64_t{8} << 20, uint64_t{300} << 10, uint64_t{0}}) {
      hak_config.thread_cache_bytes = setting;
      const uint64_t bound = std::min(setting, row.mib << 20);
      Random random(1);
      uint64_t most = 0;
      for (int i = 0; i < 300; i++) {
        const size_t size = HAK_TINY_STRIDE_MAX + 1 + random.Below(HAK_MEDIUM_MAX - HAK_TINY_STRIDE_MAX);
        char *block = FromCache(owner, size);
        if (block == nullptr) block = Take(size);
        ASSERT_NE(block, nullptr);
        ASSERT_GE(hak_large_usable(block), size);
        if (!Give(owner, block)) {
          ASSERT_GT(hak_medium_bytes(hak_medium_class(size)), bound);
          ASSERT_TRUE(hak_large_free(block));
        }
        const Counts counts = Count(owner);
        const uint64_t bytes = counts.bytes + counts.blocks * HAK_COLOUR_BYTES;
        ASSERT_LE(bytes, bound);
        most = std::max(most, bytes);
      }
      EXPECT_GE(most, bound / 2);
      Flush(owner);
    }
  }
  for (const auto &owner : owners) Flush(*owner);
}

// A quarter of the bound on all caches is for them, in equal shares.
TEST_F(MediumCache, AllTogetherHoldAQuarterOfTheBoundOnAllCaches) {
  if (HAK_FAST) GTEST_SKIP() << "no bound";
  hak_config.thread_cache_bytes = 8 * kKiB * kKiB;
  std::vector<std::unique_ptr<Owner>> owners;
  const auto set_total = [](uint64_t bytes) {
    hak_config.total_thread_cache_bytes = bytes;
    hak_medium_obey_setting();
  };
  // Each cache is given a block; the next block of a cache that holds too much makes it obey.
  const auto give = [&owners] {
    for (const auto &owner : owners) {
      char *const block = Take(100 * kKiB);
      if (!Give(*owner, block)) {
        EXPECT_TRUE(hak_large_free(block));
      }
    }
  };
  const auto cached = [&owners] {
    uint64_t bytes = 0;
    for (const auto &owner : owners) {
      const Counts counts = Count(*owner);
      bytes += counts.bytes + counts.blocks * HAK_COLOUR_BYTES;
    }
    return bytes;
  };
  for (const size_t count : {size_t{1}, size_t{3}, size_t{20}}) {
    while (owners.size() < count) {
      owners.push_back(std::make_unique<Owner>());
      give();
    }
    const uint64_t per_cache = count <= 8 ? 4 : 1;  // MiB
    for (const uint64_t mib : {uint64_t{0}, 64 * count, 2 * count}) {
      set_total(mib * kKiB * kKiB);
      give();
      const uint64_t bound = mib == 2 * count ? 512 * kKiB * count : per_cache * count * kKiB * kKiB;
      uint64_t most = 0;
      for (int i = 0; i < 50; i++) {
        give();
        most = std::max(most, cached());
      }
      EXPECT_LE(most, bound) << count << ' ' << mib;
      EXPECT_GE(most, bound / 2) << count << ' ' << mib;
    }
    set_total(kKiB);  // too small for any block
    for (const auto &owner : owners) Flush(*owner);
    give();
    EXPECT_EQ(cached(), 0u);
  }
  // With fewer caches each share is larger again.
  set_total(20 * kKiB * kKiB);
  owners.resize(2);
  uint64_t most = 0;
  for (int i = 0; i < 50; i++) {
    give();
    most = std::max(most, cached());
  }
  EXPECT_LE(most, 5 * kKiB * kKiB);
  EXPECT_GE(most, 2 * kKiB * kKiB);
  set_total(0);
  for (const auto &owner : owners) Flush(*owner);
}

// Of a cache that is full, about a half stays.
// It empties whole classes until at most half of its bound is left, so that the last one may take it below.
TEST_F(MediumCache, AFullCacheIsNotEmptiedWhole) {
  hak_config.thread_cache_bytes = 8 * kKiB * kKiB;
  constexpr uint64_t kHalf = 2 * kKiB * kKiB;
  const Owner owner;
  uint64_t before = 0;
  uint64_t most_of_a_class = 0;
  int makings = 0;
  Random random(2);
  for (int i = 0; i < 400; i++) {
    char *block = Take(HAK_TINY_STRIDE_MAX + 1 + random.Below(100 * kKiB));
    ASSERT_NE(block, nullptr);
    ASSERT_TRUE(Give(owner, block));
    uint64_t of_class[HAK_MEDIUM_COUNT] = {};
    hak_medium_count(owner.heap(), of_class);
    uint64_t bytes = 0;
    for (uint32_t id = 0; id < HAK_MEDIUM_COUNT; id++) bytes += of_class[id] * hak_medium_bytes(id);
    if (bytes + kKiB * kKiB < before) {
      makings++;
      EXPECT_GE(bytes + most_of_a_class, kHalf);
      EXPECT_LE(bytes, kHalf + 200 * kKiB);
    }
    before = bytes;
    most_of_a_class = 0;
    for (uint32_t id = 0; id < HAK_MEDIUM_COUNT; id++) {
      most_of_a_class = std::max(most_of_a_class, of_class[id] * hak_medium_bytes(id));
    }
  }
  EXPECT_GE(makings, 3);
  Flush(owner);
}

// The classes take turns: the next room is made where the last one ended.
TEST_F(MediumCache, TheClassesThatStayedLongestAreEmptiedFirst) {
  hak_config.thread_cache_bytes = 8 * kKiB * kKiB;
  const Owner owner;
  uint32_t next = 0;
  int makings = 0;
  Random random(3);
  for (int i = 0; i < 1000; i++) {
    uint64_t before[HAK_MEDIUM_COUNT] = {};
    uint64_t after[HAK_MEDIUM_COUNT] = {};
    hak_medium_count(owner.heap(), before);
    const size_t size = HAK_TINY_STRIDE_MAX + 1 + random.Below(100 * kKiB);
    ASSERT_TRUE(Give(owner, Take(size)));
    hak_medium_count(owner.heap(), after);
    const uint32_t given = hak_medium_class(size);
    bool all = true;  // of the classes so far were emptied, or had been empty
    uint32_t last = HAK_MEDIUM_COUNT;
    for (uint32_t step = 0; step < HAK_MEDIUM_COUNT; step++) {
      const uint32_t id = (next + step) % HAK_MEDIUM_COUNT;
      if (before[id] == 0) continue;
      const bool emptied = after[id] == (id == given ? 1u : 0u);
      if (emptied) {
        EXPECT_TRUE(all) << "class " << id << " before its turn";
        last = id;
      }
      all = all && emptied;
    }
    if (last == HAK_MEDIUM_COUNT) continue;
    makings++;
    next = last + 1;
  }
  EXPECT_GE(makings, 10);
  Flush(owner);
}

// Blocks that other threads took out of the cache do not count against the bound for ever.
TEST_F(MediumCache, TheBoundForgetsWhatOthersTook) {
  const Owner owner;
  for (int round = 0; round < 20; round++) {
    char *block = Take(500 * kKiB);
    ASSERT_TRUE(Give(owner, block)) << round;
    ASSERT_EQ(Flush(owner), 1u);
  }
  EXPECT_EQ(hak_page_heap_totals().blocks, 0u);
}

TEST_F(MediumCache, WhatIsNoMediumBlockIsLeftAlone) {
  const Owner owner;
  int local;
  char *aligned = static_cast<char *>(hak_large_alloc(100 * kKiB, 4096, false, true));
  char *large = Take(2 * kKiB * kKiB);
  char *medium = Take(100 * kKiB);
  for (char *other :
       {static_cast<char *>(nullptr), reinterpret_cast<char *>(&local), aligned, large, medium + HAK_MIN_ALIGN,
        medium - HAK_MIN_ALIGN, medium + HAK_CACHE_LINE, medium + HAK_PAGE_SIZE}) {
    EXPECT_FALSE(Give(owner, other));
  }
  EXPECT_EQ(Count(owner).blocks, 0u);
  for (char *block : {aligned, large, medium}) EXPECT_TRUE(hak_large_free(block));
  EXPECT_FALSE(Give(owner, medium)) << "freed";
}

TEST_F(MediumCache, ASecondFreeEndsTheProcess) {
  const Owner owner;
  char *block = Take(100 * kKiB);
  ASSERT_TRUE(Give(owner, block));
  HAK_EXPECT_FATAL(Give(owner, block), "double free", block);
  // Also by another thread, and when other blocks lie above it.
  const Owner another;
  HAK_EXPECT_FATAL(Give(another, block), "double free", block);
  // And by one that does not use its cache at the moment.
  HAK_EXPECT_FATAL(hak_large_free(block), "double free", block);
  char *later = Take(100 * kKiB);
  ASSERT_TRUE(Give(owner, later));
  HAK_EXPECT_FATAL(Give(owner, block), "double free", block);
  EXPECT_EQ(Flush(owner), 2u);
}

TEST_F(MediumCache, WithoutARecordNothingIsCached) {
  const Owner owner;
  char *block = Take(100 * kKiB);
  // Earlier tests may have left records. Then no system call is needed.
  const FaultPlan plan(HAK_FAULT_MAP | HAK_FAULT_COMMIT);
  if (Give(owner, block)) {
    EXPECT_EQ(FromCache(owner, 100 * kKiB), block);
  } else {
    EXPECT_EQ(Count(owner).blocks, 0u);
    EXPECT_EQ(FromCache(owner, 100 * kKiB), nullptr);
    EXPECT_EQ(Flush(owner), 0u);
  }
  EXPECT_TRUE(hak_large_free(block));
}

TEST_F(MediumCache, AnIdleCacheIsEmptied) {
  const Owner owner;
  EXPECT_EQ(FlushIdle(owner, 1000, 0), 0u) << "no cache";
  char *block = Take(100 * kKiB);
  ASSERT_TRUE(Give(owner, block));
  EXPECT_EQ(FlushIdle(owner, 1000, 50), 0u) << "just given";
  EXPECT_EQ(FlushIdle(owner, 1049, 50), 0u);
  // A thread that keeps giving blocks is not idle.
  ASSERT_EQ(FromCache(owner, 100 * kKiB), block);
  ASSERT_TRUE(Give(owner, block));
  EXPECT_EQ(FlushIdle(owner, 1060, 50), 0u);
  EXPECT_EQ(FlushIdle(owner, 900, 50), 0u) << "the clock went back";
  EXPECT_EQ(FlushIdle(owner, 1109, 50), 0u);
  EXPECT_EQ(FlushIdle(owner, 1110, 50), 1u);
  EXPECT_EQ(FlushIdle(owner, 1111, 50), 0u);
  EXPECT_EQ(hak_page_heap_totals().blocks, 0u);
}

TEST_F(MediumCache, TheEndOfAHeapReturnsAll) {
  {
    const Owner owner;
    for (const size_t size : {40 * kKiB, 40 * kKiB, 100 * kKiB, 300 * kKiB}) ASSERT_TRUE(Give(owner, Take(size)));
    EXPECT_EQ(Count(owner).blocks, 4u);
  }
  EXPECT_EQ(hak_page_heap_totals().blocks, 0u);
  EXPECT_EQ(hak_heap_totals().cached_large_blocks, 0u);
}

TEST_F(MediumCache, TotalsSayWhatIsCached) {
  const Owner owner;
  const Owner another;
  char *a = Take(40 * kKiB);
  char *b = Take(100 * kKiB);
  ASSERT_TRUE(Give(owner, a));
  ASSERT_TRUE(Give(another, b));
  EXPECT_EQ(hak_heap_totals().cached_large_blocks, 2u);
  // Also if the kernel's pages are larger than what the sizes differ by.
  EXPECT_EQ(hak_heap_totals().cached_large_bytes, hak_page_heap_totals().bytes);
  EXPECT_EQ(Flush(owner) + Flush(another), 2u);
}

TEST_F(MediumCache, AgreesWithAModel) {
  const Owner owner;
  Random random(2);
  std::map<char *, size_t> live;
  std::set<char *> cached;
  for (int i = 0; i < hak_unit::Operations(20000); i++) {
    if (live.size() < 12 && random.OneIn(2)) {
      const size_t most = random.OneIn(4) ? HAK_MEDIUM_MAX : 128 * kKiB;
      const size_t size = HAK_TINY_STRIDE_MAX + 1 + random.Below(most - HAK_TINY_STRIDE_MAX);
      char *block = FromCache(owner, size);
      if (block != nullptr) {
        ASSERT_EQ(cached.erase(block), 1u) << "a block that nobody gave";
      } else {
        block = Take(size);
        ASSERT_NE(block, nullptr);
      }
      ASSERT_EQ(hak_large_usable(block), hak_medium_usable(hak_medium_class(size)));
      ASSERT_TRUE(live.emplace(block, size).second);
      const auto mark = reinterpret_cast<uintptr_t>(block);
      memcpy(block, &mark, sizeof mark);
      memcpy(block + size - sizeof mark, &mark, sizeof mark);
    } else if (!live.empty()) {
      auto it = live.begin();
      std::advance(it, random.Below(live.size()));
      char *block = it->first;
      const auto mark = reinterpret_cast<uintptr_t>(block);
      ASSERT_EQ(memcmp(block, &mark, sizeof mark), 0);
      ASSERT_EQ(memcmp(block + it->second - sizeof mark, &mark, sizeof mark), 0);
      live.erase(it);
      if (Give(owner, block)) {
        cached.insert(block);
      } else {
        ASSERT_TRUE(hak_large_free(block));
      }
    } else if (random.OneIn(20)) {
      Flush(owner);
      ASSERT_EQ(hak_page_heap_totals().blocks, live.size());
    }
    // Blocks that were returned are no longer cached.
    for (auto it = cached.begin(); it != cached.end();) {
      const uint32_t tag = hak_page_tag(hak_page_entry_at(*it));
      const bool in_cache = (tag & HAK_TAG_CACHED) != 0 && live.count(*it) == 0;
      it = in_cache ? std::next(it) : cached.erase(it);
    }
    ASSERT_EQ(Count(owner).blocks, cached.size());
    ASSERT_EQ(hak_page_heap_totals().blocks, live.size() + cached.size());
  }
  for (const auto &held : live) ASSERT_TRUE(hak_large_free(held.first));
}

// Other threads empty the cache while its thread uses it. A block that two threads have would lose its mark, and a
// block that nobody has would stay in the page heap.
TEST_F(MediumCache, OthersEmptyItWhileItIsUsed) {
  std::atomic<uint32_t> emptied{0};
  std::atomic<int> failures{0};
  {
    std::vector<std::thread> threads;
    Owner owners[2];
    std::atomic<int> running{2};
    for (uint64_t t = 0; t < 2; t++) {
      threads.emplace_back([&, t] {
        Random random(10 + t);
        const Owner &owner = owners[t];
        std::vector<char *> mine;
        // Until both threads have met the other often enough.
        for (int i = 0; i < hak_unit::Operations(40000) || (emptied < 1000 && i < 100000000); i++) {
          if (mine.size() < 6 && random.OneIn(2)) {
            const size_t size = 33 * kKiB + random.Below(3) * 8 * kKiB;
            char *block = FromCache(owner, size);
            if (block == nullptr) block = Take(size);
            if (block == nullptr || hak_large_usable(block) < size) {
              failures++;
              continue;
            }
            memcpy(block, &t, sizeof t);
            mine.push_back(block);
          } else if (!mine.empty()) {
            char *block = mine.back();
            mine.pop_back();
            if (memcmp(block, &t, sizeof t) != 0) failures++;
            memset(block, 0x77, sizeof t);
            if (!Give(owner, block) && !hak_large_free(block)) failures++;
          }
        }
        for (char *block : mine) {
          if (!hak_large_free(block)) failures++;
        }
        running--;
      });
    }
    for (int i = 0; running > 0; i++) emptied += FlushIdle(owners[i % 2], static_cast<uint64_t>(i), 0);
    for (std::thread &thread : threads) thread.join();
  }
  EXPECT_EQ(failures.load(), 0);
  EXPECT_GE(emptied.load(), 1000u);
}

}  // namespace
