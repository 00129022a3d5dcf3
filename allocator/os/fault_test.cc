// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/fault.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "allocator/os/unit_test.h"

namespace {

using hak_unit::FaultPlan;

// The answers for `n` calls, one letter each: F means fail, . means go on.
std::string Ask(uint32_t kind, int n) {
  std::string answers;
  for (int i = 0; i < n; i++) answers += hak_fault_due(kind) ? 'F' : '.';
  return answers;
}

TEST(Fault, NothingFailsWithoutAPlan) {
  hak_fault_clear();
  for (uint32_t kind = 1; kind < HAK_FAULT_ALL; kind <<= 1) EXPECT_EQ(Ask(kind, 5), ".....");
}

TEST(Fault, FailsFromTheNthOnAsOftenAsAsked) {
  {
    const FaultPlan plan(HAK_FAULT_MAP, 3, 2);
    EXPECT_EQ(Ask(HAK_FAULT_MAP, 8), "..FF....");
    EXPECT_EQ(hak_fault_hits(), 2u);
  }
  {
    const FaultPlan plan(HAK_FAULT_MAP, 1, 1);
    EXPECT_EQ(Ask(HAK_FAULT_MAP, 4), "F...");
  }
  {
    const FaultPlan plan(HAK_FAULT_MAP, 2, UINT64_MAX);
    EXPECT_EQ(Ask(HAK_FAULT_MAP, 6), ".FFFFF");
    EXPECT_EQ(hak_fault_hits(), 5u);
  }
  const FaultPlan none(HAK_FAULT_MAP, 1, 0);
  EXPECT_EQ(Ask(HAK_FAULT_MAP, 4), "....");
}

TEST(Fault, CountsOnlyTheKindsOfThePlan) {
  const FaultPlan plan(HAK_FAULT_UNMAP | HAK_FAULT_DECOMMIT, 2, 2);
  EXPECT_EQ(Ask(HAK_FAULT_MAP, 3), "...");
  EXPECT_EQ(Ask(HAK_FAULT_UNMAP, 1), ".");  // the first call whose kind is in the plan
  EXPECT_EQ(Ask(HAK_FAULT_COMMIT, 3), "...");
  EXPECT_EQ(Ask(HAK_FAULT_DECOMMIT, 1), "F");
  EXPECT_EQ(Ask(HAK_FAULT_REMAP, 2), "..");
  EXPECT_EQ(Ask(HAK_FAULT_UNMAP, 2), "F.");
}

TEST(Fault, AllMeansEveryKind) {
  const FaultPlan plan(HAK_FAULT_ALL);
  for (uint32_t kind = 1; kind < HAK_FAULT_ALL; kind <<= 1) EXPECT_EQ(Ask(kind, 1), "F") << kind;
}

TEST(Fault, ANewPlanStartsCountingAfresh) {
  hak_fault_set(HAK_FAULT_MAP, 2, 1);
  EXPECT_EQ(Ask(HAK_FAULT_MAP, 1), ".");
  hak_fault_set(HAK_FAULT_MAP, 2, 1);
  EXPECT_EQ(Ask(HAK_FAULT_MAP, 3), ".F.");
  EXPECT_EQ(hak_fault_hits(), 1u);
  hak_fault_set(HAK_FAULT_COMMIT, 1, 1);
  EXPECT_EQ(hak_fault_hits(), 0u);
  hak_fault_clear();
  EXPECT_EQ(Ask(HAK_FAULT_COMMIT, 2), "..");
}

TEST(Fault, TwoPlansCountForThemselves) {
  const FaultPlan plan(HAK_FAULT_MAP, 2, 1);
  hak_fault_also(HAK_FAULT_MAP | HAK_FAULT_UNMAP, 3, 2);
  EXPECT_EQ(Ask(HAK_FAULT_MAP, 2), ".F");
  EXPECT_EQ(Ask(HAK_FAULT_UNMAP, 1), "F");  // the third call of the second plan
  EXPECT_EQ(Ask(HAK_FAULT_COMMIT, 1), ".");
  EXPECT_EQ(Ask(HAK_FAULT_MAP, 3), "F..");
  EXPECT_EQ(hak_fault_hits(), 3u);
  hak_fault_set(HAK_FAULT_MAP, 1, 1);
  EXPECT_EQ(Ask(HAK_FAULT_UNMAP, 5), ".....");  // a new plan ends both old ones
  EXPECT_EQ(Ask(HAK_FAULT_MAP, 2), "F.");
}

TEST(Fault, BothPlansAtOnceAreOneFailure) {
  const FaultPlan plan(HAK_FAULT_MAP, 1, 1);
  hak_fault_also(HAK_FAULT_MAP, 1, 2);
  EXPECT_EQ(Ask(HAK_FAULT_MAP, 3), "FF.");
  EXPECT_EQ(hak_fault_hits(), 2u);
}

TEST(Fault, ManyThreadsTogetherGetExactlyThePlannedFailures) {
  const FaultPlan plan(HAK_FAULT_MAP, 100, 50);
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&failed] {
      for (int i = 0; i < 1000; i++) failed += hak_fault_due(HAK_FAULT_MAP) ? 1 : 0;
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(failed.load(), 50);
  EXPECT_EQ(hak_fault_hits(), 50u);
}

}  // namespace
