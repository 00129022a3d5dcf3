// SPDX-License-Identifier: Apache-2.0
//
// HAKMEM_TOTAL_THREAD_CACHE_KB, seen from outside: what many threads together have cached, by hak_stats_get.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "allocator/test/idle_worker.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr const char *kName = "HAKMEM_TOTAL_THREAD_CACHE_KB";
constexpr uint64_t kKib = 1024;
constexpr size_t kThreads = 50;

// No other thread is inside the allocator.
bool HoldAtMost(uint64_t bytes) { return Stats().cached_bytes <= bytes; }

// Takes and frees blocks of many sizes, and checks their contents.
void Use(uint64_t seed) {
  Random random(seed);
  std::vector<Stamped> blocks;
  for (int turn = 0; turn < 3; turn++) {
    const size_t most = size_t{1} << (5 + random.Index(10));
    for (int i = 0; i < 150; i++) {
      blocks.emplace_back();
      ASSERT_TRUE(blocks.back().New(1 + random.Index(most), seed * 10000 + blocks.size()));
    }
    for (Stamped &block : blocks) ASSERT_TRUE(block.Free());
    blocks.clear();
  }
}

bool IsBounded() { return !IsFastBuild() && !IsHardenedBuild(); }

class TotalThreadCache : public testing::Test {
 protected:
  void SetUp() override {
    if (!IsBounded()) GTEST_SKIP() << "values are fixed, or freed blocks in the quarantine count as cached";
    // Only the bound, and no thread that empties the caches of others.
    ASSERT_EQ(hak_config_set("HAKMEM_IDLE_CACHE_MS", "0"), 0);
    for (size_t i = 0; i < kThreads; i++) workers_.push_back(std::make_unique<Worker>());
  }
  void TearDown() override {
    workers_.clear();
    if (!IsBounded()) return;
    EXPECT_EQ(hak_config_set(kName, "0"), 0);
    EXPECT_EQ(hak_config_set("HAKMEM_IDLE_CACHE_MS", "100"), 0);
    EXPECT_TRUE(hak_heap_verify());
  }
  void UseAll(uint64_t seed) {
    for (size_t i = 0; i < workers_.size(); i++) {
      workers_[i]->Do([i, seed] { Use(seed * kThreads + i); });
    }
  }
  std::vector<std::unique_ptr<Worker>> workers_;
};

TEST_F(TotalThreadCache, FiftyThreadsStayWithinTheBound) {
  UseAll(1);
  ASSERT_FALSE(HoldAtMost(4096 * kKib)) << "without a bound they would hold more: the test could not fail";
  // Lowered while they hold more: each obeys when it works again.
  for (const uint64_t kib : {uint64_t{4096}, uint64_t{1024}, uint64_t{1}}) {
    ASSERT_EQ(hak_config_set(kName, std::to_string(kib).c_str()), 0);
    EXPECT_STREQ(hak_config_get(kName, nullptr), std::to_string(kib).c_str());
    for (uint64_t round = 0; round < 3; round++) {
      UseAll(kib + round);
      ASSERT_TRUE(HoldAtMost(kib * kKib)) << kib << " KiB, round " << round;
    }
  }
  // Raised, and without a bound again: the caches grow.
  ASSERT_EQ(hak_config_set(kName, "0"), 0);
  for (uint64_t round = 0; round < 3; round++) UseAll(100 + round);
  EXPECT_FALSE(HoldAtMost(4096 * kKib));
}

// A thread that sleeps does not keep the room from those that work.
TEST_F(TotalThreadCache, IdleThreadsLeaveTheirRoomToOthers) {
  if (!HasBarrier()) GTEST_SKIP() << "no thread can empty another one's cache";
  ASSERT_EQ(hak_config_set(kName, "4096"), 0);
  for (uint64_t round = 0; round < 3; round++) UseAll(round);
  ASSERT_EQ(hak_config_set("HAKMEM_IDLE_CACHE_MS", "1"), 0);
  // The last one alone works, until it has more than the equal part that it had before.
  EXPECT_TRUE(WaitUntil(
      [this] {
        uint64_t own = 0;
        workers_.back()->Do([&own] {
          FillCaches();
          const uint64_t all = Stats().cached_blocks;
          hak_thread_flush();
          own = all - Stats().cached_blocks;
          FillCaches();
        });
        return own > 4096;
      },
      120, 1));
  EXPECT_TRUE(HoldAtMost(4096 * kKib));
}

// Nor does one of the parent from the child of a fork, where it does not exist. Whether the child's thread has a cache
// again is seen from its refills.
TEST_F(TotalThreadCache, ThreadsOfTheParentLeaveTheirRoomToTheChild) {
  ASSERT_EQ(hak_config_set(kName, "1024"), 0);
  for (uint64_t round = 0; round < 3; round++) UseAll(round);
  const pid_t child = fork();
  if (child == 0) {
    alarm(100);
    for (int round = 0; round < 100; round++) {
      const uint64_t before = Stats().refills;
      for (int turn = 0; turn < 1000; turn++) {
        void *blocks[100];
        for (void *&block : blocks) block = hak_malloc(64 + static_cast<size_t>(turn) % 16 * 16);
        for (void *block : blocks) hak_free(block);
      }
      if (Stats().refills - before < 500) _exit(hak_heap_verify() ? 0 : 2);
    }
    _exit(1);
  }
  ASSERT_GT(child, 0);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "1: the child's cache stays without room";
}

TEST(TotalThreadCacheSetting, IsReadFromTheEnvironment) {
  const char *const at_start = hak_config_get(kName, nullptr);
  ASSERT_NE(at_start, nullptr);
  if (getenv("HAK_TEST_CHILD") == nullptr) {
    EXPECT_STREQ(at_start, "0");
    if (!CanRunSelf()) return;
    const Outcome outcome =
        RunSelf({"--gtest_filter=TotalThreadCacheSetting.*"}, {std::string(kName) + "=1M", "HAK_TEST_CHILD=1"}, 300);
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    return;
  }
  EXPECT_STREQ(at_start, IsFastBuild() ? "0" : "1024");
  std::vector<std::unique_ptr<Worker>> workers;
  for (size_t i = 0; i < 8; i++) workers.push_back(std::make_unique<Worker>());
  for (uint64_t i = 0; i < workers.size(); i++) workers[i]->Do([i] { Use(i); });
  EXPECT_EQ(HoldAtMost(1024 * kKib), IsBounded());
}

}  // namespace
}  // namespace hak_test
