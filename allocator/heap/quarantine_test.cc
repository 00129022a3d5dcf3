// SPDX-License-Identifier: Apache-2.0
//
// A quarantine works in every profile; HARDENED gives one to each heap.
#include "allocator/heap/quarantine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "allocator/block/tiny_region_id.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"

namespace {

constexpr uint32_t kClass = 4;
const size_t kHalf = std::min<size_t>(HAK_QUARANTINE_BLOCKS, HAK_QUARANTINE_BYTES / hak_class_stride(kClass));

class Quarantine : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  Quarantine() {
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    heap_ = hak_heap_open();
    if (!HAK_HARDENED) hak_quarantine_attach(heap_);
  }
  ~Quarantine() override {
    EXPECT_EQ(hak_heap_check(heap_), nullptr);
    hak_quarantine_detach(heap_);
    hak_heap_close(heap_);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
    EXPECT_STREQ(hak_pool_verify(), nullptr);
  }
  std::vector<void *> Take(uint32_t class_id, size_t count) {
    std::vector<void *> blocks;
    while (blocks.size() < count) {
      void *block;
      if (hak_heap_take(heap_, class_id, &block, 1, nullptr) != 1) break;
      blocks.push_back(block);
    }
    EXPECT_EQ(blocks.size(), count);
    return blocks;
  }
  void Put(const std::vector<void *> &blocks) {
    for (void *block : blocks) hak_heap_put(heap_, hak_slab_of(block), block);
  }
  uint64_t Held() { return atomic_load_explicit(&heap_->counts.held_blocks, memory_order_relaxed); }
  hak_heap *heap_;
};

TEST_F(Quarantine, NothingIsLostNorUsedAgainEarly) {
  const std::vector<void *> blocks = Take(kClass, 8 * kHalf);
  std::map<void *, size_t> went_in;
  std::vector<void *> out;
  size_t frees = 0;
  for (void *block : blocks) {
    went_in[block] = frees++;
    void *again = hak_quarantine_swap(heap_, kClass, block);
    if (again == nullptr) continue;
    ASSERT_EQ(went_in.count(again), 1u);
    // It was in the queue for at least one whole turn.
    EXPECT_GE(frees - went_in[again], kHalf / 2);
    went_in.erase(again);
    out.push_back(again);
  }
  EXPECT_EQ(went_in.size() + out.size(), blocks.size());
  EXPECT_EQ(Held(), went_in.size());
  EXPECT_LE(went_in.size(), 2 * kHalf);
  EXPECT_GT(went_in.size(), kHalf);
  std::set<const void *> seen;
  static std::set<const void *> *collected;
  collected = &seen;
  hak_quarantine_visit(heap_, [](const void *block, uint32_t class_id) {
    EXPECT_EQ(class_id, kClass);
    EXPECT_TRUE(collected->insert(block).second);
  });
  EXPECT_EQ(seen.size(), went_in.size());
  hak_quarantine_flush(heap_);
  EXPECT_EQ(Held(), 0u);
  Put(out);
}

TEST_F(Quarantine, OthersEmptyItWhenNothingWentInForAWhile) {
  const std::vector<void *> blocks = Take(kClass, 3);
  const auto FlushIdle = [&](uint64_t now) {
    hak_heap_enter(heap_);
    const uint32_t count = hak_quarantine_flush_idle(heap_, now, 100);
    hak_heap_leave(heap_);
    return count;
  };
  ASSERT_EQ(hak_quarantine_swap(heap_, kClass, blocks[0]), nullptr);
  EXPECT_EQ(FlushIdle(1000), 0u);
  EXPECT_EQ(FlushIdle(1099), 0u);
  ASSERT_EQ(hak_quarantine_swap(heap_, kClass, blocks[1]), nullptr);
  EXPECT_EQ(FlushIdle(1100), 0u);
  EXPECT_EQ(FlushIdle(1050), 0u);  // Another thread's clock may be behind.
  EXPECT_EQ(FlushIdle(1199), 0u);
  EXPECT_EQ(Held(), 2u);
  const uint64_t stolen = atomic_load_explicit(&hak_stolen_blocks, memory_order_relaxed);
  EXPECT_EQ(FlushIdle(1200), 2u);
  EXPECT_EQ(Held(), 0u);
  EXPECT_EQ(atomic_load_explicit(&hak_stolen_blocks, memory_order_relaxed), stolen + 2);
  EXPECT_EQ(FlushIdle(9999), 0u);
  Put({blocks[2]});
}

TEST_F(Quarantine, TheOrderCannotBeForetold) {
  std::set<std::vector<size_t>> orders;
  for (int round = 0; round < 5; round++) {
    const std::vector<void *> blocks = Take(kClass, 3 * kHalf);
    std::map<void *, size_t> number;
    std::vector<size_t> order;
    for (size_t i = 0; i < blocks.size(); i++) {
      number[blocks[i]] = i;
      void *again = hak_quarantine_swap(heap_, kClass, blocks[i]);
      if (again == nullptr) continue;
      order.push_back(number[again]);
      Put({again});
    }
    orders.insert(order);
    hak_quarantine_flush(heap_);
  }
  EXPECT_EQ(orders.size(), 5u);
}

TEST_F(Quarantine, AFlushReturnsTheBlocksOfEveryClass) {
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    ASSERT_EQ(hak_quarantine_swap(heap_, id, Take(id, 1)[0]), nullptr);
    std::set<uint32_t> seen;
    static std::set<uint32_t> *visited;
    visited = &seen;
    hak_quarantine_visit(heap_, [](const void *, uint32_t class_id) { visited->insert(class_id); });
    EXPECT_EQ(seen, std::set<uint32_t>{id});
    hak_quarantine_flush(heap_);
    ASSERT_EQ(Held(), 0u) << id;
    ASSERT_EQ(hak_pool_totals().tiny_blocks, 0u) << id;
  }
}

TEST_F(Quarantine, TheLargestClassHasOneToo) {
  const uint32_t class_id = HAK_CLASS_COUNT - 1;
  const std::vector<void *> blocks = Take(class_id, 3);
  EXPECT_EQ(hak_quarantine_swap(heap_, class_id, blocks[0]), nullptr);
  EXPECT_EQ(hak_quarantine_swap(heap_, class_id, blocks[1]), nullptr);
  EXPECT_EQ(hak_quarantine_swap(heap_, class_id, blocks[2]), blocks[0]);
  Put({blocks[0]});
}

TEST_F(Quarantine, RandomNumbersAreBelowTheirBoundAndUsedUpEvenly) {
  constexpr uint32_t kBound = 10;
  constexpr int kDraws = 100000;
  int counts[kBound] = {};
  for (int i = 0; i < kDraws; i++) {
    const uint32_t number = hak_quarantine_random(heap_, kBound);
    ASSERT_LT(number, kBound);
    counts[number]++;
  }
  // Six standard deviations of a fair draw are 570.
  for (const int count : counts) EXPECT_NEAR(count, kDraws / kBound, 600);
  EXPECT_EQ(hak_quarantine_random(heap_, 1), 0u);
}

TEST_F(Quarantine, ShufflingKeepsAllBlocks) {
  std::vector<void *> blocks;
  for (uintptr_t i = 1; i <= 100; i++) blocks.push_back(reinterpret_cast<void *>(i));
  const std::vector<void *> before = blocks;
  hak_quarantine_shuffle(heap_, blocks.data(), 100);
  EXPECT_NE(blocks, before);
  std::sort(blocks.begin(), blocks.end());
  EXPECT_EQ(blocks, before);
}

}  // namespace
