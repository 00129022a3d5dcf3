// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/heap.h"

#include <gtest/gtest.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "allocator/block/block_front.h"
#include "allocator/block/poison.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/meta/meta.h"
#include "allocator/os/fault.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/slab/slab_release.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::Random;

constexpr uint32_t kClass = 8;  // 128 bytes
// Two to a slab, in every header mode.
const uint32_t kBig = hak_class_of(size_t{24} * 1024 - HAK_HEADER_BYTES);

// The part of an allocation that the fast path does: NULL when the bin is empty.
void *Pop(hak_heap *heap, uint32_t class_id) {
  hak_bin *bin = &heap->cache.bins[class_id];
  void **top = atomic_load_explicit(&bin->top, memory_order_relaxed);
  if (*top != nullptr) atomic_store_explicit(&bin->top, top - 1, memory_order_relaxed);
  return *top;
}

// The bytes that these tests may write to a block: no header calls it live, so the poison at its end must stay.
size_t Writable(uint32_t class_id) { return hak_class_usable(class_id) - (HAK_POISON_ON ? HAK_FRONT_BYTES : 0); }

// Several heaps may belong to one thread as long as it is the only thread.
class Heap : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  Heap() {
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.keep_superslabs = 1;
    hak_config.thread_cache_bytes = size_t{4} << 20;
    heap_ = hak_heap_open();
  }
  ~Heap() override {
    EXPECT_EQ(hak_heap_check(heap_), nullptr);
    hak_heap_close(heap_);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
    EXPECT_EQ(hak_pool_totals().slabs_used, 0u);
    EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
    EXPECT_STREQ(hak_pool_verify(), nullptr);
    EXPECT_EQ(hak_heap_totals().threads, 0u);
  }

  std::vector<void *> Take(hak_heap *heap, uint32_t class_id, uint32_t count) {
    std::vector<void *> blocks(count);
    uint32_t got = 0;
    while (got < count) {
      const uint32_t more = hak_heap_take(heap, class_id, blocks.data() + got, count - got, nullptr);
      if (more == 0) break;
      got += more;
    }
    blocks.resize(got);
    return blocks;
  }
  static void Put(hak_heap *heap, void *block) { hak_heap_put(heap, hak_slab_of(block), block); }
  static hak_heap *Owner(void *block) { return atomic_load_explicit(&hak_slab_of(block)->owner, memory_order_relaxed); }

  hak_heap *heap_;
};

TEST_F(Heap, RandomTakesAndPutsAgreeWithAModel) {
  Random random(21);
  for (const uint32_t class_id : {1u, 3u, 16u, 30u, 49u, 57u, kBig}) {
    std::map<char *, unsigned char> live;
    const size_t usable = Writable(class_id);
    const size_t most = (size_t{6} << 16) / hak_class_stride(class_id) + 5;
    for (int op = 0; op < hak_unit::Operations(800); op++) {
      if (random.OneIn(2)) {
        void *out[40];
        bool fresh = false;
        const uint32_t want = 1 + random.Below(40);
        if (live.size() > most) continue;
        const uint32_t got = hak_heap_take(heap_, class_id, out, want, &fresh);
        ASSERT_GE(got, 1u);
        ASSERT_LE(got, want);
        if (fresh) {
          ASSERT_EQ(got, 1u);
          ASSERT_TRUE(hak_unit::IsZero(out[0], usable));
        }
        for (uint32_t i = 0; i < got; i++) {
          char *block = static_cast<char *>(out[i]);
          ASSERT_EQ(hak_slab_map_find(block), class_id);
          ASSERT_TRUE(hak_slab_is_block_start(block, hak_class_info[class_id].reciprocal));
          ASSERT_EQ(Owner(block), heap_);
          const unsigned char fill = static_cast<unsigned char>(random.Next());
          ASSERT_TRUE(live.emplace(block, fill).second) << "handed out twice";
          memset(block, fill, usable);
        }
      } else {
        for (uint32_t i = random.Below(40); i > 0 && !live.empty(); i--) {
          auto at = live.begin();
          std::advance(at, random.Below(std::min<size_t>(live.size(), 50)));
          for (const size_t offset : {size_t{0}, usable / 2, usable - 1}) {
            if (offset >= usable) continue;
            ASSERT_EQ(static_cast<unsigned char>(at->first[offset]), at->second);
          }
          Put(heap_, at->first);
          live.erase(at);
        }
      }
      const char *fault = hak_heap_check(heap_);
      ASSERT_EQ(fault, nullptr) << fault;
      ASSERT_EQ(hak_pool_totals().tiny_blocks, live.size());
    }
    for (const auto &[block, fill] : live) Put(heap_, block);
    ASSERT_STREQ(hak_pool_verify(), nullptr);
  }
}

TEST_F(Heap, TheFullestSlabGivesFirst) {
  const std::vector<void *> blocks = Take(heap_, kClass, 512 * 5);
  std::map<hak_slab *, std::vector<void *>> by_slab;
  for (void *block : blocks) by_slab[hak_slab_of(block)].push_back(block);
  ASSERT_GE(by_slab.size(), 5u);
  // Slabs with more and more free blocks.
  std::vector<hak_slab *> order;
  const uint32_t parts[] = {0, 12, 6, 3, 1};  // one block in this many is freed; 0: none
  std::set<void *> held(blocks.begin(), blocks.end());
  uint32_t at = 0;
  for (auto &[slab, list] : by_slab) {
    if (list.size() < slab->capacity || at == 5) continue;
    const uint32_t part = parts[at++];
    for (size_t i = 0; part != 0 && i < list.size(); i++) {
      if (part == 1 ? i > 0 : i % part == 0) {
        Put(heap_, list[i]);
        held.erase(list[i]);
      }
    }
    if (part != 0) order.push_back(slab);
  }
  ASSERT_GE(order.size(), 3u);
  for (hak_slab *slab : order) {
    while (hak_slab_free_count(slab) != 0) {
      void *block;
      ASSERT_EQ(hak_heap_take(heap_, kClass, &block, 1, nullptr), 1u);
      ASSERT_EQ(hak_slab_of(block), slab);
      held.insert(block);
    }
    EXPECT_EQ(slab->list, HAK_LIST_FULL);
  }
  for (void *block : held) Put(heap_, block);
}

TEST_F(Heap, FreedBlocksAreUsedBeforeNewGround) {
  const std::vector<void *> blocks = Take(heap_, kClass, 20);
  hak_slab *slab = hak_slab_of(blocks[0]);
  const uint32_t carved = hak_slab_carved(slab);
  for (size_t i = 0; i < 10; i++) Put(heap_, blocks[i]);
  const std::vector<void *> again = Take(heap_, kClass, 10);
  EXPECT_EQ(hak_slab_carved(slab), carved);
  EXPECT_EQ(std::set<void *>(again.begin(), again.end()), std::set<void *>(blocks.begin(), blocks.begin() + 10));
  for (void *block : again) Put(heap_, block);
  for (size_t i = 10; i < 20; i++) Put(heap_, blocks[i]);
}

TEST_F(Heap, OnlyTheLastEmptySlabOfAClassIsKept) {
  std::vector<void *> blocks = Take(heap_, kBig, 10);
  EXPECT_EQ(hak_pool_totals().slabs_used, 5u);
  for (void *block : blocks) Put(heap_, block);
  EXPECT_EQ(hak_pool_totals().slabs_used, 1u);
  EXPECT_EQ(hak_heap_check(heap_), nullptr);
  hak_heap_release_empty(heap_);
  EXPECT_EQ(hak_pool_totals().slabs_used, 0u);
}

TEST_F(Heap, ReleaseKeepsSlabsInUse) {
  std::vector<void *> blocks = Take(heap_, kBig, 4);
  Put(heap_, blocks[0]);
  hak_heap_release_empty(heap_);
  EXPECT_EQ(hak_pool_totals().slabs_used, 2u);
  for (size_t i = 1; i < 4; i++) Put(heap_, blocks[i]);
}

TEST_F(Heap, FreshMeansOneUnusedZeroBlock) {
  hak_pool_trim(0);
  void *block;
  bool fresh = false;
  ASSERT_EQ(hak_heap_take(heap_, kBig, &block, 1, &fresh), 1u);
  // Where blocks that were never handed out hold poison, none counts as zero.
  EXPECT_EQ(fresh, !HAK_POISON_ON);
  EXPECT_TRUE(hak_unit::IsZero(block, Writable(kBig)));
  memset(block, 1, Writable(kBig));
  void *other;
  ASSERT_EQ(hak_heap_take(heap_, kBig, &other, 1, &fresh), 1u);
  Put(heap_, block);
  void *again;
  ASSERT_EQ(hak_heap_take(heap_, kBig, &again, 1, &fresh), 1u);
  EXPECT_EQ(again, block);
  EXPECT_FALSE(fresh) << "it was used";
  void *small[8];
  fresh = true;
  ASSERT_EQ(hak_heap_take(heap_, kClass, small, 8, &fresh), 8u);
  EXPECT_FALSE(fresh);
  for (void *b : small) Put(heap_, b);
  Put(heap_, again);
  Put(heap_, other);
}

TEST_F(Heap, BlocksFrom4KiBOnAreCarvedOneAtATime) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    const bool singly = hak_class_stride(class_id) >= 4096;
    void *blocks[2];
    const uint32_t got = hak_heap_take(heap_, class_id, blocks, 2, nullptr);
    EXPECT_EQ(got, singly ? 1u : 2u) << hak_class_stride(class_id);
    for (uint32_t i = 0; i < got; i++) Put(heap_, blocks[i]);
  }
}

// A slab whose memory another class used is not called zero.
TEST_F(Heap, DirtySlabsAreNotFresh) {
  hak_pool_trim(0);
  std::vector<void *> blocks = Take(heap_, kClass, 512);
  for (void *block : blocks) memset(block, 0xFF, Writable(kClass));
  for (void *block : blocks) Put(heap_, block);
  hak_heap_release_empty(heap_);
  void *block;
  bool fresh = true;
  ASSERT_EQ(hak_heap_take(heap_, kBig, &block, 1, &fresh), 1u);
  EXPECT_FALSE(fresh && !hak_unit::IsZero(block, Writable(kBig)));
  EXPECT_FALSE(fresh) << "the warm slab comes first";
  Put(heap_, block);
}

TEST_F(Heap, MisusedBlocksEndTheProcess) {
  std::vector<void *> blocks = Take(heap_, kClass, 4);
  char *block = static_cast<char *>(blocks[0]);
  hak_slab *slab = hak_slab_of(block);
  HAK_EXPECT_FATAL(
      {
        Put(heap_, block);
        Put(heap_, block);
      },
      "double free", block);
  HAK_EXPECT_FATAL(Put(heap_, block + 16), "invalid free", block + 16);
  void *uncarved = hak_slab_block(slab, 0);
  ASSERT_FALSE(hak_slab_was_carved(slab, 0));
  HAK_EXPECT_FATAL(Put(heap_, uncarved), "invalid free", uncarved);
  for (void *b : blocks) Put(heap_, b);
}

TEST_F(Heap, SlabsOfEndedThreadsAreAdopted) {
  hak_heap *other = hak_heap_open();
  ASSERT_NE(other, nullptr);
  ASSERT_NE(other, heap_);
  EXPECT_EQ(hak_heap_totals().threads, 2u);
  std::vector<void *> blocks = Take(other, kClass, 600);
  for (void *block : blocks) memset(block, 0x42, Writable(kClass));
  hak_heap_close(other);
  EXPECT_EQ(hak_heap_totals().threads, 1u);
  for (void *block : blocks) ASSERT_EQ(Owner(block), &hak_orphanage);
  EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
  const uint64_t adopted = hak_heap_totals().adopted;
  const uint64_t used = hak_pool_totals().slabs_used;
  std::vector<void *> mine = Take(heap_, kClass, 1);
  EXPECT_EQ(hak_heap_totals().adopted, adopted + 1);
  EXPECT_EQ(hak_pool_totals().slabs_used, used) << "adopted rather than taken from the pool";
  EXPECT_EQ(Owner(mine[0]), heap_);
  EXPECT_EQ(hak_heap_check(heap_), nullptr);
  EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
  for (void *block : blocks) {
    ASSERT_TRUE(static_cast<unsigned char *>(block)[7] == 0x42);
  }
  // Blocks of the adopted slab are now this heap's; the others are still the orphanage's.
  hak_give_back(heap_, blocks.data(), static_cast<uint32_t>(blocks.size()));
  Put(heap_, mine[0]);
  EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
  EXPECT_EQ(hak_pool_totals().slabs_used, 1u);
}

TEST_F(Heap, AClosedRecordIsOpenedAgain) {
  hak_heap *other = hak_heap_open();
  hak_heap_close(other);
  hak_heap *again = hak_heap_open();
  EXPECT_EQ(again, other);
  EXPECT_EQ(again->upkeep.cache_bytes, 0u);
  EXPECT_EQ(hak_heap_check(again), nullptr);
  EXPECT_EQ(Take(again, kClass, 3).size(), 3u);
  hak_heap_close(again);
  // Its three blocks are live, and no thread will free them.
  std::vector<void *> lost;
  hak_pool_visit(
      [](hak_slab *slab, void *context) {
        if (slab->class_id == kClass) {
          for (uint32_t i = 0; i < slab->capacity; i++) {
            if (hak_slab_was_carved(slab, i) && !hak_slab_bit(slab, i)) {
              static_cast<std::vector<void *> *>(context)->push_back(hak_slab_block(slab, i));
            }
          }
        }
        return true;
      },
      &lost);
  ASSERT_EQ(lost.size(), 3u);
  hak_give_back(nullptr, lost.data(), 3);
  EXPECT_EQ(hak_pool_totals().slabs_used, 0u);
}

bool MarksTell() {
  hak_thread_mark mark = {};
  bool is_set = false;
  std::thread([&] { is_set = hak_thread_mark_set(&mark); }).join();
  return is_set && hak_thread_mark_is_left(&mark);
}

// Threads that ended without closing their heaps: all of these are closed at once, and no heap of a living thread.
TEST_F(Heap, TheHeapsOfLostThreadsAreClosedTogether) {
  if (!MarksTell()) GTEST_SKIP() << "an emulator or ThreadSanitizer, where there are no marks";
  hak_heap *living = hak_heap_open();
  ASSERT_TRUE(hak_thread_mark_set(&living->mark));
  for (int i = 0; i < 5; i++) {
    std::thread([] {
      hak_heap *heap = hak_heap_open();
      // Last, because a heap that is opened closes some of those that are lost.
      if (heap == nullptr || !hak_thread_mark_set(&heap->mark)) abort();
    }).join();
  }
  EXPECT_GE(hak_heap_totals().threads, 3u);
  hak_heap_close_left();
  EXPECT_EQ(hak_heap_totals().threads, 2u);
  EXPECT_EQ(hak_heap_threads(), 2u);
  hak_heap_close_left();
  EXPECT_EQ(hak_heap_totals().threads, 2u);
  hak_thread_mark_clear(&living->mark);
  hak_heap_close(living);
}

// Each heap that is opened looks at the next ones in turn: a lost heap is found wherever it is among those of living
// threads.
TEST_F(Heap, OpeningHeapsFindsALostOneAmongLivingOnes) {
  if (!MarksTell()) GTEST_SKIP() << "an emulator or ThreadSanitizer, where there are no marks";
  std::vector<hak_heap *> living = {hak_heap_open(), hak_heap_open(), hak_heap_open()};
  std::thread([] {
    hak_heap *heap = hak_heap_open();
    if (heap == nullptr || !hak_thread_mark_set(&heap->mark)) abort();
  }).join();
  EXPECT_EQ(hak_heap_threads(), living.size() + 2);  // and heap_
  for (int i = 0; i < 8; i++) living.push_back(hak_heap_open());
  EXPECT_EQ(hak_heap_threads(), living.size() + 1);
  for (hak_heap *heap : living) hak_heap_close(heap);
}

TEST_F(Heap, RunsOutCleanlyAndRecovers) {
  std::vector<void *> blocks;
  {
    const FaultPlan plan(HAK_FAULT_MAP);
    blocks = Take(heap_, kBig, 10000);
    EXPECT_LT(blocks.size(), 10000u);
    void *block;
    EXPECT_EQ(hak_heap_take(heap_, kBig, &block, 1, nullptr), 0u);
    EXPECT_EQ(hak_heap_check(heap_), nullptr);
    // New heaps cannot be allocated either, once the records are used up.
    std::vector<hak_heap *> heaps;
    while (heaps.size() < 1000) {
      hak_heap *heap = hak_heap_open();
      if (heap == nullptr) break;
      heaps.push_back(heap);
    }
    EXPECT_LT(heaps.size(), 1000u);
    EXPECT_EQ(hak_heap_totals().threads, heaps.size() + 1);
    for (hak_heap *heap : heaps) hak_heap_close(heap);
  }
  const std::vector<void *> more = Take(heap_, kBig, 70);
  EXPECT_EQ(more.size(), 70u);
  for (void *block : more) Put(heap_, block);
  for (void *block : blocks) Put(heap_, block);
}

TEST_F(Heap, ManyShortThreadsLeaveNoGrowth) {
  const auto life = [](int seed) {
    hak_heap *heap = hak_heap_open();
    Random random(static_cast<uint64_t>(seed));
    std::vector<void *> mine;
    for (int i = 0; i < 100; i++) {
      bool fresh;
      const uint32_t class_id = 1 + random.Below(20);
      void *block = Pop(heap, class_id);
      if (block == nullptr) block = hak_thread_cache_miss(heap, class_id, &fresh);
      if (block == nullptr) abort();
      memset(block, 1, std::min(Writable(class_id), size_t{8}));
      mine.push_back(block);
    }
    for (void *block : mine) hak_give_back(heap, &block, 1);
    hak_heap_close(heap);
  };
  std::thread(life, 0).join();
  const uint64_t superslabs = hak_pool_totals().superslabs;
  const uint64_t records = hak_meta_mapped();
  for (int i = 1; i < hak_unit::Operations(300); i++) std::thread(life, i).join();
  EXPECT_EQ(hak_pool_totals().superslabs, superslabs);
  EXPECT_EQ(hak_meta_mapped(), records);
  EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
}

// While a heap is visited, for however long, threads start and end, other threads visit other heaps, and statistics are
// read.
TEST_F(Heap, NobodyWaitsForAVisit) {
  hak_heap *other = hak_heap_open();
  int visits = 0;
  for (uint32_t i = 0; i < hak_heap_threads(); i++) {
    hak_heap_visit_next(
        [](hak_heap *heap, void *count) {
          // In another thread, because this thread holds a lock. An open heap is skipped, not waited for, while it is
          // visited.
          std::thread([heap, count] {
            for (uint32_t more = 2 * hak_heap_threads(); more > 0; more--) {
              hak_heap_visit_next([](hak_heap *seen, void *taken) { EXPECT_NE(seen, taken); }, heap);
            }
            hak_heap *born = hak_heap_open();
            EXPECT_NE(born, nullptr);
            EXPECT_EQ(hak_heap_totals().threads, 3u);
            hak_heap_close(born);
            ++*static_cast<int *>(count);
          }).join();
        },
        &visits);
  }
  EXPECT_EQ(visits, 2);
  hak_heap_close(other);
}

TEST_F(Heap, TheChildOfAForkKeepsItsOwnHeap) {
  hak_heap *other = hak_heap_open();
  std::vector<void *> theirs = Take(other, kClass, 5);
  std::vector<void *> mine = Take(heap_, kClass, 5);
  hak_heap_lock_all();
  hak_pool_lock();
  hak_meta_lock();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) hak_heap_abandon_others(heap_);
  hak_meta_unlock();
  hak_pool_unlock();
  hak_heap_unlock_all();
  if (child == 0) {
    bool good = hak_heap_totals().threads == 1;
    good = good && Take(heap_, kClass, 600).size() == 600;
    hak_give_back(heap_, mine.data(), 5);
    hak_give_back(heap_, theirs.data(), 5);  // collects the chain of the slab
    good = good && hak_heap_check(heap_) == nullptr && hak_pool_totals().remote_blocks == 5;
    // The other heap is not touched until it is closed: its blocks are collected, and its record is used again.
    int visits = 0;
    for (int i = 0; i < 3; i++) hak_heap_visit_next([](hak_heap *, void *n) { ++*static_cast<int *>(n); }, &visits);
    good = good && visits == 3 && hak_pool_totals().remote_blocks == 5;
    good = good && hak_heap_close_abandoned() && !hak_heap_close_abandoned();
    good = good && hak_pool_totals().remote_blocks == 0 && hak_heap_check(&hak_orphanage) == nullptr;
    good = good && hak_heap_totals().threads == 1;
    good = good && hak_heap_open() == other;
    _exit(good ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (void *block : mine) Put(heap_, block);
  for (void *block : theirs) Put(other, block);
  hak_heap_close(other);
}

}  // namespace
