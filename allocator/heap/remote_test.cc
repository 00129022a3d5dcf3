// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/remote.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "allocator/block/tiny_nextptr.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/heap_life.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"

namespace {

using hak_unit::Random;

constexpr uint32_t kClass = 4;  // 64 bytes

class Remote : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    hak_nextptr_secret = hak_os_random();
  }
  Remote() {
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.thread_cache_bytes = size_t{4} << 20;
    heap_ = hak_heap_open();
  }
  ~Remote() override {
    EXPECT_EQ(hak_heap_check(heap_), nullptr);
    hak_heap_close(heap_);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
    EXPECT_STREQ(hak_pool_verify(), nullptr);
  }

  std::vector<void *> Take(uint32_t count) {
    std::vector<void *> blocks(count);
    for (uint32_t got = 0; got < count;) {
      const uint32_t more = hak_heap_take(heap_, kClass, blocks.data() + got, count - got, nullptr);
      if (more == 0) abort();
      got += more;
    }
    return blocks;
  }
  static hak_chain Chain(const std::vector<void *> &blocks) {
    hak_chain chain = {};
    chain.slab = hak_slab_of(blocks[0]);
    for (void *block : blocks) hak_chain_add(&chain, block);
    return chain;
  }
  static void Push(const std::vector<void *> &blocks) {
    const hak_chain chain = Chain(blocks);
    hak_remote_push(&chain);
  }
  // Bytes in hak_heaps_free_bytes that neither this heap nor the orphanage has.
  uint64_t Unknown() const {
    return atomic_load_explicit(&hak_heaps_free_bytes, memory_order_relaxed) - hak_heap_free_bytes(heap_) -
           hak_heap_free_bytes(&hak_orphanage);
  }
  static hak_slab *Pending(hak_heap *heap) { return atomic_load_explicit(&heap->pending, memory_order_relaxed); }
  static uint64_t RemoteWord(hak_slab *slab) { return atomic_load_explicit(&slab->remote, memory_order_relaxed); }

  hak_heap *heap_;
};

TEST_F(Remote, AChainIsTheLastAddedFirst) {
  std::vector<void *> blocks = Take(3);
  hak_slab *slab = hak_slab_of(blocks[0]);
  const hak_chain chain = Chain(blocks);
  EXPECT_EQ(chain.count, 3u);
  EXPECT_EQ(chain.first, hak_slab_block_index(slab, blocks[2]) + 1);
  EXPECT_EQ(chain.last, blocks[0]);
  EXPECT_EQ(tiny_nextptr_load(blocks[2]), hak_slab_block_index(slab, blocks[1]) + 1);
  EXPECT_EQ(tiny_nextptr_load(blocks[1]), hak_slab_block_index(slab, blocks[0]) + 1);
  hak_remote_push(&chain);
  hak_remote_drain(heap_);
}

TEST_F(Remote, PushedBlocksComeBackWhenTheOwnerDrains) {
  std::vector<void *> blocks = Take(10);
  hak_slab *slab = hak_slab_of(blocks[0]);
  Push({blocks.begin(), blocks.begin() + 4});
  EXPECT_EQ(RemoteWord(slab) >> 32, 4u);
  EXPECT_EQ(Pending(heap_), slab);
  EXPECT_EQ(hak_pool_totals().remote_blocks, 4u);
  EXPECT_EQ(hak_slab_free_count(slab), 0u) << "not before the owner looks";
  Push({blocks.begin() + 4, blocks.begin() + 5});
  EXPECT_EQ(RemoteWord(slab) >> 32, 5u);
  EXPECT_EQ(Pending(heap_), slab);
  EXPECT_EQ(slab->pending_next, HAK_PENDING_END) << "one notice is enough";
  hak_remote_drain(heap_);
  EXPECT_EQ(RemoteWord(slab), 0u);
  EXPECT_EQ(Pending(heap_), HAK_PENDING_END);
  EXPECT_EQ(hak_slab_free_count(slab), 5u);
  for (size_t i = 0; i < 10; i++) EXPECT_EQ(hak_slab_bit(slab, hak_slab_block_index(slab, blocks[i])), i < 5) << i;
  EXPECT_EQ(hak_heap_check(heap_), nullptr);
  hak_remote_drain(heap_);
  EXPECT_EQ(hak_slab_free_count(slab), 5u);
  Push({blocks.begin() + 5, blocks.end()});
  hak_remote_drain(heap_);
}

TEST_F(Remote, OneDrainTakesInAllSlabs) {
  std::vector<void *> blocks = Take(1024 * 4);
  for (void *block : blocks) Push({block});
  hak_remote_drain(heap_);
  EXPECT_EQ(hak_pool_totals().remote_blocks, 0u);
  EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
  EXPECT_EQ(hak_pool_totals().slabs_used, 1u) << "all empty slabs but the last are returned";
}

// Blocks on a chain that is detached and not put back yet are in no slab's count.
TEST_F(Remote, TheRestOfADrainIsCounted) {
  std::vector<void *> blocks = Take(1024 * 2);
  std::sort(blocks.begin(), blocks.end());
  // A whole slab of them at once: more than one drain collects.
  const auto end = std::find_if(blocks.begin(), blocks.end(),
                                [&](void *block) { return hak_slab_of(block) != hak_slab_of(blocks[0]); });
  const std::vector<void *> chain(blocks.begin(), end);
  ASSERT_GT(chain.size(), HAK_DRAIN_BLOCKS);
  Push(chain);
  for (uint64_t left = chain.size(); left > 0;) {
    const bool waits = hak_remote_drain_some(heap_);
    const struct hak_heap_totals heaps = hak_heap_totals();
    ASSERT_LT(heaps.rest_blocks, left);
    left = heaps.rest_blocks;
    EXPECT_EQ(waits, left > 0);
    EXPECT_EQ(heaps.rest_bytes, left * hak_class_usable(kClass));
    EXPECT_EQ(hak_pool_totals().remote_blocks, 0u);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, blocks.size() - chain.size() + left);
  }
  for (auto block = end; block != blocks.end(); ++block) hak_give_back(heap_, &*block, 1);
}

TEST_F(Remote, ASliceIsBounded) {
  const std::vector<void *> blocks = Take(1024 * 16);
  for (void *block : blocks) Push({block});
  for (uint64_t left = blocks.size(); left > 0;) {
    const bool waits = hak_remote_drain_slice(heap_);
    const uint64_t now = hak_pool_totals().remote_blocks + hak_heap_totals().rest_blocks;
    EXPECT_LE(left - now, HAK_DRAIN_SLICE_BLOCKS);
    EXPECT_GE(left - now, std::min<uint64_t>(left, HAK_DRAIN_BLOCKS));
    EXPECT_EQ(waits, now > 0);
    ASSERT_LT(now, left);
    left = now;
  }
}

TEST_F(Remote, BlocksOfAnOrphanedSlabAreTakenInAtOnce) {
  hak_heap *other = hak_heap_open();
  void *out[4];
  ASSERT_EQ(hak_heap_take(other, kClass, out, 4, nullptr), 4u);
  hak_slab *slab = hak_slab_of(out[0]);
  hak_heap_close(other);
  hak_heap_report(heap_);
  const uint64_t unknown = Unknown();
  for (const size_t first : {size_t{0}, size_t{2}}) {
    const hak_chain chain = Chain({out[first], out[first + 1]});
    atomic_fetch_add_explicit(&hak_heaps_free_bytes, hak_remote_push(&chain), memory_order_relaxed);
    EXPECT_EQ(Unknown(), unknown) << "all free bytes of the heaps are known, whoever freed them";
    if (first != 0) break;
    EXPECT_EQ(RemoteWord(slab), 0u);
    EXPECT_EQ(hak_slab_free_count(slab), 2u);
    EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
  }
  EXPECT_EQ(slab->class_id, HAK_CLASS_NONE) << "the empty slab returned to the pool";
}

TEST_F(Remote, WhatWaitsWhenAHeapClosesIsTakenIn) {
  hak_heap *other = hak_heap_open();
  void *out[4];
  ASSERT_EQ(hak_heap_take(other, kClass, out, 4, nullptr), 4u);
  hak_slab *slab = hak_slab_of(out[0]);
  Push({out[0], out[1]});
  hak_heap_close(other);
  EXPECT_EQ(Pending(other), HAK_PENDING_CLOSED);
  EXPECT_EQ(RemoteWord(slab), 0u);
  EXPECT_EQ(hak_slab_free_count(slab), 2u);
  hak_give_back(heap_, out + 2, 2);
}

// In all ways to chain its two frees: by one thread or two, alone or with all other blocks of the slab.
TEST_F(Remote, ABlockThatIsFreedTwiceIsNoticed) {
  std::vector<void *> b = Take(3);
  const auto fatal = [&](const std::vector<std::vector<void *>> &pushes, void *block) {
    const auto free_them = [&] {
      for (const std::vector<void *> &push : pushes) Push(push);
      hak_remote_drain(heap_);
    };
    HAK_EXPECT_FATAL(free_them(), "double free", block);
  };
  fatal({{b[0], b[0]}}, b[0]);
  fatal({{b[0]}, {b[0]}}, b[0]);
  fatal({{b[0], b[1], b[0]}}, b[0]);
  fatal({{b[0], b[1]}, {b[0]}}, b[0]);
  fatal({{b[0], b[1]}, {b[1]}}, b[1]);
  fatal({{b[0], b[1], b[2]}, {b[2], b[1], b[0]}}, b[2]);
  fatal({{b[0], b[1], b[2]}, {b[0], b[1], b[2]}}, b[2]);
  Push(b);
}

// The slab was returned to the pool between the load of its owner and the push.
TEST_F(Remote, APushIntoAFreeSlabIsNoticed) {
  hak_heap *other = hak_heap_open();
  void *block;
  ASSERT_EQ(hak_heap_take(other, kClass, &block, 1, nullptr), 1u);
  const hak_chain chain = Chain({block});
  hak_heap_close(other);
  Push({block});
  HAK_EXPECT_FATAL(hak_remote_push(&chain), "double free", block);
}

// A heap record that was opened again passes on notices for its former slabs.
TEST_F(Remote, AStaleNoticeReachesTheOwner) {
  std::vector<void *> blocks = Take(4);
  hak_slab *slab = hak_slab_of(blocks[0]);
  hak_heap *other = hak_heap_open();
  Push({blocks[0]});
  hak_heap_unlink(heap_, slab);
  atomic_store_explicit(&slab->owner, other, memory_order_release);
  hak_heap_link(other, slab);
  hak_remote_drain(heap_);
  EXPECT_EQ(Pending(other), slab);
  EXPECT_EQ(hak_slab_free_count(slab), 0u);
  hak_remote_drain(other);
  EXPECT_EQ(hak_slab_free_count(slab), 1u);
  Push({blocks[1], blocks[2], blocks[3]});
  hak_heap_close(other);
}

// The same for a notice that arrives when the heap has drained for the last time and has not closed its list yet. The
// heap waits there for the orphanage's lock, which the test holds.
TEST_F(Remote, AStaleNoticeToAClosingHeapReachesTheOwner) {
  std::vector<void *> blocks = Take(4);
  hak_slab *slab = hak_slab_of(blocks[0]);
  hak_heap *other = hak_heap_open();
  hak_lock_acquire(&hak_orphanage_lock);
  std::thread closing([&] { hak_heap_close(other); });
  // 2: a thread waits for the lock; it can only be that one.
  while (atomic_load_explicit(&hak_orphanage_lock.state, memory_order_relaxed) != 2) std::this_thread::yield();
  atomic_store_explicit(&slab->owner, other, memory_order_release);
  Push({blocks[0]});
  atomic_store_explicit(&slab->owner, heap_, memory_order_release);
  EXPECT_EQ(Pending(other), slab);
  EXPECT_EQ(Pending(heap_), HAK_PENDING_END);
  hak_lock_release(&hak_orphanage_lock);
  closing.join();
  EXPECT_EQ(Pending(heap_), slab);
  hak_remote_drain(heap_);
  EXPECT_EQ(hak_slab_free_count(slab), 1u);
  Push({blocks[1], blocks[2], blocks[3]});
  hak_remote_drain(heap_);
}

// Several threads free the blocks of one owner, which drains and takes blocks all the time.
TEST_F(Remote, ThreadsPushWhileTheOwnerDrains) {
  constexpr int kThreads = 4;
  std::mutex lock;
  std::vector<void *> handed;  // under lock
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([&, t] {
      Random random(static_cast<uint64_t>(t));
      for (;;) {
        const bool last = stop;
        std::vector<void *> mine;
        {
          const std::lock_guard<std::mutex> guard(lock);
          const size_t count = std::min<size_t>(handed.size(), 1 + random.Below(24));
          mine.assign(handed.end() - static_cast<ptrdiff_t>(count), handed.end());
          handed.resize(handed.size() - count);
        }
        if (mine.empty() && last) return;
        if (mine.empty()) std::this_thread::yield();
        std::sort(mine.begin(), mine.end());
        for (size_t i = 0; i < mine.size();) {
          size_t end = i;
          while (end < mine.size() && hak_slab_of(mine[end]) == hak_slab_of(mine[i])) end++;
          Push({mine.begin() + static_cast<ptrdiff_t>(i), mine.begin() + static_cast<ptrdiff_t>(end)});
          i = end;
        }
      }
    });
  }
  for (int round = 0; round < hak_unit::Operations(400); round++) {
    std::vector<void *> blocks = Take(100);
    for (void *block : blocks) memset(block, round, 16);
    {
      const std::lock_guard<std::mutex> guard(lock);
      handed.insert(handed.end(), blocks.begin(), blocks.end());
    }
    // Often, and without the lock: then only the chains order this after the earlier accesses to the blocks.
    for (int drain = 0; drain < 10; drain++) {
      hak_remote_drain(heap_);
      std::this_thread::yield();
    }
    const char *fault = hak_heap_check(heap_);
    ASSERT_EQ(fault, nullptr) << fault;
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();
  hak_remote_drain(heap_);
  EXPECT_EQ(hak_pool_totals().remote_blocks, 0u);
  EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
  EXPECT_EQ(Pending(heap_), HAK_PENDING_END);
}

// Two threads notify the same heap of two slabs at the same time: no notice is lost.
TEST_F(Remote, ThreadsNotifyAtTheSameTime) {
  constexpr size_t kThreads = 2;
  constexpr size_t kSlabs = 64;  // of each thread
  const std::vector<void *> blocks = Take(1024 * (kThreads * kSlabs + 1));
  // One block of each slab but the last. All others stay in use, so the heap takes exactly these again.
  std::vector<void *> freed;
  for (size_t i = 0; i < kThreads * kSlabs; i++) freed.push_back(blocks[i * 1024]);
  int lost = 0;
  for (int round = 0; round < hak_unit::Operations(50); round++) {
    std::atomic<size_t> arrived{0};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < kThreads; t++) {
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < kSlabs; i++) {
          const hak_chain chain = Chain({freed[i * kThreads + t]});
          arrived++;
          // Spins, so that both go on at once; yields in case there is only one processor.
          for (uint32_t spins = 1; arrived < kThreads * (i + 1); spins++) {
            if (spins % 65536 == 0) std::this_thread::yield();
          }
          hak_remote_push(&chain);
        }
      });
    }
    for (std::thread &thread : threads) thread.join();
    hak_remote_drain(heap_);
    for (void *block : freed) {
      if (RemoteWord(hak_slab_of(block)) == 0) continue;
      lost++;
      hak_remote_notify(hak_slab_of(block));
    }
    hak_remote_drain(heap_);
    freed = Take(static_cast<uint32_t>(freed.size()));
  }
  EXPECT_EQ(lost, 0) << "chains without a notice";
  std::set<hak_slab *> slabs;
  for (void *block : freed) slabs.insert(hak_slab_of(block));
  EXPECT_EQ(slabs.size(), freed.size());
  for (void *block : blocks) hak_give_back(heap_, &block, 1);
}

class RemoteForged : public Remote {
 protected:
  RemoteForged() {
    blocks_ = Take(8);
    slab_ = hak_slab_of(blocks_[0]);
  }
  ~RemoteForged() override { hak_give_back(heap_, blocks_.data(), 8); }
  // Frees three blocks from another thread, writes to the `at`-th one on the chain, and lets the owner drain.
  void DrainForged(size_t at, uint64_t bytes) {
    Push({blocks_[2], blocks_[1], blocks_[0]});
    memcpy(blocks_[at], &bytes, sizeof bytes);
    hak_remote_drain(heap_);
  }
  std::vector<void *> blocks_;
  hak_slab *slab_;
};

TEST_F(RemoteForged, AWildLinkEndsTheProcessNamingItsBlock) {
  for (const uint64_t bytes : {uint64_t{0x4141414141414141}, UINT64_MAX, uint64_t{1} << 63,
                               uint64_t{reinterpret_cast<uintptr_t>(blocks_[5])}}) {
    HAK_EXPECT_FATAL(DrainForged(0, bytes), "corrupted block", blocks_[0]);
    HAK_EXPECT_FATAL(DrainForged(1, bytes), "corrupted block", blocks_[1]);
  }
}

// In FAST, whose links are not encoded, this looks like the end of a shorter chain.
TEST_F(RemoteForged, AZeroedLinkEndsTheProcess) {
  HAK_EXPECT_FATAL(DrainForged(0, 0), HAK_FAST ? "double free" : "corrupted block", blocks_[0]);
}

// Outside FAST the plain index of another block is as wrong as any other value.
TEST_F(RemoteForged, AGuessedIndexEndsTheProcess) {
  const uint64_t guess = hak_slab_block_index(slab_, blocks_[1]) + 1;  // in FAST, the correct one
  if (HAK_FAST) {
    // Links are not encoded here: a link to itself is a double free.
    const uint64_t itself = hak_slab_block_index(slab_, blocks_[0]) + 1;
    HAK_EXPECT_FATAL(DrainForged(0, itself), "double free", blocks_[0]);
  } else {
    HAK_EXPECT_FATAL(DrainForged(0, guess), "corrupted block", blocks_[0]);
  }
}

// The link of the last block leads nowhere, but if it is no longer the end, the block was written to.
TEST_F(RemoteForged, AForgedEndEndsTheProcess) {
  HAK_EXPECT_FATAL(DrainForged(2, 0x4141414141414141), "corrupted block", blocks_[2]);
}

// Valid links that make the chain shorter or longer than the slab's record says: for example, an old link that was
// written back.
TEST_F(RemoteForged, AChainOfAnotherLengthEndsTheProcess) {
  const auto drain = [&](size_t at, uint32_t next) {
    Push({blocks_[2], blocks_[1], blocks_[0]});
    tiny_nextptr_store(blocks_[at], next);
    hak_remote_drain(heap_);
  };
  HAK_EXPECT_FATAL(drain(0, 0), "double free", blocks_[0]);
  HAK_EXPECT_FATAL(drain(1, 0), "double free", blocks_[1]);
  HAK_EXPECT_FATAL(drain(2, hak_slab_block_index(slab_, blocks_[5]) + 1), "double free", blocks_[2]);
}

TEST_F(RemoteForged, AForgedSlabRecordEndsTheProcess) {
  const auto drain = [&](uint64_t word) {
    Push({blocks_[0]});
    atomic_store_explicit(&slab_->remote, word, memory_order_relaxed);
    hak_remote_drain(heap_);
  };
  HAK_EXPECT_FATAL(drain(uint64_t{1} << 32 | (slab_->capacity + 1)), "corrupted block", slab_);
  HAK_EXPECT_FATAL(drain(uint64_t{1} << 32), "corrupted block", slab_);
}

TEST_F(RemoteForged, ADoubleFreeFromAfarIsFoundByTheOwner) {
  const auto twice = [&] {
    Push({blocks_[0]});
    hak_remote_drain(heap_);
    Push({blocks_[0]});
    hak_remote_drain(heap_);
  };
  HAK_EXPECT_FATAL(twice(), "double free", blocks_[0]);
  char *inside = static_cast<char *>(blocks_[0]) + 16;
  HAK_EXPECT_FATAL(Push({static_cast<void *>(inside)}), "invalid free", inside);
}

}  // namespace
