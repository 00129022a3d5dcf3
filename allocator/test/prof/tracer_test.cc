// SPDX-License-Identifier: Apache-2.0
//
// A tracer comes and goes: when sampling begins and ends, in which threads, and what the probes tell of the program's
// calls.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <string.h>

#include <atomic>
#include <cmath>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "allocator/prof/test_tracer.h"
#include "allocator/test/test_random.h"

namespace {

using hak_unit::FindProbe;
using hak_unit::Passed;
using hak_unit::RaisedSemaphore;
using hak_unit::Tracer;

// A tracer sees what happens once a slow path has looked: after so many of a thread's slow calls.
constexpr uint64_t kSlowCalls = 32;
// And once a watched thread has made so many calls.
constexpr int kCalls = 2 * 1001;

struct Search {
  const void *address;
  int times = 0;
};
int Compare(const hak_prof_sample *sample, void *argument) {
  Search *search = static_cast<Search *>(argument);
  search->times += sample->address == search->address;
  return 0;
}
bool IsSampled(const void *block) {
  Search search = {block};
  EXPECT_EQ(hak_prof_visit_live(Compare, &search), 0);
  return search.times == 1;
}

bool NextIsSampled() {
  void *const block = hak_malloc(100);
  const bool is = IsSampled(block);
  hak_free(block);
  return is;
}

uint64_t Refills() {
  hak_stats stats;
  stats.version = HAK_STATS_VERSION;
  hak_stats_get(&stats);
  return stats.refills;
}

// Each test begins and ends without sampling.
class ATracer : public testing::Test {
 protected:
  ATracer() {
    SetMean("0");
    // A thread that is watched because memory is due looks too, and more often.
    EXPECT_EQ(hak_config_set("HAKMEM_IDLE_WATCH", "0"), 0);
    hak_free(hak_malloc(100));  // The thread has a heap.
    EXPECT_FALSE(NextIsSampled());
  }
  ~ATracer() override {
    EXPECT_EQ(hak_prof_stop(), 0);
    for (int i = 0; i < kCalls; i++) hak_free(hak_malloc(100));
    EXPECT_FALSE(NextIsSampled());
    EXPECT_TRUE(hak_heap_verify());
  }
  static void SetMean(const char *kb) { EXPECT_EQ(hak_config_set("HAKMEM_PROF_SAMPLE_KB", kb), 0); }
  // Sampling begins.
  static void BeSeen() {
    hak_free(hak_malloc(8u << 20));
    ASSERT_TRUE(NextIsSampled());
  }
};

TEST_F(ATracer, IsSeenAfterSomeSlowCalls) {
  const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
  std::vector<void *> blocks;
  const uint64_t before = Refills();
  bool seen = false;
  while (!seen && Refills() - before <= kSlowCalls) {
    blocks.push_back(hak_malloc(1000));
    seen = IsSampled(blocks.back());
  }
  EXPECT_TRUE(seen);
  for (void *block : blocks) hak_free(block);
}

TEST_F(ATracer, IsSeenWhenALargeBlockIsFreed) {
  void *const block = hak_malloc(8u << 20);
  const RaisedSemaphore semaphore(FindProbe("free").semaphore);
  EXPECT_FALSE(NextIsSampled());
  hak_free(block);
  EXPECT_TRUE(NextIsSampled());
}

TEST_F(ATracer, IsSeenWhenAThreadBegins) {
  const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
  bool first = false;
  std::thread([&] {
    hak_free(hak_malloc(100));
    first = NextIsSampled();
  }).join();
  EXPECT_TRUE(first);
}

// A loop that its cache serves would never look by itself.
TEST_F(ATracer, IsSeenInAllThreads) {
  std::atomic<int> phase{0};
  std::atomic<bool> seen{false};
  std::thread worker([&] {
    hak_free(hak_malloc(100));
    phase = 1;  // It runs, and its cache has a block.
    while (phase.load() == 1) sched_yield();
    for (int i = 0; i < 1000 && !seen.load(); i++) seen = NextIsSampled();
  });
  while (phase.load() != 1) sched_yield();
  const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
  BeSeen();
  phase = 2;
  worker.join();
  EXPECT_TRUE(seen.load());
}

TEST_F(ATracer, GoesAndSamplingEnds) {
  std::vector<void *> blocks;
  {
    const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
    BeSeen();
    for (int i = 0; i < 10; i++) blocks.push_back(hak_malloc(300));
  }
  for (int i = 0; i < kCalls; i++) hak_free(hak_malloc(100));
  EXPECT_FALSE(NextIsSampled());
  // What it has seen begin it sees end, if it is there again.
  Tracer tracer;
  for (void *block : blocks) {
    EXPECT_TRUE(IsSampled(block));
    hak_free(block);
    const std::vector<Passed> passed = tracer.Take();
    ASSERT_EQ(passed.size(), 1u);
    EXPECT_FALSE(passed[0].is_alloc);
    EXPECT_EQ(passed[0].argument[0], reinterpret_cast<uintptr_t>(block));
  }
}

// Then no block is sampled whose free would look.
TEST_F(ATracer, GoesWhileCachesServeAllCalls) {
  {
    const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
    BeSeen();
    SetMean("1048576");
  }
  for (int i = 0; i < kCalls; i++) hak_free(hak_malloc(100));
  SetMean("0");
  EXPECT_FALSE(NextIsSampled());
}

TEST_F(ATracer, GoesAndTheSettingStays) {
  EXPECT_EQ(hak_prof_start(), 0);
  {
    const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
    BeSeen();
  }
  for (int i = 0; i < kCalls; i++) hak_free(hak_malloc(100));
  EXPECT_TRUE(NextIsSampled());
}

// ---- What it is told ----------------------------------------------------------------------------

void ExpectAlloc(const Passed &passed, const void *block, size_t size) {
  EXPECT_TRUE(passed.is_alloc);
  EXPECT_EQ(passed.argument[0], reinterpret_cast<uintptr_t>(block));
  EXPECT_EQ(passed.argument[1], size);
  EXPECT_EQ(passed.argument[2], size) << "each block is sampled, and stands for itself";
}
void ExpectFree(const Passed &passed, uintptr_t block) {
  EXPECT_FALSE(passed.is_alloc);
  EXPECT_EQ(passed.argument[0], block);
}

TEST_F(ATracer, SeesEveryKindOfCall) {
  const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
  BeSeen();
  Tracer tracer;
  for (const size_t size : {1u, 100u, 5000u, 30000u, 300000u, 3u << 20}) {
    void *const blocks[] = {hak_malloc(size), hak_calloc(1, size), hak_aligned_alloc(256, size)};
    std::vector<Passed> passed = tracer.Take();
    ASSERT_EQ(passed.size(), 3u) << size;
    for (size_t i = 0; i < 3; i++) ExpectAlloc(passed[i], blocks[i], size);
    for (void *block : blocks) hak_free(block);
    passed = tracer.Take();
    ASSERT_EQ(passed.size(), 3u) << size;
    for (size_t i = 0; i < 3; i++) ExpectFree(passed[i], reinterpret_cast<uintptr_t>(blocks[i]));
  }
}

TEST_F(ATracer, SeesAReallocAsBoth) {
  const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
  BeSeen();
  Tracer tracer;
  for (const size_t from : {100u, 30000u, 300000u, 3u << 20}) {
    void *const block = hak_malloc(from);
    tracer.Take();
    const uintptr_t old = reinterpret_cast<uintptr_t>(block);
    void *const moved = hak_realloc(block, 2 * from);
    const std::vector<Passed> passed = tracer.Take();
    if (passed.empty()) {
      EXPECT_LT(2 * from, 32768u) << "only a small block stays as it is";
      EXPECT_EQ(reinterpret_cast<uintptr_t>(moved), old);
      hak_free(moved);
      continue;
    }
    ASSERT_EQ(passed.size(), 2u) << from;
    // A block that is copied is there twice for a moment.
    const size_t alloc = passed[0].is_alloc ? 0 : 1;
    ExpectAlloc(passed[alloc], moved, 2 * from);
    ExpectFree(passed[1 - alloc], old);
    if (reinterpret_cast<uintptr_t>(moved) == old) {
      EXPECT_EQ(alloc, 1u) << "or the free would end the new block";
    }
    hak_free(moved);
  }
}

// The bound is seven standard deviations: missed by chance once in 10^11 runs.
TEST_F(ATracer, SeesWeightsThatAddUp) {
  SetMean("16");
  constexpr double kMean = 16 * 1024;
  const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
  hak_free(hak_malloc(8u << 20));
  Tracer tracer;
  std::mt19937_64 random(hak_test::TestSeed(1));
  double bytes = 0;
  double variance = 0;
  for (int i = 0; i < 60000; i++) {
    // Sizes of every order up to 128 KiB; more would sample all.
    const size_t size = 1 + random() % (size_t{1} << random() % 18);
    hak_free(hak_malloc(size));
    const double s = static_cast<double>(size);
    const double chance = -std::expm1(-s / kMean);
    bytes += s;
    variance += s * s * (1 - chance) / chance;
  }
  double sum = 0;
  int allocs = 0;
  int frees = 0;
  for (const Passed &passed : tracer.Take()) {
    allocs += passed.is_alloc;
    frees += !passed.is_alloc;
    if (passed.is_alloc) sum += static_cast<double>(passed.argument[2]);
  }
  EXPECT_GT(allocs, 1000);
  EXPECT_EQ(frees, allocs);
  EXPECT_NEAR(sum, bytes, 7 * std::sqrt(variance) + allocs);
}

}  // namespace
