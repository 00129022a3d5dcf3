// SPDX-License-Identifier: Apache-2.0
//
// Threads fall idle with much memory in their caches and slabs. Calls of other threads return it, and the threads work
// normally afterwards.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdio.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "allocator/test/idle_worker.h"
#include "allocator/test/probe.h"

namespace hak_test {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;

// Allocates, checks and frees. True: no contents were damaged.
bool GoesOn(uint64_t seed) {
  Random random(TestSeed(seed));
  std::vector<Stamped> blocks(300);
  bool good = true;
  for (int op = 0; op < 6000; ++op) {
    Stamped &block = blocks[random.Index(blocks.size())];
    good = block.Free() && good;
    good = block.New(1 + random.Index(random.OneIn(60) ? 100000 : 1200), random.Next()) && good;
  }
  for (Stamped &block : blocks) good = block.Free() && good;
  return good && hak_heap_verify();
}

void ExpectGoesOn(std::vector<Worker> *workers) {
  uint64_t seed = 0;
  for (Worker &worker : *workers) {
    bool good = false;
    worker.Do([&] { good = GoesOn(++seed); });
    EXPECT_TRUE(good);
  }
  EXPECT_TRUE(hak_heap_verify());
}

class IdleThreads : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasBarrier()) GTEST_SKIP() << "this kernel has no membarrier";
    hak_trim(0);
    before_ = Stats();
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_TRUE(hak_heap_verify());
    EXPECT_EQ(Stats().live_blocks, before_.live_blocks);
    EXPECT_EQ(Stats().live_bytes, before_.live_bytes);
  }
  hak_stats before_ = {};
};

constexpr size_t kWorkers = 4;

// One block of each size class that a thread has used stays in its cache. A request may have got a block of the next
// class.
constexpr uint64_t kLeft = kWorkers * 2 * std::size(kCachedSizes);

TEST_F(IdleThreads, TrimTakesWhatTheyCache) {
  std::vector<Worker> workers(kWorkers);
  for (Worker &worker : workers) worker.Do(FillCaches);
  const hak_stats full = Stats();
  ASSERT_GT(full.cached_blocks, before_.cached_blocks + 2000);
  hak_trim(0);
  const hak_stats trimmed = Stats();
  EXPECT_LE(trimmed.cached_blocks, kLeft);
  EXPECT_GE(trimmed.idle_blocks_taken - full.idle_blocks_taken, full.cached_blocks - before_.cached_blocks - kLeft);
  EXPECT_LT(trimmed.cached_bytes, full.cached_bytes / 4);
  EXPECT_LT(trimmed.committed_bytes, full.committed_bytes);
  EXPECT_EQ(trimmed.live_blocks, before_.live_blocks);
  hak_trim(0);
  EXPECT_EQ(Stats().idle_blocks_taken, trimmed.idle_blocks_taken) << "there is nothing left to take";
  ExpectGoesOn(&workers);
}

// Without a trim they do so while the caches of all idle threads together hold more than 4 MiB.
TEST_F(IdleThreads, SlowCallsOfOthersTakeItToo) {
  std::vector<Worker> workers(5 * kWorkers);
  // In a slow build, and on a busy machine, the first threads would be idle for long enough before the last ones are
  // ready. FAST has no such setting, so there the last ones may have begun to take it.
  const bool has_settings = hak_config_set("HAKMEM_IDLE_CACHE_MS", "3600000") == 0;
  for (Worker &worker : workers) worker.Do(FillCaches);
  const hak_stats full = Stats();
  hak_config_set("HAKMEM_IDLE_CACHE_MS", "100");
  // In HARDENED this thread's own quarantine counts as cached too.
  const uint64_t kMayStay = (IsHardenedBuild() ? 8 : 5) * kMib;
  if (has_settings) {
    ASSERT_GT(full.cached_bytes, before_.cached_bytes + kMayStay + 3 * kMib);
  }
  Random random(TestSeed(1));
  EXPECT_TRUE(WaitUntil([&] {
    SlowCalls(&random);
    return Stats().cached_bytes <= before_.cached_bytes + kMayStay;
  })) << Stats().cached_bytes
      << " of " << full.cached_bytes;
  EXPECT_GT(Stats().idle_blocks_taken, (has_settings ? full : before_).idle_blocks_taken);
  ExpectGoesOn(&workers);
}

TEST_F(IdleThreads, AFewKeepTheirs) {
  if (IsHardenedBuild()) GTEST_SKIP() << "quarantines are emptied too, which takes no barrier";
  std::vector<Worker> workers(2);
  for (Worker &worker : workers) worker.Do(FillCaches);
  const hak_stats full = Stats();
  ASSERT_GT(full.cached_blocks, before_.cached_blocks + 1000);
  Random random(TestSeed(1));
  EXPECT_FALSE(WaitUntil(
      [&] {
        SlowCalls(&random);
        return Stats().idle_blocks_taken > full.idle_blocks_taken;
      },
      1));
  hak_trim(0);
  EXPECT_GT(Stats().idle_blocks_taken, full.idle_blocks_taken);
  ExpectGoesOn(&workers);
}

// The memory of an idle thread's slabs, after another thread has freed all their blocks.
class RemoteFrees : public IdleThreads {
 protected:
  static constexpr uint64_t kBytes = 32 * kMib;

  void Allocate(Worker *worker) {
    worker->Do([this] {
      Random random(TestSeed(3));
      for (uint64_t bytes = 0; bytes < kBytes; bytes += blocks_.back().size) {
        blocks_.emplace_back();
        ASSERT_TRUE(blocks_.back().New(16 + random.Index(800), bytes));
      }
    });
    std::shuffle(blocks_.begin(), blocks_.end(), std::minstd_rand(7));
  }
  void Free() {
    size_t damaged = 0;
    for (Stamped &block : blocks_) damaged += !block.Free();
    EXPECT_EQ(damaged, 0U);
    blocks_.clear();
  }
  std::vector<Stamped> blocks_;
};

TEST_F(RemoteFrees, AreTakenInByTrim) {
  std::vector<Worker> workers(1);
  Allocate(&workers[0]);
  const hak_stats full = Stats();
  const uint64_t resident = ResidentBytes();
  ASSERT_GE(full.committed_bytes, before_.committed_bytes + kBytes);
  Free();
  hak_trim(0);
  const hak_stats trimmed = Stats();
  EXPECT_LE(trimmed.committed_bytes, before_.committed_bytes + kBytes / 10);
  EXPECT_LT(trimmed.mapped_bytes, full.mapped_bytes);  // The remaining blocks keep some superslabs mapped.
  // Sanitizers keep records of their own.
  if (!kSlowBuild && resident != 0) {
    EXPECT_LE(ResidentBytes(), resident - kBytes / 2);
  }
  ExpectGoesOn(&workers);
}

// A busy thread keeps the last free slab of a class; an idle one does not.
TEST_F(RemoteFrees, OfAClassesOnlyBlockGiveItsSlabBack) {
  std::vector<Worker> workers(1);
  Stamped block;
  // So large that a refill takes only one block.
  workers[0].Do([&] { ASSERT_TRUE(block.New(30000, 1)); });
  const uint64_t used = Stats().slabs_used;
  EXPECT_TRUE(block.Free());
  hak_trim(0);
  EXPECT_LT(Stats().slabs_used, used);
  ExpectGoesOn(&workers);
}

TEST_F(RemoteFrees, AreTakenInOnTheWayOfSlowCalls) {
  if (IsHardenedBuild()) GTEST_SKIP() << "the busy thread's own quarantine holds blocks of many slabs";
  std::vector<Worker> workers(1);
  Allocate(&workers[0]);
  Free();
  Random random(TestSeed(2));
  EXPECT_TRUE(WaitUntil([&] {
    SlowCalls(&random);
    return Stats().committed_bytes <= before_.committed_bytes + kBytes / 4;
  })) << Stats().committed_bytes / kMib
      << " MiB still committed";
  ExpectGoesOn(&workers);
}

// However many wait: a call that does it for another thread takes a slice of them.
TEST_F(RemoteFrees, AreTakenInBySlices) {
  if (IsHardenedBuild()) GTEST_SKIP() << "the busy thread's own quarantine holds blocks of many slabs";
  std::vector<Worker> workers(1);
  Allocate(&workers[0]);
  // Nobody is idle until all are freed, and nobody is watched: a watched call may do many steps. FAST has no settings,
  // so there slices may be taken in before all are freed.
  hak_config_set("HAKMEM_IDLE_WATCH", "0");
  const bool has_settings = hak_config_set("HAKMEM_IDLE_CACHE_MS", "3600000") == 0;
  Free();
  hak_thread_flush();
  const uint64_t all = Stats().slabs_used;
  constexpr uint64_t kFilled = kBytes / 65536;
  if (has_settings) {
    ASSERT_GT(all, kFilled);
  }
  hak_config_set("HAKMEM_IDLE_CACHE_MS", "10");
  Random random(TestSeed(2));
  uint64_t before = all;
  uint64_t most = 0;
  EXPECT_TRUE(WaitUntil([&] {
    SlowCalls(&random);
    const uint64_t now = Stats().slabs_used;
    most = std::max(most, before - std::min(now, before));
    before = now;
    return now < kFilled / 4;
  })) << before
      << " of " << all << " slabs are still in use";
  printf("%llu slabs waited; at most %llu went at once\n", static_cast<unsigned long long>(all),
         static_cast<unsigned long long>(most));
  if (has_settings) {
    EXPECT_LT(most, all / 2);
  }
  hak_config_set("HAKMEM_IDLE_CACHE_MS", "100");
  hak_config_set("HAKMEM_IDLE_WATCH", "1");
  ExpectGoesOn(&workers);
}

// Only small blocks, all of which stay live: a visit must not touch their pages.
TEST_F(IdleThreads, LiveBlocksStayAsTheyAre) {
  std::vector<Worker> workers(kWorkers);
  std::vector<std::vector<Stamped>> held(kWorkers);
  uint64_t id = 0;
  for (size_t w = 0; w < kWorkers; ++w) {
    workers[w].Do([&] {
      for (size_t i = 0; i < 4000; ++i) {
        Stamped block;
        ASSERT_TRUE(block.New(1 + i % 900, ++id));
        if (i % 3 == 0) {
          held[w].push_back(block);
        } else {
          block.Free();
        }
      }
    });
  }
  for (int i = 0; i < 5; ++i) hak_trim(0);
  size_t damaged = 0;
  for (size_t w = 0; w < kWorkers; ++w) {
    for (Stamped &block : held[w]) damaged += !block.IsIntact();
    workers[w].Do([&] {
      for (Stamped &block : held[w]) damaged += !block.Free();
    });
  }
  EXPECT_EQ(damaged, 0U);
  ExpectGoesOn(&workers);
}

// ---- Torture ------------------------------------------------------------------------------------

// Threads that are busy and idle in turn exchange blocks, while one thread trims all the time.
TEST_F(IdleThreads, BurstsAndPausesWhileOneTrims) {
  constexpr size_t kThreads = 4;
  constexpr size_t kExchange = 64;
  std::mutex mutex;
  std::vector<Stamped> exchange(kExchange);
  std::atomic<bool> stop{false};
  std::atomic<size_t> damaged{0};
  std::atomic<size_t> failed{0};
  std::vector<std::thread> threads;
  const uint64_t steps = Scaled(1500);
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(TestSeed(t + 1));
      std::vector<Stamped> mine(400);
      const auto renew = [&](Stamped *block, size_t most) {
        if (!block->Free()) ++damaged;
        if (!block->New(1 + random.Index(most), random.Next())) ++failed;
      };
      for (uint64_t step = 0; step < steps; ++step) {
        const size_t most = random.OneIn(30) ? 20000 : 1 + random.Index(600);
        const size_t many = 1 + random.Index(mine.size());
        switch (random.Below(6)) {
          case 0:
          case 1:
            for (size_t i = 0; i < many; ++i) renew(&mine[random.Index(mine.size())], most);
            break;
          case 2:
            for (size_t i = 0; i < many; ++i) damaged += !mine[i].Free();
            break;
          case 3: {
            const std::lock_guard<std::mutex> lock(mutex);
            for (size_t i = 0; i < 20; ++i) {
              std::swap(mine[random.Index(mine.size())], exchange[random.Index(kExchange)]);
            }
            break;
          }
          case 4:  // uses the same slots of the cache
            for (int i = 0; i < 300; ++i) renew(&mine[random.Index(4)], 100);
            break;
          default:
            random.OneIn(10) ? SleepMs(1 + static_cast<long>(random.Below(5))) : std::this_thread::yield();
        }
      }
      for (Stamped &block : mine) damaged += !block.Free();
    });
  }
  std::thread trimmer([&] {
    while (!stop) hak_trim(0);
  });
  for (std::thread &thread : threads) thread.join();
  stop = true;
  trimmer.join();
  for (Stamped &block : exchange) damaged += !block.Free();
  EXPECT_EQ(damaged, 0U);
  EXPECT_EQ(failed, 0U);
  EXPECT_GT(Stats().idle_blocks_taken, before_.idle_blocks_taken);
}

// Threads that have their peak one after the other, and keep every eighth block. Each fills the room that those before
// it left in their slabs.
TEST(SharedSlabs, ThePeakOfOneThreadServesTheNext) {
  constexpr size_t kSize = 64;
  constexpr size_t kPeak = 8 * kMib / kSize;
  hak_trim(0);
  const uint64_t before = Stats().slabs_used;
  // FAST has no such setting.
  const bool soon = hak_config_set("HAKMEM_IDLE_CACHE_MS", "10") == 0;
  std::vector<Worker> workers(5);
  std::vector<void *> live;
  uint64_t first = 0;
  for (Worker &worker : workers) {
    worker.Do([&] {
      std::vector<void *> blocks(kPeak);
      for (void *&p : blocks) ASSERT_NE(p = hak_malloc(kSize), nullptr);
      std::shuffle(blocks.begin(), blocks.end(), std::minstd_rand(7));
      for (size_t i = 0; i < blocks.size(); ++i) {
        if (i % 8 == 0) {
          live.push_back(blocks[i]);
        } else {
          hak_free(blocks[i]);
        }
      }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(soon ? 50 : 1200));
    if (first == 0) first = Stats().slabs_used - before;
  }
  const uint64_t all = Stats().slabs_used - before;
  printf("slabs after the first peak %llu, after five %llu\n", static_cast<unsigned long long>(first),
         static_cast<unsigned long long>(all));
  // The live blocks of all five take five eighths of the first peak.
  EXPECT_LT(all, first * 5 / 2);
  EXPECT_TRUE(hak_heap_verify());
  // Blocks are freed by their threads and by others.
  workers[1].Do([&] {
    for (void *p : live) hak_free(p);
  });
  EXPECT_TRUE(hak_heap_verify());
  hak_config_set("HAKMEM_IDLE_CACHE_MS", "100");
}

}  // namespace
}  // namespace hak_test
