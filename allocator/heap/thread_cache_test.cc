// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/thread_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include "allocator/block/block_check.h"
#include "allocator/heap/bin.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/remote.h"
#include "allocator/meta/meta.h"
#include "allocator/os/fault.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::Random;

// The bounds of DESIGN.md: in blocks and bytes, but never below a few blocks.
constexpr size_t kBlocksMax = 2046;
constexpr size_t kBytesMax = size_t{1} << 20;
constexpr size_t kFirst = 14;  // capacity of the first array
constexpr uint32_t kClass = 4;
constexpr uint32_t kOther = 9;

class ThreadCache : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  ThreadCache() {
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.thread_cache_bytes = size_t{64} << 20;
    heap_ = hak_heap_open();
  }
  ~ThreadCache() override {
    ExpectSound();
    hak_heap_close(heap_);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
    EXPECT_STREQ(hak_pool_verify(), nullptr);
  }

  hak_bin *Bin(uint32_t class_id) { return &heap_->cache.bins[class_id]; }
  void **Top(uint32_t class_id) { return atomic_load_explicit(&Bin(class_id)->top, memory_order_relaxed); }
  void **Base(uint32_t class_id) { return atomic_load_explicit(&Bin(class_id)->base, memory_order_relaxed); }
  size_t Capacity(uint32_t class_id) {
    return Base(class_id) == nullptr ? 0 : static_cast<size_t>(Bin(class_id)->limit - Base(class_id)) - 1;
  }
  size_t Count(uint32_t class_id) {
    return Base(class_id) == nullptr ? 0 : static_cast<size_t>(Top(class_id) - Base(class_id)) - 1;
  }
  std::vector<void *> Cached(uint32_t class_id) {
    if (Count(class_id) == 0) return {};
    return std::vector<void *>(Base(class_id) + 2, Top(class_id) + 1);
  }

  // As the fast paths and the slow paths that they call.
  void *Malloc(uint32_t class_id) {
    void **top = Top(class_id);
    if (*top == nullptr) return hak_thread_cache_miss(heap_, class_id, nullptr);
    atomic_store_explicit(&Bin(class_id)->top, top - 1, memory_order_relaxed);
    return *top;
  }
  void Free(uint32_t class_id, void *block) {
    void **top = Top(class_id);
    if (top >= Bin(class_id)->limit) {
      hak_thread_cache_overflow(heap_, class_id, block);
    } else {
      top[1] = block;
      atomic_store_explicit(&Bin(class_id)->top, top + 1, memory_order_relaxed);
    }
  }
  std::vector<void *> MallocMany(uint32_t class_id, size_t count) {
    std::vector<void *> blocks;
    for (size_t i = 0; i < count; i++) blocks.push_back(Malloc(class_id));
    return blocks;
  }
  void FreeAll(uint32_t class_id, const std::vector<void *> &blocks) {
    for (void *block : blocks) Free(class_id, block);
  }

  static size_t Bound(uint32_t class_id) {
    return std::min(kBlocksMax, std::max<size_t>(4, kBytesMax / hak_class_stride(class_id)));
  }

  void ExpectSound() {
    uint64_t bytes = 0;
    for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
      if (Base(id) == nullptr) {
        ASSERT_EQ(Top(id), Bin(id)->limit);
        continue;
      }
      ASSERT_EQ(Base(id)[0], nullptr);
      ASSERT_EQ(Base(id)[1], nullptr);
      ASSERT_GE(Top(id), Base(id) + 1);
      ASSERT_LE(Top(id), Bin(id)->limit);
      ASSERT_LE(Capacity(id), Bound(id)) << id;
      bytes += Capacity(id) * hak_class_stride(id);
    }
    ASSERT_EQ(heap_->upkeep.cache_bytes, bytes);
    ASSERT_EQ(hak_heap_check(heap_), nullptr);
  }

  hak_heap *heap_;
};

TEST_F(ThreadCache, TheEmptyCacheHasNeitherBlocksNorRoom) {
  for (uint32_t id = 0; id < HAK_CLASS_COUNT; id++) {
    for (const hak_cache *cache : {&hak_no_cache, static_cast<const hak_cache *>(&heap_->cache)}) {
      const hak_bin &bin = cache->bins[id];
      void **top = atomic_load_explicit(&bin.top, memory_order_relaxed);
      EXPECT_EQ(top[0], nullptr);
      EXPECT_EQ(top[-1], nullptr);
      EXPECT_GE(top, bin.limit);
    }
    EXPECT_EQ(hak_no_cache.bins[id].reciprocal, 0u);
    EXPECT_EQ(Bin(id)->reciprocal, hak_class_info[id].reciprocal) << id;
  }
}

// Statistics read the bin of a running thread: its top may be that of another array than its base.
TEST_F(ThreadCache, ABinThatItsOwnerChangesCountsAsEmpty) {
  void *block = hak_thread_cache_miss(heap_, kClass, nullptr);
  ASSERT_NE(block, nullptr);
  void **const top = Top(kClass);
  for (const ptrdiff_t blocks : {ptrdiff_t{-1000}, ptrdiff_t{-1}, ptrdiff_t{HAK_SLAB_BLOCKS_MAX} + 1}) {
    hak_bin_set_top(Bin(kClass), Base(kClass) + 1 + blocks);
    EXPECT_EQ(hak_heap_totals().cached_blocks, 0u) << blocks;
  }
  hak_bin_set_top(Bin(kClass), top);
  EXPECT_EQ(hak_heap_totals().cached_blocks, kFirst / 2 - 1);
  Free(kClass, block);
}

TEST_F(ThreadCache, AMissBringsABlockAndHalfAnArray) {
  void *block = hak_thread_cache_miss(heap_, kClass, nullptr);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(Capacity(kClass), kFirst);
  EXPECT_EQ(Count(kClass), kFirst / 2 - 1);
  const std::vector<void *> cached = Cached(kClass);
  EXPECT_EQ(std::count(cached.begin(), cached.end(), block), 0);
  for (void *b : cached) EXPECT_EQ(hak_slab_map_find(b), kClass);
  EXPECT_EQ(hak_heap_totals().cached_blocks, kFirst / 2 - 1);
  EXPECT_EQ(hak_heap_totals().cached_bytes, (kFirst / 2 - 1) * hak_class_usable(kClass));
  Free(kClass, block);
}

TEST_F(ThreadCache, MissesDoubleTheCapacityUpToItsBound) {
  for (const uint32_t id : {1u, kClass, 20u, 33u, 50u, HAK_CLASS_COUNT - 1}) {
    std::vector<void *> blocks;
    size_t last = 0;
    for (int i = 0; i < 100000 && Capacity(id) < Bound(id); i++) {
      blocks.push_back(Malloc(id));
      const size_t now = Capacity(id);
      ASSERT_GE(now, last);
      if (last != 0) {
        ASSERT_LE(now, 2 * (last + 2));
      }
      last = now;
    }
    EXPECT_EQ(Capacity(id), Bound(id)) << id;
    ExpectSound();
    FreeAll(id, blocks);
    EXPECT_EQ(Capacity(id), Bound(id)) << id;
    hak_thread_cache_flush_all(heap_);
  }
}

TEST_F(ThreadCache, OverflowsDoubleItTooAndThenFlushTheOlderHalf) {
  const size_t bound = Bound(kClass);
  std::vector<void *> blocks;
  // Takes blocks directly from the slabs, so that no miss makes the bin grow.
  while (blocks.size() < 3 * bound) {
    void *out[64];
    const uint32_t got = hak_heap_take(heap_, kClass, out, 64, nullptr);
    ASSERT_GT(got, 0u);
    blocks.insert(blocks.end(), out, out + got);
  }
  size_t at = 0;
  while (Capacity(kClass) < bound || Count(kClass) < bound) {
    Free(kClass, blocks[at++]);
    ASSERT_EQ(Count(kClass), at) << "nothing is flushed while there is room to grow";
  }
  EXPECT_EQ(at, bound);
  const uint64_t held = hak_pool_totals().tiny_blocks;
  Free(kClass, blocks[at++]);
  EXPECT_EQ(Count(kClass), bound - (bound + 1) / 2 + 1);
  EXPECT_EQ(hak_pool_totals().tiny_blocks, held - (bound + 1) / 2);
  EXPECT_EQ(Cached(kClass), std::vector<void *>(blocks.begin() + static_cast<ptrdiff_t>((bound + 1) / 2),
                                                blocks.begin() + static_cast<ptrdiff_t>(at)))
      << "the latest, in order";
  ExpectSound();
  for (; at < blocks.size(); at++) Free(kClass, blocks[at]);
}

TEST_F(ThreadCache, TheThreadsBoundLeavesEachClassItsFirstArray) {
  hak_config.thread_cache_bytes = 0;
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    const std::vector<void *> blocks = MallocMany(id, 60);
    FreeAll(id, blocks);
    EXPECT_EQ(Capacity(id), std::min(kFirst, Bound(id))) << id;
  }
  ExpectSound();
}

TEST_F(ThreadCache, AllClassesTogetherStayBelowTheThreadsBound) {
  uint64_t firsts = 0;
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) firsts += std::min(kFirst, Bound(id)) * hak_class_stride(id);
  hak_config.thread_cache_bytes = size_t{2} << 20;
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    const std::vector<void *> blocks = MallocMany(id, 400);
    FreeAll(id, blocks);
    ASSERT_LE(heap_->upkeep.cache_bytes, std::max(hak_config.thread_cache_bytes, uint64_t{0}) + firsts);
  }
  ExpectSound();
}

TEST_F(ThreadCache, RandomUseNeverLosesOrDoublesABlock) {
  Random random(12);
  const uint32_t classes[] = {1, 4, 17, 40, 60, 72};
  std::vector<void *> live[6];
  for (int op = 0; op < hak_unit::Operations(60000); op++) {
    const size_t c = random.Below(6);
    const bool grow = (op / 4000 + static_cast<int>(c)) % 2 == 0;
    if (live[c].size() < 2000 && random.Below(10) < (grow ? 6u : 4u)) {
      live[c].push_back(Malloc(classes[c]));
      ASSERT_NE(live[c].back(), nullptr);
    } else if (!live[c].empty()) {
      std::swap(live[c][random.Below(live[c].size())], live[c].back());
      Free(classes[c], live[c].back());
      live[c].pop_back();
    }
    if (op % 2000 == 0) ExpectSound();
  }
  std::set<void *> all;
  size_t held = 0;
  for (size_t c = 0; c < 6; c++) {
    all.insert(live[c].begin(), live[c].end());
    const std::vector<void *> cached = Cached(classes[c]);
    all.insert(cached.begin(), cached.end());
    held += live[c].size() + cached.size();
  }
  EXPECT_EQ(all.size(), held) << "a block is live or cached once";
  EXPECT_EQ(hak_pool_totals().tiny_blocks, held);
  for (size_t c = 0; c < 6; c++) FreeAll(classes[c], live[c]);
}

TEST_F(ThreadCache, AnIdleClassShrinksAndReturnsItsBlocks) {
  FreeAll(kOther, MallocMany(kOther, 3000));
  const size_t grown = Capacity(kOther);
  ASSERT_GT(grown, 200u);
  ASSERT_GT(Count(kOther), 100u);
  // Only slow events of another class: misses of a class that is flushed again and again.
  size_t last = grown;
  std::vector<void *> blocks;
  for (int i = 0; i < 32 * 73 * 12; i++) {
    void *block = hak_thread_cache_miss(heap_, kClass, nullptr);
    ASSERT_NE(block, nullptr);
    std::vector<void *> all = Cached(kClass);
    all.push_back(block);
    atomic_store_explicit(&Bin(kClass)->top, Base(kClass) + 1, memory_order_relaxed);
    hak_give_back(heap_, all.data(), static_cast<uint32_t>(all.size()));
    ASSERT_LE(Capacity(kOther), last);
    ASSERT_GE(Capacity(kOther), last / 2 - 1) << "by half at a time";
    ASSERT_LE(Count(kOther), Capacity(kOther));
    last = Capacity(kOther);
  }
  EXPECT_LE(last, 16u);
  EXPECT_GE(last, 4u);
  EXPECT_GT(Capacity(kClass), 16u) << "the class in use does not shrink";
  ExpectSound();
}

TEST_F(ThreadCache, FlushingReturnsEverything) {
  const std::vector<void *> blocks = MallocMany(kClass, 100);
  FreeAll(kClass, blocks);
  FreeAll(kOther, MallocMany(kOther, 10));
  hak_thread_cache_flush_all(heap_);
  EXPECT_EQ(Count(kClass), 0u);
  EXPECT_EQ(Count(kOther), 0u);
  EXPECT_EQ(hak_heap_totals().cached_blocks, 0u);
  EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
  for (void *block : blocks) {
    const hak_slab *slab = hak_slab_of(block);
    if (slab->class_id == kClass) {
      EXPECT_TRUE(hak_slab_bit(slab, hak_slab_block_index(slab, block)));
    }
  }
}

TEST_F(ThreadCache, DestroyingGivesTheArraysBack) {
  const auto use = [this] {
    FreeAll(kClass, MallocMany(kClass, 3000));
    FreeAll(kOther, MallocMany(kOther, 3000));
    hak_thread_cache_flush_all(heap_);
    hak_thread_cache_destroy(heap_);
  };
  use();
  EXPECT_EQ(heap_->upkeep.cache_bytes, 0u);
  EXPECT_EQ(Capacity(kClass), 0u);
  const uint64_t mapped = hak_meta_mapped();
  for (int i = 0; i < 30; i++) use();
  EXPECT_EQ(hak_meta_mapped(), mapped);
}

// A slab is adopted while another thread waits to return one of its blocks to the orphanage.
TEST_F(ThreadCache, ABlockOfASlabAdoptedMeanwhileGoesToItsNewOwner) {
  hak_heap *ended = hak_heap_open();
  void *blocks[2];
  ASSERT_EQ(hak_heap_take(ended, kClass, blocks, 2, nullptr), 2u);
  hak_slab *slab = hak_slab_of(blocks[0]);
  hak_heap_close(ended);
  hak_lock_acquire(&hak_orphanage_lock);
  std::thread returning([&] { hak_give_back(nullptr, blocks, 1); });
  // 2: a thread waits for the lock; it can only be that one.
  while (atomic_load_explicit(&hak_orphanage_lock.state, memory_order_relaxed) != 2) std::this_thread::yield();
  hak_heap_unlink(&hak_orphanage, slab);
  atomic_store_explicit(&slab->owner, heap_, memory_order_release);
  hak_heap_link(heap_, slab);
  hak_lock_release(&hak_orphanage_lock);
  returning.join();
  EXPECT_EQ(hak_slab_free_count(slab), 0u) << "only the owner touches its counts";
  EXPECT_EQ(atomic_load_explicit(&heap_->pending, memory_order_relaxed), slab);
  hak_remote_drain(heap_);
  EXPECT_EQ(hak_slab_free_count(slab), 1u);
  hak_give_back(heap_, &blocks[1], 1);
}

TEST_F(ThreadCache, ReturnsEachBlockToWhoeverOwnsItsSlab) {
  hak_heap *other = hak_heap_open();
  hak_heap *ended = hak_heap_open();
  std::vector<void *> blocks(90);
  for (uint32_t i = 0; i < 30;) i += hak_heap_take(heap_, kClass, &blocks[i], 30 - i, nullptr);
  for (uint32_t i = 30; i < 60;) i += hak_heap_take(other, kClass, &blocks[i], 60 - i, nullptr);
  for (uint32_t i = 60; i < 90;) i += hak_heap_take(ended, kClass, &blocks[i], 90 - i, nullptr);
  std::vector<void *> kept = {blocks[0], blocks[30], blocks[60]};
  hak_slab *slabs[3] = {hak_slab_of(blocks[0]), hak_slab_of(blocks[30]), hak_slab_of(blocks[60])};
  hak_heap_close(ended);
  std::vector<void *> shuffled;
  for (size_t i = 1; i < 30; i++) {
    for (const size_t part : {0u, 30u, 60u}) shuffled.push_back(blocks[part + i]);
  }
  hak_give_back(heap_, shuffled.data(), static_cast<uint32_t>(shuffled.size()));
  EXPECT_EQ(hak_slab_free_count(slabs[0]), 29u);
  EXPECT_EQ(hak_slab_free_count(slabs[1]), 0u);
  EXPECT_EQ(atomic_load_explicit(&slabs[1]->remote, memory_order_relaxed) >> 32, 29u);
  EXPECT_EQ(hak_slab_free_count(slabs[2]), 29u);
  if (!HAK_FAST) {
    EXPECT_EQ(hak_heap_totals().remote_batches, 1u) << "one batch for the slab";
  }
  hak_remote_drain(other);
  EXPECT_EQ(hak_slab_free_count(slabs[1]), 29u);
  // A thread without a heap may do this too.
  hak_give_back(nullptr, kept.data(), 3);
  hak_remote_drain(heap_);
  hak_remote_drain(other);
  hak_heap_close(other);
}

TEST_F(ThreadCache, RemoteBlocksOfMoreSlabsThanItKeepsApart) {
  hak_heap *other = hak_heap_open();
  const uint32_t eight_to_a_slab = hak_class_of(size_t{8} * 1024 - HAK_HEADER_BYTES);
  std::vector<void *> blocks;
  while (blocks.size() < 8 * 100) {
    void *out[8];
    const uint32_t got = hak_heap_take(other, eight_to_a_slab, out, 8, nullptr);
    ASSERT_GT(got, 0u);
    blocks.insert(blocks.end(), out, out + got);
  }
  Random random(4);
  for (size_t i = blocks.size(); i > 1; i--) std::swap(blocks[i - 1], blocks[random.Below(i)]);
  hak_give_back(heap_, blocks.data(), static_cast<uint32_t>(blocks.size()));
  EXPECT_EQ(hak_pool_totals().remote_blocks, blocks.size());
  hak_remote_drain(other);
  EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
  hak_heap_close(other);
}

TEST_F(ThreadCache, ABlockOfASlabThatWentBackIsADoubleFree) {
  void *out[2];
  ASSERT_EQ(hak_heap_take(heap_, HAK_CLASS_COUNT - 1, out, 1, nullptr), 1u);
  hak_give_back(heap_, out, 1);
  hak_heap_release_empty(heap_);
  HAK_EXPECT_FATAL(hak_give_back(heap_, out, 1), "double free", out[0]);
}

TEST_F(ThreadCache, ACachedDoubleFreeIsFoundByTheFlush) {
  const std::vector<void *> blocks = MallocMany(kClass, 5);
  HAK_EXPECT_FATAL(
      {
        Free(kClass, blocks[0]);
        Free(kClass, blocks[1]);
        Free(kClass, blocks[0]);
        hak_thread_cache_flush_all(heap_);
      },
      "double free", blocks[0]);
  FreeAll(kClass, blocks);
}

// Without memory for an array, blocks bypass the cache. The array is allocated later.
TEST_F(ThreadCache, WorksWithoutAnArray) {
  void *spare[2];
  ASSERT_EQ(hak_heap_take(heap_, kClass, spare, 2, nullptr), 2u);
  {
    const FaultPlan plan(HAK_FAULT_MAP);
    const size_t array = (kFirst + 2) * sizeof(void *);
    for (int i = 0; i < 100000 && hak_meta_alloc(array) != nullptr; i++) {
    }
    ASSERT_EQ(hak_meta_alloc(array), nullptr);
    void *block = hak_thread_cache_miss(heap_, kClass, nullptr);
    EXPECT_NE(block, nullptr);
    EXPECT_EQ(Base(kClass), nullptr);
    const uint64_t held = hak_pool_totals().tiny_blocks;
    hak_thread_cache_overflow(heap_, kClass, block);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, held - 1);
    EXPECT_EQ(Base(kClass), nullptr);
    // Without slabs either.
    std::vector<void *> blocks;
    for (void *b; (b = hak_thread_cache_miss(heap_, HAK_CLASS_COUNT - 1, nullptr)) != nullptr;) {
      blocks.push_back(b);
      ASSERT_LT(blocks.size(), 100000u);
    }
    hak_give_back(heap_, blocks.data(), static_cast<uint32_t>(blocks.size()));
  }
  hak_thread_cache_overflow(heap_, kClass, spare[0]);
  EXPECT_EQ(Capacity(kClass), kFirst);
  Free(kClass, spare[1]);
  EXPECT_EQ(Count(kClass), 2u);
}

// Free blocks of the next larger class serve a class that has none, but not for ever: each loan is a slow call.
class Loans : public ThreadCache {
 protected:
  static constexpr uint32_t kClass = 8, kLarger = 9;  // 128 bytes, 144 bytes
  Loans() {
    hak_config.borrow = true;
    std::vector<void *> blocks = MallocMany(kLarger, 20000);
    for (size_t i = 0; i < blocks.size(); i++) (i % 2 == 0 ? kept_ : freed_).push_back(blocks[i]);
    FreeAll(kLarger, freed_);
  }
  ~Loans() override {
    FreeAll(kLarger, kept_);
    hak_config.borrow = false;
  }
  // As the fast path and the slow path that it calls.
  void *Get(size_t *slow_calls, size_t *loans) {
    if (*Top(kClass) != nullptr) return Malloc(kClass);
    ++*slow_calls;
    void *block = hak_thread_cache_borrow(heap_, kClass);
    if (block != nullptr) ++*loans;
    return block != nullptr ? block : hak_thread_cache_miss(heap_, kClass, nullptr);
  }
  void Drop(void *block) { Free(hak_slab_map_find(block), block); }

  std::vector<void *> kept_, freed_;
};

TEST_F(Loans, APairInALoopSoonFindsItsBlockInItsOwnBin) {
  if (HAK_BLOCK_CHECKS) GTEST_SKIP() << "nothing is lent where headers name the class";
  size_t slow_calls = 0, loans = 0;
  for (int i = 0; i < 20000; i++) Drop(Get(&slow_calls, &loans));
  EXPECT_GT(loans, 0u);
  EXPECT_LE(slow_calls, 50u);
}

TEST_F(Loans, SmallBurstsDoNotBorrowForEver) {
  if (HAK_BLOCK_CHECKS) GTEST_SKIP();
  size_t slow_calls = 0, loans = 0;
  for (int round = 0; round < 1000; round++) {
    std::vector<void *> burst;
    for (int i = 0; i < 30; i++) burst.push_back(Get(&slow_calls, &loans));
    for (void *block : burst) Drop(block);
  }
  EXPECT_GT(loans, 0u);
  EXPECT_LE(slow_calls, 200u);
}

TEST_F(Loans, AClassThatGrowsBorrowsAsMuchAsItFills) {
  if (HAK_BLOCK_CHECKS) GTEST_SKIP();
  size_t slow_calls = 0, loans = 0;
  std::vector<void *> blocks;
  for (int i = 0; i < 8000; i++) blocks.push_back(Get(&slow_calls, &loans));
  EXPECT_GT(loans, blocks.size() / 20) << "fresh memory is avoided where that costs little";
  EXPECT_LE(slow_calls, blocks.size() * 5 / 8);
  for (void *block : blocks) Drop(block);
}

}  // namespace
