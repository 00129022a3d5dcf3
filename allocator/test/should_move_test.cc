// SPDX-License-Identifier: Apache-2.0
//
// hak_should_move, hak_malloc_nocache and hak_free_nocache: a program that moves its blocks gets the memory of a peak
// back. This program's own malloc is not hakmem's.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "allocator/test/idle_worker.h"
#include "allocator/test/probe.h"
#include "allocator/test/test_random.h"

namespace {

using hak_test::Random;
using hak_test::Stamped;

// A guard page may be at the end of each 64 KiB.
constexpr size_t kSlabRoom = size_t{60} << 10;

// Blocks of which a random quarter stays, in runs, so that slabs differ.
std::vector<Stamped> Fragmented(Random *random, size_t count, size_t size_min, size_t size_max) {
  std::vector<Stamped> blocks(count);
  for (size_t i = 0; i < count; ++i) {
    EXPECT_TRUE(blocks[i].New(size_min + random->Index(size_max - size_min + 1), i));
  }
  std::vector<Stamped> kept;
  uint64_t part = 4;
  for (size_t i = 0; i < count; ++i) {
    if (i % 1000 == 0) part = 3 + random->Below(4);
    if (random->OneIn(part)) {
      kept.push_back(blocks[i]);
    } else {
      EXPECT_TRUE(blocks[i].Free());
    }
  }
  return kept;
}

bool FreeAll(std::vector<Stamped> *blocks) {
  bool intact = true;
  for (Stamped &block : *blocks) intact &= block.Free();
  blocks->clear();
  return intact;
}

// Asks about all blocks, some at a time, and moves those that should be. Returns how many.
size_t MoveOnce(std::vector<Stamped> *blocks, size_t step) {
  size_t moved = 0;
  std::vector<void *> asked(step);
  const std::unique_ptr<bool[]> move(new bool[step]);
  for (size_t done = 0; done < blocks->size(); done += step) {
    const size_t count = std::min(step, blocks->size() - done);
    for (size_t i = 0; i < count; ++i) asked[i] = (*blocks)[done + i].p;
    const size_t yes = hak_should_move(asked.data(), count, move.get());
    EXPECT_EQ(yes, static_cast<size_t>(std::count(move.get(), move.get() + count, true)));
    for (size_t i = 0; i < count; ++i) {
      if (!move[i]) continue;
      Stamped &block = (*blocks)[done + i];
      void *now = hak_malloc_nocache(block.size);
      if (now == nullptr) continue;
      memcpy(now, block.p, block.size);
      hak_free_nocache(block.p);
      block.p = static_cast<unsigned char *>(now);
      ++moved;
    }
  }
  return moved;
}

// Until nothing is left to move, or it does not end.
size_t MoveAll(std::vector<Stamped> *blocks, size_t step) {
  size_t moves = 0;
  for (int round = 0; round < 30; ++round) {
    hak_thread_flush();
    const size_t moved = MoveOnce(blocks, step);
    moves += moved;
    // In HARDENED the blocks of the cache, which count as live, are some of each slab that fills up, so a few blocks
    // always seem to be worth it.
    if (moved <= (hak_test::IsHardenedBuild() ? blocks->size() / 100 : 0)) return moves;
  }
  ADD_FAILURE() << "still moving after " << moves << " moves of " << blocks->size() << " blocks";
  return moves;
}

uint64_t SlabsUsed() {
  hak_thread_flush();
  return hak_test::Stats().slabs_used;
}

// What a block of the size takes.
size_t ClassBytes(size_t size) {
  struct Search {
    const void *p;
    size_t bytes;
  } search = {hak_malloc(size), 0};
  hak_heap_visit(
      [](const hak_block *block, void *context) {
        auto *wanted = static_cast<Search *>(context);
        if (block->address == wanted->p) wanted->bytes = block->class_size;
        return wanted->bytes == 0;
      },
      &search);
  hak_free(const_cast<void *>(search.p));
  EXPECT_NE(search.bytes, 0U);
  return search.bytes + 1;  // A header, in some profiles.
}

TEST(ShouldMove, NothingForNullAndLargeBlocks) {
  bool move[4] = {true, true, true, true};
  EXPECT_EQ(hak_should_move(nullptr, 0, nullptr), 0U);
  void *const blocks[4] = {nullptr, hak_malloc(0), hak_malloc(100), hak_malloc(100000)};
  errno = 77;
  EXPECT_EQ(hak_should_move(blocks, 4, move), 0U);
  EXPECT_EQ(errno, 77);
  for (const bool answer : move) EXPECT_FALSE(answer);
  for (void *p : blocks) hak_free_nocache(p);
  EXPECT_EQ(errno, 77);
}

TEST(ShouldMove, FullSlabsStay) {
  std::vector<Stamped> blocks(20000);
  for (size_t i = 0; i < blocks.size(); ++i) ASSERT_TRUE(blocks[i].New(200, i));
  EXPECT_EQ(MoveOnce(&blocks, 1000), 0U);
  EXPECT_TRUE(FreeAll(&blocks));
}

TEST(ShouldMove, AFragmentedHeapShrinks) {
  Random random(hak_test::TestSeed(0x5017));
  for (const size_t size : {size_t{40}, size_t{200}, size_t{1500}}) {
    const uint64_t before = SlabsUsed();
    std::vector<Stamped> blocks = Fragmented(&random, size > 1000 ? 8000 : 60000, size, size);
    const uint64_t fragmented = SlabsUsed() - before;
    const size_t moves = MoveAll(&blocks, 1 + random.Index(300));
    EXPECT_GT(moves, 0U);
    EXPECT_LE(moves, blocks.size() * 2);
    if (hak_test::IsHardenedBuild()) hak_trim(0);  // Empties the quarantine.
    const uint64_t now = SlabsUsed() - before;
    // What the blocks would take, at most a seventh more, and a few slabs that are not full.
    const uint64_t needed = blocks.size() * ClassBytes(size) / kSlabRoom + 1;
    // HARDENED stops earlier (MoveAll).
    const uint64_t most = hak_test::IsHardenedBuild() ? fragmented * 2 / 3 : needed * 8 / 7 + 4;
    EXPECT_LE(now, most) << size << ": " << fragmented << " slabs before";
    EXPECT_LT(most, fragmented) << size;
    EXPECT_TRUE(hak_heap_verify());
    EXPECT_TRUE(FreeAll(&blocks));
  }
}

TEST(ShouldMove, ManySizes) {
  Random random(hak_test::TestSeed(0x512e5));
  const uint64_t before = SlabsUsed();
  std::vector<Stamped> blocks = Fragmented(&random, 60000, 1, 600);
  const uint64_t fragmented = SlabsUsed() - before;
  MoveAll(&blocks, 64);
  if (hak_test::IsHardenedBuild()) hak_trim(0);
  // A few slabs of each class are not full.
  EXPECT_LT(SlabsUsed() - before, fragmented * 3 / 4);
  EXPECT_TRUE(hak_heap_verify());
  EXPECT_TRUE(FreeAll(&blocks));
}

// One thread moves the blocks of another one, which lives, and of one that has ended.
TEST(ShouldMove, BlocksOfOtherThreads) {
  Random random(hak_test::TestSeed(0x07e45));
  std::vector<Stamped> blocks;
  hak_test::Worker worker;
  const auto fill = [&] {
    const std::vector<Stamped> more = Fragmented(&random, 30000, 150, 150);
    blocks.insert(blocks.end(), more.begin(), more.end());
    hak_thread_flush();
  };
  const uint64_t before = SlabsUsed();
  worker.Do(fill);
  std::thread(fill).join();
  const uint64_t fragmented = SlabsUsed() - before;
  for (int round = 0; round < 12; ++round) {
    MoveOnce(&blocks, 64);
    hak_thread_flush();
    worker.Do([] { hak_thread_flush(); });  // It collects what was freed into its slabs.
  }
  if (hak_test::IsHardenedBuild()) hak_trim(0);
  worker.Do([] { hak_thread_flush(); });
  EXPECT_LT(SlabsUsed() - before, fragmented / 2);
  EXPECT_TRUE(hak_heap_verify());
  EXPECT_TRUE(FreeAll(&blocks));
}

// The answers are hints: whatever other threads do to the same slabs, no block is lost or damaged.
TEST(ShouldMove, WhileOthersAllocateAndFree) {
  Random random(hak_test::TestSeed(0xc0c0));
  std::vector<Stamped> mine = Fragmented(&random, 20000, 100, 300);
  std::vector<Stamped> theirs = Fragmented(&random, 20000, 100, 300);
  std::atomic<bool> stop{false};
  std::atomic<bool> intact{true};
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    Random own(hak_test::TestSeed(0xc0c1));
    while (!stop.load(std::memory_order_relaxed)) {
      for (int i = 0; i < 200 && !theirs.empty(); ++i) {
        std::swap(theirs[own.Index(theirs.size())], theirs.back());
        if (!theirs.back().Free()) intact = false;
        theirs.pop_back();
      }
      for (int i = 0; i < 200; ++i) {
        theirs.emplace_back();
        if (!theirs.back().New(100 + own.Index(200), own.Next())) intact = false;
      }
      if (own.OneIn(50)) hak_thread_flush();
    }
  });
  threads.emplace_back([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      std::thread(hak_test::FillCaches).join();
    }
  });
  for (int round = 0; round < (hak_test::kSlowBuild ? 5 : 20); ++round) MoveOnce(&mine, 64);
  stop = true;
  for (std::thread &thread : threads) thread.join();
  EXPECT_TRUE(intact.load());
  EXPECT_TRUE(FreeAll(&mine));
  EXPECT_TRUE(FreeAll(&theirs));
  EXPECT_TRUE(hak_heap_verify());
}

// A block that is freed past the cache does not come back from it, and one that is taken past it leaves it as it is.
TEST(NoCache, LeavesTheCacheAlone) {
  hak_thread_flush();
  // Stay live, so that an error of live_bytes shows, which is never below 0.
  std::vector<void *> others(200);
  for (void *&p : others) p = hak_malloc_nocache(500);
  hak_thread_flush();
  const uint64_t bytes = hak_test::Stats().live_bytes;
  EXPECT_GE(bytes, others.size() * 500);
  std::vector<void *> blocks(100);
  for (void *&p : blocks) p = hak_malloc_nocache(500);
  if (hak_test::IsHardenedBuild()) {
    // From the cache, in its random order; freed ones first pass the quarantine, and then return to their slabs.
    const uint64_t held = hak_test::Stats().quarantined_blocks;
    for (int round = 0; round < 50; ++round) {
      for (void *p : blocks) hak_free_nocache(p);
      for (void *&p : blocks) p = hak_malloc_nocache(500);
    }
    for (void *p : blocks) hak_free_nocache(p);
    EXPECT_GT(hak_test::Stats().quarantined_blocks, held);
    hak_trim(0);
    EXPECT_EQ(hak_test::Stats().cached_blocks, 0U);
    EXPECT_EQ(hak_test::Stats().live_bytes, bytes);
    for (void *p : others) hak_free(p);
    return;
  }
  EXPECT_EQ(hak_test::Stats().cached_blocks, 0U);
  hak_free(blocks.back());
  blocks.pop_back();
  EXPECT_EQ(hak_test::Stats().cached_blocks, 1U);
  blocks.push_back(hak_malloc_nocache(500));
  EXPECT_EQ(hak_test::Stats().cached_blocks, 1U);
  const uint64_t live = hak_test::Stats().live_blocks;
  for (void *p : blocks) hak_free_nocache(p);
  EXPECT_EQ(hak_test::Stats().cached_blocks, 1U);
  EXPECT_EQ(hak_test::Stats().live_blocks, live - blocks.size());
  EXPECT_EQ(hak_test::Stats().live_bytes, bytes);
  for (void *p : others) hak_free(p);
  hak_thread_flush();
}

TEST(NoCache, EverySizeIsABlockLikeOthers) {
  std::vector<Stamped> blocks;
  for (size_t size = 0; size < 200000; size += 1 + size / 5) {
    Stamped block;
    ASSERT_TRUE(block.New(size, size));
    void *now = hak_malloc_nocache(size);
    ASSERT_NE(now, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(now) % 16, 0U);
    EXPECT_GE(hak_usable_size(now), size);
    EXPECT_TRUE(hak_owns(now));
    if (size != 0) memcpy(now, block.p, size);
    hak_free_nocache(block.p);
    block.p = static_cast<unsigned char *>(now);
    blocks.push_back(block);
  }
  for (Stamped &block : blocks) {
    EXPECT_TRUE(block.IsIntact()) << block.size;
    hak_free_sized(block.p, block.size);
  }
  errno = 0;
  const volatile size_t too_much = SIZE_MAX / 2 + 1;
  EXPECT_EQ(hak_malloc_nocache(too_much), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  hak_free_nocache(nullptr);
}

// A thread that has ended allocates and frees in a late destructor, without a cache.
TEST(NoCache, InTheLastDestructorsOfAThread) {
  static pthread_key_t key;
  ASSERT_EQ(pthread_key_create(&key,
                               [](void *block) {
                                 void *const blocks[1] = {block};
                                 bool move[1] = {true};
                                 hak_should_move(blocks, 1, move);
                                 void *now = hak_malloc_nocache(90);
                                 hak_free_nocache(block);
                                 static thread_local int rounds = 0;
                                 if (++rounds < 3) {  // In the last round ThreadSanitizer has given up the thread.
                                   pthread_setspecific(key, now);
                                 } else {
                                   hak_free_nocache(now);
                                 }
                               }),
            0);
  const uint64_t live = hak_test::Stats().live_blocks;
  std::thread([] { pthread_setspecific(key, hak_malloc(90)); }).join();
  EXPECT_EQ(hak_test::Stats().live_blocks, live);
  pthread_key_delete(key);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(ShouldMoveDeathTest, Misuse) {
  void *const p = hak_malloc_nocache(100);
  void *volatile hidden = p;
  EXPECT_DEATH(
      {
        void *const blocks[1] = {static_cast<char *>(hidden) + 1};
        bool move[1];
        hak_should_move(blocks, 1, move);
      },
      "hakmem: invalid pointer: ");
  EXPECT_DEATH(hak_free_nocache(static_cast<char *>(hidden) + 1), "hakmem: invalid free: ");
  EXPECT_DEATH(
      {
        hak_free_nocache(hidden);
        hak_free_nocache(hidden);
      },
      "hakmem: double free: ");
  // The one in the cache, the other past it, in both orders. FAST finds the first when the cache is flushed.
  EXPECT_DEATH(
      {
        hak_free(hidden);
        hak_free_nocache(hidden);
        if (hak_test::IsFastBuild()) hak_thread_flush();
      },
      "hakmem: double free: ");
  EXPECT_DEATH(
      {
        hak_free_nocache(hidden);
        hak_free(hidden);
        hak_thread_flush();
      },
      "hakmem: double free: ");
  hak_free(p);
}

}  // namespace
