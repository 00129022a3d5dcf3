// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/guard_budget.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

namespace {

// In a process of its own, because each tells once, and first, while there is nothing to tell.
void TellOfARefusal() {
  hak_guard_budget_tell();
  for (int i = 0; i < 3; ++i) {
    hak_guard_budget_refused();
    hak_guard_budget_tell();
  }
  hak_guard_budget_init(0);
  hak_guard_budget_take(1, 0);
  hak_guard_budget_tell();
  _exit(0);
}

TEST(GuardBudget, TellsOfARefusalByTheKernelOnce) {
  EXPECT_EXIT(TellOfARefusal(), testing::ExitedWithCode(0),
              "^hakmem: the kernel has refused a guard page: from now on blocks may go without them\n$");
}

TEST(GuardBudget, LeavesAQuarterAndMore) {
  for (const uint64_t limit : {uint64_t{0}, uint64_t{1}, uint64_t{7}, uint64_t{1000}, uint64_t{65530},
                               uint64_t{1048576}, uint64_t{2147483647}}) {
    EXPECT_LE(hak_guard_budget_of(limit), limit - limit / 4) << limit;
    EXPECT_GE(hak_guard_budget_of(limit), limit / 2) << limit;
  }
}

TEST(GuardBudget, IsGivenOutToTheLastMappingAndComesBack) {
  hak_guard_budget_init(16);
  const uint64_t budget = hak_guard_budget_of(16);
  ASSERT_EQ(budget, 10u);
  EXPECT_EQ(hak_guard_budget_reserve(), 2u);
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(hak_guard_budget_take(6, 0));
    EXPECT_FALSE(hak_guard_budget_take(3, 2));
    EXPECT_TRUE(hak_guard_budget_take(2, 2));
    EXPECT_FALSE(hak_guard_budget_take(3, 0));
    EXPECT_TRUE(hak_guard_budget_take(2, 0));
    EXPECT_FALSE(hak_guard_budget_take(1, 0));
    EXPECT_EQ(hak_guard_budget_used(), budget);
    hak_guard_budget_give(budget);
    EXPECT_EQ(hak_guard_budget_used(), 0u);
  }
}

TEST(GuardBudget, HoldsWhenManyThreadsTake) {
  hak_guard_budget_init(1600);
  const uint64_t budget = hak_guard_budget_of(1600);
  std::vector<uint64_t> taken(4);
  std::vector<std::thread> threads;
  for (uint64_t &mine : taken) {
    threads.emplace_back([&mine] {
      while (hak_guard_budget_take(3, 0)) mine += 3;
    });
  }
  for (std::thread &thread : threads) thread.join();
  uint64_t sum = 0;
  for (const uint64_t mine : taken) sum += mine;
  EXPECT_EQ(sum, budget - budget % 3);
  EXPECT_EQ(hak_guard_budget_used(), sum);
  hak_guard_budget_give(sum);
}

TEST(GuardBudget, TellsOnce) {
  hak_guard_budget_init(16);
  while (hak_guard_budget_take(1, 0)) {
  }
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    hak_guard_budget_take(1, 0);
    hak_guard_budget_tell();
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "hakmem: guard pages take 10 of the 16 mappings that vm.max_map_count allows: from now on blocks may go "
            "without them\n");
  hak_guard_budget_refused();
  hak_guard_budget_tell();
  hak_guard_budget_give(hak_guard_budget_used());
}

}  // namespace
