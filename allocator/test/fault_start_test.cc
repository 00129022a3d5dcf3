// SPDX-License-Identifier: Apache-2.0
//
// A process whose system calls fail at its start: the k-th call fails, counted from before the allocator's own
// constructor, for each k and with settings that need more calls. The program must start and run a script, and its
// requests must succeed once system calls succeed again.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "allocator/test/fault_scripts.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace {

constexpr char kVariable[] = "HAK_TEST_FAULT_PLAN";

// Runs before the constructor of the allocator, which has no priority.
__attribute__((constructor(101))) void SetPlan() {
  const char *plan = getenv(kVariable);
  unsigned kinds = 0;
  unsigned long long nth = 0;
  unsigned long long count = 0;
  if (plan == nullptr || sscanf(plan, "%u %llu %llu", &kinds, &nth, &count) != 3) return;
  hak_fault_set(kinds, nth, count);
}

}  // namespace

namespace hak_test {
namespace {

// The plan is already set. Threads and large blocks make the calls that are left of it.
int Child(const char *script) { return RunScript(ScriptNamed(script), Plan{}, Plan{}, AllocatorApi{}); }

using Environment = std::vector<std::string>;

Result Start(const Environment &settings, const Plan &plan, const char *script) {
  Environment environment = settings;
  environment.push_back(std::string(kVariable) + "=" + std::to_string(plan.kinds) + " " + std::to_string(plan.nth) +
                        " " + std::to_string(plan.count));
  return ResultOf(RunSelf({"--child", script}, environment));
}

struct Case {
  const char *name;
  Environment settings;
};

const Case kCases[] = {
    {"Default", {}},
    {"Lean", {"HAKMEM_PROFILE=lean"}},
    {"Prewarm", {"HAKMEM_SS_PREWARM=3"}},
    {"TwoLevelMap", {"HAKMEM_SLAB_MAP=two_level"}},
    {"FlatMap", {"HAKMEM_SLAB_MAP=flat"}},
    {"MemoryLimit", {"HAKMEM_MEMORY_LIMIT_MB=512"}},
    {"Background", {"HAKMEM_BACKGROUND=1"}},
};

void PrintTo(const Case &c, std::ostream *out) { *out << c.name; }

constexpr uint64_t kMostCalls = 300;
// As in fault_plan_test.
#if HAK_TEST_TSAN
constexpr uint64_t kStep = 40;
#elif HAK_TEST_ASAN || defined(__clang__) || !defined(HAK_PROFILE_STANDARD)
constexpr uint64_t kStep = 5;
#else
constexpr uint64_t kStep = 1;
#endif

class FaultStart : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!CanRunSelf()) GTEST_SKIP() << "the emulator cannot start the program again";
  }
  // Messages about a setting are allowed if the kernel did not answer the question that it needs.
  void Sweep(uint64_t count, const char *script) {
    const Result usual = Start(GetParam().settings, {HAK_FAULT_ALL, UINT64_MAX, 1}, script);
    ASSERT_TRUE(usual.good) << usual.outcome;
    const CallsToFail calls(kStep, TestSeed(1));
    uint64_t nth = 1;
    for (; nth <= kMostCalls; nth = calls.After(nth)) {
      const Result result = Start(GetParam().settings, {HAK_FAULT_ALL, nth, count}, script);
      ASSERT_TRUE(result.good) << "call " << nth << ": " << result.outcome;
      if (result.hits == 0) break;
      ASSERT_EQ(result.accounts.live_blocks, 0U) << "call " << nth;
    }
    EXPECT_GT(nth, 5U) << "the start makes hardly a call";
    EXPECT_LE(nth, kMostCalls);
  }
};

TEST_P(FaultStart, EveryCallFailsOnce) { Sweep(1, "Adoption"); }
TEST_P(FaultStart, AllCallsFailFromOneOn) { Sweep(kForEver, "Threads"); }

INSTANTIATE_TEST_SUITE_P(Settings, FaultStart, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case> &tested) { return std::string(tested.param.name); });

// A start makes calls of these kinds. Otherwise the runs above would have tried nothing.
TEST(FaultStartKinds, AreReached) {
  if (!CanRunSelf()) GTEST_SKIP() << "the emulator cannot start the program again";
  const struct {
    const char *name;
    uint32_t kind;
    Environment settings;
    bool in_fast;  // FAST reads no settings
  } kinds[] = {
      {"ask", HAK_FAULT_ASK, {}, true},
      {"barrier", HAK_FAULT_BARRIER, {}, true},
      {"thread", HAK_FAULT_THREAD, {}, true},
      {"commit", HAK_FAULT_COMMIT, {"HAKMEM_SLAB_MAP=flat"}, false},
      {"advise", HAK_FAULT_ADVISE, {"HAKMEM_SS_PREWARM=3"}, false},
  };
  for (const auto &kind : kinds) {
    if (!kind.in_fast && IsFastBuild()) continue;
    EXPECT_GT(Start(kind.settings, {kind.kind, 1, kForEver}, "FirstBlock").hits, 0U) << kind.name;
  }
}

// The thread that the setting requests cannot be created. The program runs without it.
TEST(FaultStartKinds, NoBackgroundThread) {
  if (!CanRunSelf()) GTEST_SKIP() << "the emulator cannot start the program again";
  if (IsFastBuild()) GTEST_SKIP() << "FAST reads no settings";
  const Environment settings = {"HAKMEM_BACKGROUND=1"};
  const Result result = Start(settings, {HAK_FAULT_THREAD, 1, kForEver}, "SmallBlocks");
  EXPECT_TRUE(result.good) << result.outcome;
  EXPECT_EQ(result.nulls, 0U);
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--child") == 0) return hak_test::Child(argv[2]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
