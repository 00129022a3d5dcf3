// SPDX-License-Identifier: Apache-2.0
//
// HAKMEM_SOFT_LIMIT_MB as the kernel sees it: the resident memory of a program after a peak, with the limit and without
// it, and the system calls of one whose live blocks alone exceed the limit. No request fails because of it.
//
// Each case is a program of its own, in which nothing else returns memory: the deadline is an hour.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/kernel/call_supervisor.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr const char *kSoft = "HAKMEM_SOFT_LIMIT_MB";

void Print(const char *name, uint64_t value) { printf("%s=%llu\n", name, static_cast<unsigned long long>(value)); }

// ---- In the program -----------------------------------------------------------------------------

// Live blocks. The list has memory of its own, which is resident from the start.
class Blocks {
 public:
  Blocks()
      : at_(static_cast<void **>(mmap(nullptr, kMost * sizeof(void *), PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0))) {
    if (at_ == MAP_FAILED) abort();
  }
  ~Blocks() {
    FreeAll();
    munmap(at_, kMost * sizeof(void *));
  }
  Blocks(const Blocks &) = delete;
  Blocks &operator=(const Blocks &) = delete;

  // Takes and writes blocks of these sizes in turn, `bytes` bytes in all. Requests that fail count.
  void Fill(const std::vector<size_t> &sizes, uint64_t bytes) {
    for (uint64_t taken = 0; taken < bytes && count_ < kMost;) {
      const size_t size = sizes[count_ % sizes.size()];
      taken += size;
      Replace(count_++, size);
    }
  }
  void Replace(size_t index, size_t size) {
    hak_free(at_[index]);
    at_[index] = hak_malloc(size);
    if (at_[index] == nullptr) {
      failed_++;
    } else {
      memset(at_[index], 1, size);
    }
  }
  void FreeAll() {
    while (count_ > 0) {
      hak_free(at_[--count_]);
      at_[count_] = nullptr;
    }
  }
  size_t count() const { return count_; }
  uint64_t failed() const { return failed_; }

 private:
  static constexpr size_t kMost = 400000;
  void **at_;
  size_t count_ = 0;
  uint64_t failed_ = 0;
};

const std::vector<size_t> &SmallSizes() {
  static const std::vector<size_t> *const sizes = new std::vector<size_t>{900, 40, 1700, 300, 6000, 120};
  return *sizes;
}
const std::vector<size_t> &LargeSizes() {
  static const std::vector<size_t> *const sizes = new std::vector<size_t>{100000, 1500000, 300000, 40000};
  return *sizes;
}

uint64_t Growth(uint64_t base) { return ResidentBytes() > base ? ResidentBytes() - base : 0; }

// A peak of 96 MiB beside 4 MiB that stay, and what the kernel counts before and after all of the peak is freed.
int Peak(const std::vector<size_t> &sizes) {
  Blocks stay;
  Blocks peak;
  hak_free(hak_malloc(100));
  const uint64_t base = ResidentBytes();
  stay.Fill({500}, 4 * kMib);
  peak.Fill(sizes, 96 * kMib);
  Print("peak", Growth(base));
  peak.FreeAll();
  Print("left", Growth(base));
  // The limit comes while the program makes no other call.
  if (hak_config_set(kSoft, "16") != 0) return 3;
  Print("lowered", Growth(base));
  if (hak_config_set(kSoft, "0") != 0) return 3;
  peak.Fill(sizes, 96 * kMib);
  peak.FreeAll();
  Print("again", Growth(base));
  Print("failed", stay.failed() + peak.failed());
  Print("verifies", hak_heap_verify());
  return 0;
}

// 128 MiB that stay live, and then blocks that come and go.
int Above(Supervision *shared) {
  Blocks live;
  shared->armed = true;
  live.Fill(SmallSizes(), 64 * kMib);
  live.Fill(LargeSizes(), 64 * kMib);
  Print("growth_calls", shared->all);
  Print("purges", Stats().limit_purges);
  Random random(1);
  Blocks change;
  change.Fill(SmallSizes(), kMib / 2);
  const uint64_t before = shared->all;
  for (int i = 0; i < 200000; ++i) {
    const size_t index = random.Index(change.count());
    change.Replace(index, SmallSizes()[index % SmallSizes().size()]);
  }
  Print("steady_calls", shared->all - before);
  Print("committed", Stats().committed_bytes);
  Print("failed", live.failed() + change.failed());
  Print("refusals", Stats().limit_refusals);
  Print("verifies", hak_heap_verify());
  return 0;
}

// Threads that grow at once, far beyond the limit, by blocks of every size.
int Contended() {
  constexpr size_t kThreads = 8;
  std::atomic<uint64_t> failed{0};
  pthread_barrier_t begin;
  pthread_barrier_init(&begin, nullptr, kThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(t);
      std::vector<size_t> sizes;
      for (int i = 0; i < 64; ++i) sizes.push_back(1 + ((random.Next() & 0x1fffff) >> random.Index(21)));
      Blocks blocks;
      pthread_barrier_wait(&begin);
      for (int round = 0; round < 4; ++round) {
        blocks.Fill(sizes, 8 * kMib);
        if (round % 2 == 1) blocks.FreeAll();
      }
      failed += blocks.failed();
    });
  }
  for (std::thread &thread : threads) thread.join();
  pthread_barrier_destroy(&begin);
  Print("failed", failed);
  Print("purges", Stats().limit_purges);
  Print("verifies", hak_heap_verify());
  return 0;
}

// Growth far beyond the limit after a request that is a mistake, and after a block as large as the limit came and went.
int Mistaken() {
  Blocks live;
  live.Fill(SmallSizes(), 40 * kMib);
  Print("refused", hak_malloc(size_t{1} << 46) == nullptr);
  const uint64_t at_mistake = Stats().limit_purges;
  live.Fill(SmallSizes(), 64 * kMib);
  const uint64_t after_mistake = Stats().limit_purges - at_mistake;
  live.FreeAll();
  hak_trim(0);
  live.Fill({256 * kMib}, 256 * kMib);
  live.FreeAll();
  live.Fill({500}, kMib);
  const uint64_t before = Stats().limit_purges;
  live.Fill(SmallSizes(), 64 * kMib);
  Print("after_mistake", after_mistake);
  Print("after_peak", Stats().limit_purges - before);
  Print("failed", live.failed());
  Print("verifies", hak_heap_verify());
  return 0;
}

// The most memory that the process has had.
uint64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return strtoull(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}

// A block that is larger than the limit grows in steps.
int Grown() {
  size_t size = 60 * kMib;
  char *block = static_cast<char *>(hak_malloc(size));
  memset(block, 1, size);
  for (int step = 0; step < 4; ++step, size += 2 * kMib) {
    block = static_cast<char *>(hak_realloc(block, size + 2 * kMib));
    memset(block + size, 1, 2 * kMib);
  }
  Print("size", size);
  Print("peak", PeakBytes());
  Print("purges", Stats().limit_purges);
  hak_free(block);
  Print("failed", 0);
  Print("verifies", hak_heap_verify());
  return 0;
}

int Child(const std::string &name) {
  if (name == "grown") return Grown();
  if (name == "mistaken") return Mistaken();
  if (name == "small") return Peak(SmallSizes());
  if (name == "large") return Peak(LargeSizes());
  if (name == "contended") return Contended();
  if (name != "above") return 2;
  int file = -1;
  Supervision *shared = ShareSupervision(&file);
  return Supervise({}, shared, [shared] {
    const int code = Above(shared);
    fflush(stdout);
    return code;
  });
}

// ---- In the test --------------------------------------------------------------------------------

// What stays beyond the limit: a 32nd of it in free slabs and in free runs, the cache of a thread, its records.
constexpr uint64_t kSlack = 8 * kMib;

Outcome RunWith(const std::string &child, const std::string &soft_mb) {
  Outcome outcome = RunSelf({"--child=" + child},
                            {std::string(kSoft) + "=" + soft_mb, "HAKMEM_DECOMMIT_DEADLINE_MS=3600000",
                             "HAKMEM_MAPPING_CACHE_KB=1048576", "HAKMEM_AUTOPSY=1"},
                            60);
  EXPECT_EQ(outcome.err, "") << "nothing fails, so there is nothing to say";
  return outcome;
}

void ExpectWorks(const Outcome &outcome) {
  ASSERT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "failed"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
}

class SoftLimit : public testing::TestWithParam<const char *> {};

TEST_P(SoftLimit, BoundsWhatStaysAfterAPeak) {
  const Outcome without = RunWith(GetParam(), "0");
  ExpectWorks(without);
  ASSERT_GE(NumberOf(without.out, "peak"), 96 * kMib) << without;
  EXPECT_GE(NumberOf(without.out, "left"), 64 * kMib) << "the peak proves nothing\n" << without;
  const Outcome with = RunWith(GetParam(), "32");
  ExpectWorks(with);
  EXPECT_GE(NumberOf(with.out, "peak"), 96 * kMib) << with;
  EXPECT_LE(NumberOf(with.out, "left"), 32 * kMib + kSlack) << with;
  for (const Outcome &outcome : {without, with}) {
    EXPECT_LE(NumberOf(outcome.out, "lowered"), 16 * kMib) << "a new limit returns memory at once\n" << outcome;
    EXPECT_GE(NumberOf(outcome.out, "again"), 64 * kMib) << "without a limit memory stays\n" << outcome;
  }
}

#if defined(HAK_PROFILE_STANDARD)
INSTANTIATE_TEST_SUITE_P(All, SoftLimit, testing::Values("small", "large"));
#else
// OBSERVE and HARDENED keep no memory of freed large blocks.
INSTANTIATE_TEST_SUITE_P(All, SoftLimit, testing::Values("small"));
#endif

TEST(SoftLimitOfLiveBlocks, CostsFewSystemCalls) {
  const Outcome without = RunWith("above", "0");
  if (without.exit_code == kNoSupervisor) GTEST_SKIP() << "no filter that reports calls can be set here";
  ExpectWorks(without);
  EXPECT_EQ(NumberOf(without.out, "purges"), 0U) << without;
  const Outcome with = RunWith("above", "32");
  ExpectWorks(with);
  EXPECT_GE(NumberOf(with.out, "committed"), 128 * kMib) << with;
  EXPECT_EQ(NumberOf(with.out, "refusals"), 0U) << with;
  EXPECT_GE(NumberOf(with.out, "purges"), 8U) << with;
  // What is free is returned once for each 32nd by which the heap grows: from 32 to 140 MiB 48 times.
  EXPECT_LE(NumberOf(with.out, "growth_calls"), NumberOf(without.out, "growth_calls") + 48 * 8) << with << without;
  // HARDENED makes some for the blocks that it guards.
  EXPECT_LE(NumberOf(with.out, "steady_calls"), NumberOf(without.out, "steady_calls") + 200) << with << without;
}

TEST(SoftLimitOfLiveBlocks, FailsNoRequestOfAnyThread) {
  const Outcome outcome = RunWith("contended", "1");
  ExpectWorks(outcome);
  EXPECT_GE(NumberOf(outcome.out, "purges"), 8U) << outcome;
}

TEST(SoftLimitOfLiveBlocks, HoldsAfterAVeryLargeRequest) {
  const Outcome outcome = RunSelf({"--child=mistaken"}, {std::string(kSoft) + "=32"}, 60);
  ExpectWorks(outcome);
  EXPECT_EQ(NumberOf(outcome.out, "refused"), 1U) << outcome;
  EXPECT_GE(NumberOf(outcome.out, "after_mistake"), 8U) << outcome;
  EXPECT_GE(NumberOf(outcome.out, "after_peak"), 8U) << outcome;
}

#if defined(HAK_PROFILE_STANDARD)
// OBSERVE and HARDENED copy each large block that grows.
TEST(SoftLimitOfLiveBlocks, IsNoReasonToCopyABlock) {
  const Outcome outcome = RunWith("grown", "32");
  ExpectWorks(outcome);
  EXPECT_GE(NumberOf(outcome.out, "purges"), 1U) << outcome;
  EXPECT_LE(NumberOf(outcome.out, "peak"), NumberOf(outcome.out, "size") * 3 / 2) << outcome;
}
#endif

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 2 && strncmp(argv[1], "--child=", 8) == 0) return hak_test::Child(argv[1] + 8);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
