// SPDX-License-Identifier: Apache-2.0
//
// Every way of running out of memory. In short scripts the k-th system call fails, for each k: alone, with all later
// calls, with all later calls of one kind, and together with one other call.
//
// Each run is a forked process, so that it begins with an unused allocator. fault_start_test has the calls at a
// program's start.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <string.h>

#include <string>

#include "allocator/test/fault_scripts.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

// More calls than any script makes; a script that reaches this number fails.
constexpr uint64_t kMostCalls = 500;
// gcc's STANDARD tries every call. Other builds leave some out, and each run draws which (CallsToFail).
#if HAK_TEST_TSAN || defined(__aarch64__)
constexpr uint64_t kStep = 29;
#elif HAK_TEST_ASAN
constexpr uint64_t kStep = 13;
#elif defined(__clang__) || !defined(HAK_PROFILE_STANDARD)
constexpr uint64_t kStep = 9;
#else
constexpr uint64_t kStep = 1;
#endif

struct Kind {
  const char *name;
  uint32_t kind;
};
constexpr Kind kKinds[] = {
    {"map", HAK_FAULT_MAP},       {"commit", HAK_FAULT_COMMIT},   {"decommit", HAK_FAULT_DECOMMIT},
    {"unmap", HAK_FAULT_UNMAP},   {"remap", HAK_FAULT_REMAP},     {"trim", HAK_FAULT_TRIM},
    {"advise", HAK_FAULT_ADVISE}, {"barrier", HAK_FAULT_BARRIER}, {"thread", HAK_FAULT_THREAD},
    {"ask", HAK_FAULT_ASK},       {"protect", HAK_FAULT_PROTECT},
};

bool MayEndThreads(const Script &script) {
  bool may = script.threads;
  for (const Script &other : ProcessScripts()) may = may || strcmp(script.name, other.name) == 0;
  return may;
}

class FaultPlan : public testing::TestWithParam<Script> {
 protected:
  void SetUp() override {
    if (HAK_TEST_TSAN && !GetParam().threads) GTEST_SKIP() << "ThreadSanitizer has nothing to find in one thread";
    // The emulator places mappings outside the slab map's window, where each 4 GiB of addresses in use take a page of
    // records.
    if (!CanRunSelf() && strcmp(GetParam().name, "InPlace") == 0) GTEST_SKIP() << "the emulator scatters mappings";
  }
  // The accounts of a run without faults, which each run must end with.
  static Accounts Usual() { return RunPlan(GetParam(), {HAK_FAULT_ALL, UINT64_MAX, 1}).accounts; }
  // Tries one plan; false: it made no call fail, or something is wrong.
  bool Try(const Plan &plan, const std::string &what, const Plan &second = Plan{}, uint64_t wanted_hits = 1) {
    const Result result = RunPlan(GetParam(), plan, AllocatorApi{}, second);
    nulls_ += result.nulls;
    EXPECT_TRUE(result.good) << what << ": " << result.outcome;
    // The emulator has no robust mutexes, by which a thread is found that could not announce its end.
    if (CanRunSelf() || !MayEndThreads(GetParam())) {
      EXPECT_EQ(Difference(result.accounts, usual_), "") << what;
    }
    return result.good && result.hits >= wanted_hits && !HasFailure();
  }

  const CallsToFail calls_{kStep, TestSeed(1)};
  const Accounts usual_ = HAK_TEST_TSAN && !GetParam().threads ? Accounts{} : Usual();
  size_t nulls_ = 0;
};

TEST_P(FaultPlan, WithoutFaults) {
  const Result result = RunPlan(GetParam(), {HAK_FAULT_ALL, UINT64_MAX, 1});
  EXPECT_TRUE(result.good) << result.outcome;
  EXPECT_EQ(result.hits, 0U);
  EXPECT_EQ(result.nulls, 0U);
  EXPECT_EQ(Difference(result.accounts, usual_), "");
}

TEST_P(FaultPlan, EveryCallFailsOnce) {
  uint64_t nth = 1;
  while (nth <= kMostCalls && Try({HAK_FAULT_ALL, nth, 1}, "call " + std::to_string(nth) + " fails"))
    nth = calls_.After(nth);
  EXPECT_GT(nth, 1U) << "the script makes no call to the operating system";
  EXPECT_LE(nth, kMostCalls) << "the script makes too many calls to try each";
}

TEST_P(FaultPlan, AllCallsFailFromOneOn) {
  uint64_t nth = 1;
  while (nth <= kMostCalls && Try({HAK_FAULT_ALL, nth, kForEver}, "all fail from call " + std::to_string(nth))) {
    nth = calls_.After(nth);
  }
  EXPECT_LE(nth, kMostCalls) << "the script makes too many calls to try each";
  // If all calls fail from the first one on, some request must fail.
  EXPECT_GT(nulls_, 0U);
}

TEST_P(FaultPlan, OneKindFailsFromOneOn) {
  for (const Kind &kind : kKinds) {
    nulls_ = 0;
    uint64_t nth = 1;
    while (nth <= kMostCalls && Try({kind.kind, nth, kForEver},
                                    std::string("all of kind ") + kind.name + " fail from " + std::to_string(nth))) {
      nth = calls_.After(nth);
    }
    EXPECT_LE(nth, kMostCalls);
    // A request may fail only if memory cannot be mapped.
    if (kind.kind != HAK_FAULT_MAP && kind.kind != HAK_FAULT_COMMIT) {
      EXPECT_EQ(nulls_, 0U) << kind.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Scripts, FaultPlan, testing::ValuesIn(Scripts()),
                         [](const testing::TestParamInfo<Script> &tested) { return std::string(tested.param.name); });
INSTANTIATE_TEST_SUITE_P(ProcessScripts, FaultPlan, testing::ValuesIn(ProcessScripts()),
                         [](const testing::TestParamInfo<Script> &tested) { return std::string(tested.param.name); });

// Two calls fail, in every pair of calls: the code that handles one failure meets another one.
class FaultPairs : public FaultPlan {};

TEST_P(FaultPairs, EachPairOfCallsFails) {
  uint64_t first = 1;
  uint64_t pairs = 0;
  for (bool more = true; more && first <= kMostCalls; first = calls_.After(first)) {
    more = false;
    for (uint64_t second = first + 1; second <= kMostCalls; second = first + calls_.After(second - first)) {
      const std::string what = "calls " + std::to_string(first) + " and " + std::to_string(second) + " fail";
      if (!Try({HAK_FAULT_ALL, first, 1}, what, {HAK_FAULT_ALL, second, 1}, 2)) break;
      more = true;
      ++pairs;
    }
  }
  EXPECT_GT(pairs, 0U);
}

INSTANTIATE_TEST_SUITE_P(ShortScripts, FaultPairs,
                         testing::Values(ScriptNamed("FirstBlock"), ScriptNamed("TakenAgain"), ScriptNamed("Adoption")),
                         [](const testing::TestParamInfo<Script> &tested) { return std::string(tested.param.name); });

// Pages are made inaccessible only for guards.
bool HasGuards() {
  const std::string version = hak_version();
  return version.find(" observe ") != std::string::npos || version.find(" hardened ") != std::string::npos;
}

// The scripts make calls of these kinds. Otherwise the runs above would have tried nothing.
TEST(FaultKinds, AreReached) {
  if (HAK_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer has nothing to find in one thread";
  for (const Kind &kind : kKinds) {
    // Calls that are made only at a program's start, or only with some settings: fault_start_test.
    if (kind.kind == HAK_FAULT_COMMIT || kind.kind == HAK_FAULT_ADVISE || kind.kind == HAK_FAULT_ASK) continue;
    if (kind.kind == HAK_FAULT_BARRIER && !HasBarrier()) continue;
    if (kind.kind == HAK_FAULT_PROTECT && !HasGuards()) continue;
    // Guarded blocks are not moved.
    if (kind.kind == HAK_FAULT_REMAP && HasGuards()) continue;
    // Newer kernels align large ranges, so nothing needs to be trimmed. os_test has ranges that must be.
    if (kind.kind == HAK_FAULT_TRIM) continue;
    bool hit = false;
    for (const Script &script : Scripts()) hit = hit || RunPlan(script, {kind.kind, 1, kForEver}).hits > 0;
    EXPECT_TRUE(hit) << "no script makes a call of kind " << kind.name;
  }
}

// ---- Positive controls --------------------------------------------------------------------------

// Whether a system call has failed.
bool Starved() { return hak_fault_hits() > 0; }

AllocatorApi WrongErrno() {
  AllocatorApi api;
  api.malloc = [](size_t size) {
    void *p = hak_malloc(size);
    if (p == nullptr) errno = EAGAIN;
    return p;
  };
  return api;
}

AllocatorApi FailedReallocTouches() {
  AllocatorApi api;
  api.realloc = [](void *old, size_t size) {
    void *p = hak_realloc(old, size);
    if (p == nullptr) static_cast<unsigned char *>(old)[0] ^= 1;
    return p;
  };
  return api;
}

AllocatorApi FreeSetsErrno() {
  AllocatorApi api;
  api.free = [](void *p) {
    hak_free(p);
    if (Starved()) errno = ENOMEM;
  };
  return api;
}

AllocatorApi DirtyCalloc() {
  AllocatorApi api;
  api.calloc = [](size_t count, size_t size) {
    void *p = hak_calloc(count, size);
    if (p != nullptr && Starved()) memset(p, 0xDB, 1);
    return p;
  };
  return api;
}

bool g_given_up;

AllocatorApi GivesUpForEver() {
  AllocatorApi api;
  api.malloc = [](size_t size) {
    void *p = g_given_up ? nullptr : hak_malloc(size);
    if (p == nullptr) {
      g_given_up = true;
      errno = ENOMEM;
    }
    return p;
  };
  return api;
}

AllocatorApi LosesBlocks() {
  AllocatorApi api;
  api.free = [](void *p) {
    if (!Starved()) hak_free(p);
  };
  return api;
}

AllocatorApi VerifyFails() {
  AllocatorApi api;
  api.heap_verify = [] { return !Starved() && hak_heap_verify(); };
  return api;
}

// Keeps memory that it should return.
AllocatorApi KeepsMemory() {
  AllocatorApi api;
  api.trim = [](size_t) { return size_t{0}; };
  return api;
}

TEST(PlantedBug, OfTheAccountsIsFound) {
  if (HAK_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer has nothing to find in one thread";
  for (const char *script : {"LargeBlocks", "FillAndEmpty", "Threads"}) {
    const Plan none = {HAK_FAULT_ALL, UINT64_MAX, 1};
    const Result usual = RunPlan(ScriptNamed(script), none);
    const Result keeps = RunPlan(ScriptNamed(script), none, KeepsMemory());
    EXPECT_TRUE(keeps.good) << keeps.outcome;
    EXPECT_NE(Difference(keeps.accounts, usual.accounts), "") << script;
  }
}

TEST(PlantedBug, IsFound) {
  if (HAK_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer has nothing to find in one thread";
  const struct {
    const char *name;
    AllocatorApi api;
    const char *script;
  } controls[] = {
      {"WrongErrno", WrongErrno(), "LargeBlocks"},
      {"FailedReallocTouches", FailedReallocTouches(), "GrowAndShrink"},
      {"FreeSetsErrno", FreeSetsErrno(), "LargeBlocks"},
      {"DirtyCalloc", DirtyCalloc(), "ZeroAfterGivingBack"},
      {"GivesUpForEver", GivesUpForEver(), "LargeBlocks"},
      {"LosesBlocks", LosesBlocks(), "LargeBlocks"},
      {"VerifyFails", VerifyFails(), "FirstBlock"},
  };
  for (const auto &control : controls) {
    bool found = false;
    for (uint64_t nth = 1; nth <= 40 && !found; ++nth) {
      for (const uint64_t count : {uint64_t{1}, kForEver}) {
        const Result result = RunPlan(ScriptNamed(control.script), {HAK_FAULT_ALL, nth, count}, control.api);
        found = found || result.outcome.exit_code == 1;
      }
    }
    EXPECT_TRUE(found) << control.name << " was not noticed";
  }
}

}  // namespace
}  // namespace hak_test
