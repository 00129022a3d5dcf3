// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/barrier.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "allocator/os/unit_test.h"

namespace {

// Why this kernel or emulator has no such barrier; empty if it has one.
std::string WhyNot() {
  const long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  if (commands < 0) return strerror(errno);
  constexpr long kNeeded = MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED;
  return (commands & kNeeded) == kNeeded ? "" : "the expedited command is not among those it knows";
}

TEST(Barrier, WorksWhereTheKernelHasItAndKeepsErrno) {
  const std::string why_not = WhyNot();
  errno = E2BIG;
  hak_os_barrier_init();
  EXPECT_EQ(errno, E2BIG);
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(hak_os_barrier(), why_not.empty());
    EXPECT_EQ(errno, E2BIG);
  }
  hak_os_barrier_init();  // a second call has no effect
  EXPECT_EQ(hak_os_barrier(), why_not.empty());
  EXPECT_EQ(errno, E2BIG);
  if (!why_not.empty()) GTEST_SKIP() << "no membarrier: " << why_not;
}

TEST(Barrier, TheChildOfAForkHasItToo) {
  hak_os_barrier_init();
  const bool here = hak_os_barrier();
  HAK_EXPECT_PASSES_IN_CHILD(EXPECT_EQ(hak_os_barrier(), here));
}

// If the kernel refuses once it is not asked again, because a sandbox may end the process for the call.
TEST(Barrier, RefusedAtTheStartIsNotAskedForAgain) {
  HAK_EXPECT_PASSES_IN_CHILD({
    {
      const hak_unit::FaultPlan plan(HAK_FAULT_BARRIER);
      hak_os_barrier_init();
    }
    EXPECT_FALSE(hak_os_barrier());
  });
}

// Keeps the calling thread on the n-th processor that the process may use, if there are that many.
void StayOnProcessor(int n) {
  cpu_set_t all;
  if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) <= n) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &all) || n-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

// Waits for a short while without leaving the processor, so that the other thread can catch up, then yields.
template <typename Condition>
void Await(Condition condition) {
  for (int spins = 0; !condition(); spins++) {
    if (spins > 2000) std::this_thread::yield();
  }
}

// The protocol of idle_cache.h: one side stores and loads without a fence; the other stores, calls the barrier and
// loads. The barrier rules out that both miss the other's store. Without it, this loop sees that happen thousands of
// times on x86-64 with two cores.
TEST(Barrier, OneSideNeedsNoFence) {
  hak_os_barrier_init();
  if (!hak_os_barrier()) GTEST_SKIP() << "no membarrier: " << WhyNot();
  const int rounds = hak_unit::Operations(10000);
  struct {
    alignas(HAK_CACHE_LINE) std::atomic<int> mine{0};
    alignas(HAK_CACHE_LINE) std::atomic<int> other{0};
    alignas(HAK_CACHE_LINE) std::atomic<int> started{0};
    alignas(HAK_CACHE_LINE) std::atomic<int> finished{0};
  } shared;
  constexpr int kStop = INT_MAX;
  int owner_saw = 0;
  std::thread owner([&] {
    StayOnProcessor(0);
    for (int round = 1;; round++) {
      Await([&] { return shared.started.load(std::memory_order_acquire) >= round; });
      if (shared.started.load(std::memory_order_relaxed) == kStop) return;
      shared.mine.store(round, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);  // the compiler keeps the order too
      owner_saw = shared.other.load(std::memory_order_relaxed);
      shared.finished.store(round, std::memory_order_release);
    }
  });
  int both_missed = 0;
  bool barrier_failed = false;
  std::thread thief([&] {
    StayOnProcessor(1);
    const uint64_t end_ms = hak_os_now_ms() + 2000;  // the limit on a busy machine
    for (int round = 1; round <= rounds && hak_os_now_ms() < end_ms; round++) {
      shared.started.store(round, std::memory_order_release);
      // The distance between the two sides varies by about the time that a store takes from one core to the other.
      for (volatile int delay = round % 256; delay > 0; delay = delay - 1) {
      }
      shared.other.store(round, std::memory_order_relaxed);
      barrier_failed |= !hak_os_barrier();
      const int thief_saw = shared.mine.load(std::memory_order_relaxed);
      Await([&] { return shared.finished.load(std::memory_order_acquire) == round; });
      both_missed += thief_saw != round && owner_saw != round;
    }
    shared.started.store(kStop, std::memory_order_release);
  });
  thief.join();
  owner.join();
  EXPECT_FALSE(barrier_failed);
  EXPECT_EQ(both_missed, 0);
}

}  // namespace
