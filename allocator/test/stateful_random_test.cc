// SPDX-License-Identifier: Apache-2.0
//
// Random programs against the model (heap_model.h), with one thread and with several; and for each check of the model a
// planted bug that it must find.
//
// Each run prints its seed; HAK_TEST_SEED=<seed> repeats it, HAK_TEST_SCALE=<n> makes runs n times as long.
#include <errno.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "allocator/test/heap_model.h"
#include "allocator/test/planted_bugs.h"
#include "allocator/test/random_driver.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr uint64_t kFirstSeed = 20240611;

std::string Describe(const HeapModel &model) {
  std::string text;
  for (const Violation &violation : model.violations()) {
    text += std::string("[") + OracleName(violation.oracle) + "] " + violation.what + "\n";
  }
  return text;
}

TEST(StatefulRandom, SingleThread) {
  uint64_t recycled = 0;
  for (uint64_t seed = TestSeed(kFirstSeed), last = seed + 3; seed < last; ++seed) {
    HeapModel model{AllocatorApi{}};
    SingleOptions options;
    options.seed = seed;
    options.operations = Scaled(25000);
    options.verify_every = 4000;
    RunSingle(&model, options);
    ASSERT_TRUE(model.ok()) << "seed " << seed << "\n" << Describe(model);
    EXPECT_EQ(model.live_blocks(), 0U);
    recycled += model.recycled_zeroed();
  }
  // Otherwise the check for zero would only have seen new pages of the operating system.
  EXPECT_GT(recycled, 100U);
}

TEST(StatefulRandom, FewSlotsReuseTheSameBlocks) {
  const uint64_t seed = TestSeed(kFirstSeed);
  HeapModel model{AllocatorApi{}};
  SingleOptions options;
  options.seed = seed;
  options.operations = Scaled(40000);
  options.slots = 8;
  options.verify_every = 2000;
  options.overflow_grid = false;
  RunSingle(&model, options);
  ASSERT_TRUE(model.ok()) << "seed " << seed << "\n" << Describe(model);
}

TEST(StatefulRandom, SeveralThreads) {
  for (uint64_t seed = TestSeed(kFirstSeed), last = seed + 2; seed < last; ++seed) {
    HeapModel model{AllocatorApi{}};
    ThreadsOptions options;
    options.seed = seed;
    options.operations = Scaled(5000);
    RunThreads(&model, options);
    ASSERT_TRUE(model.ok()) << "seed " << seed << "\n" << Describe(model);
    EXPECT_EQ(model.live_blocks(), 0U);
  }
}

TEST(StatefulRandom, ManyShortThreadsMostlyRemote) {
  const uint64_t seed = TestSeed(kFirstSeed);
  HeapModel model{AllocatorApi{}};
  ThreadsOptions options;
  options.seed = seed;
  options.threads = 8;
  options.rounds = 20;
  options.operations = Scaled(600);
  options.slots = 60;
  options.remote_percent = 80;
  RunThreads(&model, options);
  ASSERT_TRUE(model.ok()) << "seed " << seed << "\n" << Describe(model);
}

// A cycle of allocating and freeing unmaps what it mapped, and later cycles do not need more than earlier ones.
uint64_t MappedAfterCycle(uint64_t seed) {
  HeapModel model{AllocatorApi{}};
  SingleOptions options;
  options.seed = seed;
  options.operations = Scaled(6000);
  options.slots = 2000;
  options.overflow_grid = false;
  RunSingle(&model, options);
  EXPECT_TRUE(model.ok()) << "seed " << seed << "\n" << Describe(model);
  hak_trim(0);
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  EXPECT_EQ(hak_stats_get(&stats), 0);
  return stats.mapped_bytes;
}

TEST(StatefulRandom, CyclesDoNotGrow) {
  const uint64_t seed = TestSeed(kFirstSeed);
  const uint64_t first = MappedAfterCycle(seed);
  uint64_t last = first;
  for (int cycle = 0; cycle < 6; ++cycle) last = MappedAfterCycle(seed);
  // The program is the same each time. One superslab more can be caused by placement; two are growth.
  EXPECT_LE(last, first + (uint64_t{2} << 20));
}

TEST(StatsGet, RefusesWhatItCannotFill) {
  EXPECT_EQ(hak_stats_get(nullptr), EINVAL);
  hak_stats stats = {};
  stats.version = 0;
  EXPECT_EQ(hak_stats_get(&stats), EINVAL);
  stats.version = HAK_STATS_VERSION + 7;
  EXPECT_EQ(hak_stats_get(&stats), 0);
  EXPECT_EQ(stats.version, static_cast<uint32_t>(HAK_STATS_VERSION));
}

TEST(NullAndZero, AreHandled) {
  errno = kErrnoBefore;
  hak_free(nullptr);
  hak_free_sized(nullptr, 8);
  hak_free_aligned_sized(nullptr, 16, 16);
  EXPECT_EQ(hak_usable_size(nullptr), 0U);
  void *p = hak_malloc(0);
  void *q = hak_malloc(0);
  ASSERT_NE(p, nullptr);
  ASSERT_NE(q, nullptr);
  EXPECT_NE(p, q);
  hak_free(p);
  hak_free(q);
  EXPECT_EQ(errno, kErrnoBefore);
  ASSERT_NE(hak_version(), nullptr);
  const std::string version = std::to_string(HAK_VERSION_MAJOR) + "." + std::to_string(HAK_VERSION_MINOR) + "." +
                              std::to_string(HAK_VERSION_PATCH) + " ";
  EXPECT_EQ(std::string(hak_version()).rfind(version, 0), 0U) << hak_version();
}

// ---- Positive controls --------------------------------------------------------------------------

struct Control {
  const char *name;
  Bug bug;
  Oracle oracle;
  bool threads;
};

void PrintTo(const Control &control, std::ostream *out) { *out << control.name; }

class PlantedBug : public testing::TestWithParam<Control> {};

TEST_P(PlantedBug, IsFound) {
  const Control &control = GetParam();
  HeapModel model(PlantBug(control.bug));
  if (control.threads) {
    ThreadsOptions options;
    options.operations = 1000;
    options.rounds = 2;
    RunThreads(&model, options);
  } else {
    SingleOptions options;
    options.operations = 3000;
    options.slots = 100;
    options.verify_every = 500;
    RunSingle(&model, options);
  }
  const std::vector<Violation> violations = model.violations();
  ASSERT_FALSE(violations.empty()) << control.name << " was not noticed";
  // With one thread the bug's own check finds it first. With several threads it may be another check: a block that two
  // threads got has the wrong size for one of them before the other has recorded it.
  const auto is_own = [&](const Violation &violation) { return violation.oracle == control.oracle; };
  const auto end = control.threads ? violations.end() : violations.begin() + 1;
  EXPECT_TRUE(std::any_of(violations.begin(), end, is_own)) << OracleName(control.oracle) << '\n' << Describe(model);
}

INSTANTIATE_TEST_SUITE_P(
    EachOracle, PlantedBug,
    testing::Values(Control{"Scribble", Bug::kScribble, Oracle::kContents, false},
                    Control{"Overlap", Bug::kOverlap, Oracle::kOverlap, false},
                    Control{"Duplicate", Bug::kDuplicate, Oracle::kOverlap, false},
                    Control{"DuplicateThreads", Bug::kDuplicate, Oracle::kOverlap, true},
                    Control{"Misaligned", Bug::kMisaligned, Oracle::kAlignment, false},
                    Control{"MisalignedAligned", Bug::kMisalignedAligned, Oracle::kAlignment, false},
                    Control{"UsableTooSmall", Bug::kUsableTooSmall, Oracle::kUsable, false},
                    Control{"UsableUnstable", Bug::kUsableUnstable, Oracle::kUsable, false},
                    Control{"GoodSizeWrong", Bug::kGoodSizeWrong, Oracle::kUsable, false},
                    Control{"ReallocLoses", Bug::kReallocLoses, Oracle::kRealloc, false},
                    Control{"ReallocZeroKeeps", Bug::kReallocZeroKeeps, Oracle::kRealloc, false},
                    Control{"InPlaceMoves", Bug::kInPlaceMoves, Oracle::kRealloc, false},
                    Control{"FailedReallocTouches", Bug::kFailedReallocTouches, Oracle::kContents, false},
                    Control{"DirtyCalloc", Bug::kDirtyCalloc, Oracle::kZero, false},
                    Control{"MallocSetsErrno", Bug::kMallocSetsErrno, Oracle::kErrno, false},
                    Control{"FreeSetsErrno", Bug::kFreeSetsErrno, Oracle::kErrno, false},
                    Control{"WrongErrno", Bug::kWrongErrno, Oracle::kErrno, false},
                    Control{"PosixWritesOut", Bug::kPosixWritesOut, Oracle::kErrno, false},
                    Control{"PosixSetsErrno", Bug::kPosixSetsErrno, Oracle::kErrno, false},
                    Control{"HugeSucceeds", Bug::kHugeSucceeds, Oracle::kOverflow, false},
                    Control{"CallocWraps", Bug::kCallocWraps, Oracle::kOverflow, false},
                    Control{"ReallocArrayWraps", Bug::kReallocArrayWraps, Oracle::kOverflow, false},
                    Control{"TopAlignment", Bug::kTopAlignment, Oracle::kOverflow, false},
                    Control{"OddAlignment", Bug::kOddAlignment, Oracle::kOverflow, false},
                    Control{"StatsBlocks", Bug::kStatsBlocks, Oracle::kStatistics, false},
                    Control{"StatsBytes", Bug::kStatsBytes, Oracle::kStatistics, false},
                    Control{"LostFree", Bug::kLostFree, Oracle::kStatistics, false},
                    Control{"LostRemoteFree", Bug::kLostRemoteFree, Oracle::kStatistics, true},
                    Control{"VerifyFails", Bug::kVerifyFails, Oracle::kVerify, false},
                    Control{"FailsAtRandom", Bug::kFailsAtRandom, Oracle::kAvailability, false},
                    Control{"OwnsDenies", Bug::kOwnsDenies, Oracle::kOwns, false},
                    Control{"OwnsInside", Bug::kOwnsInside, Oracle::kOwns, false}),
    [](const testing::TestParamInfo<Control> &tested) { return std::string(tested.param.name); });

// The wrapper without a bug passes.
TEST(PlantedBugs, WrapperAlonePasses) {
  HeapModel single(PlantBug(Bug::kNone));
  SingleOptions options;
  options.operations = 3000;
  options.slots = 100;
  options.verify_every = 500;
  RunSingle(&single, options);
  EXPECT_TRUE(single.ok()) << Describe(single);

  HeapModel threads(PlantBug(Bug::kNone));
  ThreadsOptions threads_options;
  threads_options.operations = 500;
  threads_options.rounds = 2;
  RunThreads(&threads, threads_options);
  EXPECT_TRUE(threads.ok()) << Describe(threads);
}

}  // namespace
}  // namespace hak_test
