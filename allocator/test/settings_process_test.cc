// SPDX-License-Identifier: Apache-2.0
//
// Settings in a process: what hak_config_get returns for them, and their effects on the statistics of hak_stats_get.
// Each case is a process of its own with its settings in the environment.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "allocator/test/kernel_support.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;

using Environment = std::vector<std::string>;

// ---- In the child -------------------------------------------------------------------------------

const char *const kNames[] = {"HAKMEM_PROFILE",         "HAKMEM_SS_MEM_LEAN", "HAKMEM_SS_MEM_LEAN_DECOMMIT",
                              "HAKMEM_THREAD_CACHE_KB", "HAKMEM_SS_PREWARM",  "HAKMEM_DECOMMIT_DEADLINE_MS",
                              "HAKMEM_MEMORY_LIMIT_MB"};

// Frees 24 MiB of small blocks, and prints the settings and the statistics.
int Statistics() {
  std::vector<void *> blocks;
  for (uint64_t bytes = 0; bytes < 24 * kMib; bytes += 500) {
    blocks.push_back(hak_malloc(500));
    memset(blocks.back(), 1, 500);
  }
  for (void *block : blocks) hak_free(block);
  for (const char *name : kNames) {
    const char *origin = "";
    const char *value = hak_config_get(name, &origin);
    printf("%s=%s (%s)\n", name, value != nullptr ? value : "", origin);
  }
  const hak_stats stats = Stats();
  printf("prewarmed=%llu\nskipped=%llu\n", static_cast<unsigned long long>(stats.superslabs_prewarmed),
         static_cast<unsigned long long>(stats.prewarm_skipped));
  printf("lazy=%llu\nlean=%llu\nlean_decommits=%llu\n", static_cast<unsigned long long>(stats.lazy_bytes),
         static_cast<unsigned long long>(stats.lean_bytes), static_cast<unsigned long long>(stats.lean_decommits));
  return hak_heap_verify() ? 0 : 1;
}

// A heap that is the same in every run, for the output at exit.
int Dump() {
  static void *kept[10];
  for (void *&block : kept) block = hak_malloc(100);
  kept[0] = hak_malloc(5 * kMib);
  return 0;
}

// ---- In the test --------------------------------------------------------------------------------

class Settings : public testing::Test {
 protected:
  void SetUp() override {
    if (!CanRunSelf()) GTEST_SKIP() << "this emulator cannot start itself";
  }
  static Outcome Run(const Environment &environment) {
    Outcome outcome = RunSelf({"--child=statistics"}, environment);
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    EXPECT_EQ(outcome.err, "");
    return outcome;
  }
  // FAST ignores the environment; there the value is `fast`.
  static void ExpectValue(const Outcome &outcome, const std::string &name, const std::string &value,
                          const std::string &fast) {
    const std::string line = name + "=" + (IsFastBuild() ? fast + " (fixed in this build)" : value) + "\n";
    EXPECT_NE(outcome.out.find(line), std::string::npos) << "no line " << line << outcome;
  }
};

TEST_F(Settings, TellTheirValuesAndOrigins) {
  const Outcome plain = Run({});
  ExpectValue(plain, "HAKMEM_PROFILE", "balanced (default)", "balanced");
  ExpectValue(plain, "HAKMEM_THREAD_CACHE_KB", "4096 (default)", "4096");
  ExpectValue(plain, "HAKMEM_SS_MEM_LEAN_DECOMMIT", "OFF (default)", "OFF");
  const Outcome lean = Run({"HAKMEM_PROFILE=lean", "HAKMEM_THREAD_CACHE_KB=77", "HAKMEM_MEMORY_LIMIT_MB=4000"});
  ExpectValue(lean, "HAKMEM_PROFILE", "lean (environment)", "balanced");
  ExpectValue(lean, "HAKMEM_THREAD_CACHE_KB", "77 (environment)", "4096");
  ExpectValue(lean, "HAKMEM_SS_MEM_LEAN_DECOMMIT", "DONTNEED (preset)", "OFF");
  ExpectValue(lean, "HAKMEM_DECOMMIT_DEADLINE_MS", "0 (preset)", "1000");
  ExpectValue(lean, "HAKMEM_MEMORY_LIMIT_MB", "4000 (environment)", "0");
  // The default's value, but given explicitly.
  ExpectValue(Run({"HAKMEM_SS_MEM_LEAN=1"}), "HAKMEM_SS_MEM_LEAN", "1 (environment)", "1");
}

TEST_F(Settings, TellNothingOfWhatIsNoGate) {
  const char *origin = "untouched";
  EXPECT_EQ(hak_config_get("HAKMEM_NO_SUCH_GATE", &origin), nullptr);
  EXPECT_EQ(hak_config_get("HAKMEM_PROFIL", &origin), nullptr);
  EXPECT_EQ(hak_config_get("", &origin), nullptr);
  EXPECT_EQ(hak_config_get(nullptr, &origin), nullptr);
  EXPECT_STREQ(origin, "untouched");
  EXPECT_NE(hak_config_get("HAKMEM_PROFILE", nullptr), nullptr);
}

// A statistic with this environment, or, in FAST, the one of the preset balanced.
void ExpectFigure(const Outcome &outcome, const char *name, uint64_t value, uint64_t fast) {
  EXPECT_EQ(NumberOf(outcome.out, name), IsFastBuild() ? fast : value) << name << "\n" << outcome;
}

TEST_F(Settings, PrewarmAndItsSuppression) {
  const Outcome balanced = Run({});
  ExpectFigure(balanced, "prewarmed", 0, 0);
  ExpectFigure(balanced, "skipped", 1, 1);
  const Outcome speed = Run({"HAKMEM_PROFILE=speed"});
  if (!FillsOnDemand()) GTEST_SKIP() << "this kernel does not fill memory on demand (MADV_POPULATE_WRITE)";
  ExpectFigure(speed, "prewarmed", 1, 0);
  ExpectFigure(speed, "skipped", 0, 1);
  const Outcome asked = Run({"HAKMEM_SS_PREWARM=3"});  // LEAN comes only from the preset
  ExpectFigure(asked, "prewarmed", 3, 0);
  ExpectFigure(asked, "skipped", 0, 1);
  const Outcome lean = Run({"HAKMEM_PROFILE=lean", "HAKMEM_SS_PREWARM=2"});
  ExpectFigure(lean, "prewarmed", 2, 0);
  const Outcome both = Run({"HAKMEM_SS_MEM_LEAN=1", "HAKMEM_SS_PREWARM=3"});
  ExpectFigure(both, "prewarmed", 0, 0);
  ExpectFigure(both, "skipped", 3, 1);
  const Outcome none = Run({"HAKMEM_SS_MEM_LEAN=0", "HAKMEM_SS_PREWARM=0"});
  ExpectFigure(none, "prewarmed", 0, 0);
  ExpectFigure(none, "skipped", 0, 1);
}

TEST_F(Settings, LeanGivesBackAsItIsTold) {
  const Environment lean = {"HAKMEM_SS_MEM_LEAN=1", "HAKMEM_SS_MEM_LEAN_TARGET_MB=1",
                            "HAKMEM_DECOMMIT_DEADLINE_MS=3600000"};
  const auto with = [&](const char *mode) {
    Environment all = lean;
    all.push_back(std::string("HAKMEM_SS_MEM_LEAN_DECOMMIT=") + mode);
    return Run(all);
  };
  const Outcome off = with("OFF");
  EXPECT_EQ(NumberOf(off.out, "lazy"), 0U) << off;
  EXPECT_EQ(NumberOf(off.out, "lean"), 0U) << off;
  EXPECT_EQ(NumberOf(off.out, "lean_decommits"), 0U) << off;
  const Outcome dontneed = with("DONTNEED");
  const Outcome free = with("FREE");
  if (IsFastBuild()) {
    EXPECT_EQ(NumberOf(dontneed.out, "lean"), 0U) << dontneed;
    EXPECT_EQ(NumberOf(free.out, "lazy"), 0U) << free;
    return;
  }
  EXPECT_EQ(NumberOf(dontneed.out, "lazy"), 0U) << dontneed;
  EXPECT_GT(NumberOf(dontneed.out, "lean"), 8 * kMib) << dontneed;
  EXPECT_GT(NumberOf(dontneed.out, "lean_decommits"), 0U) << dontneed;
  EXPECT_GT(NumberOf(free.out, "lazy"), 8 * kMib) << free;
  // HAKMEM_SS_MEM_LEAN decides: the mode alone does nothing.
  const Outcome not_lean = Run({"HAKMEM_SS_MEM_LEAN=0", "HAKMEM_SS_MEM_LEAN_DECOMMIT=DONTNEED",
                                "HAKMEM_SS_MEM_LEAN_TARGET_MB=1", "HAKMEM_DECOMMIT_DEADLINE_MS=3600000"});
  EXPECT_EQ(NumberOf(not_lean.out, "lean"), 0U) << not_lean;
}

// All fields of hak_stats but the first two have 64 bits.
constexpr size_t kFigures = 1 + (sizeof(hak_stats) - 2 * sizeof(uint32_t)) / sizeof(uint64_t);

TEST_F(Settings, StatisticsAtExitNameEachFigureOnce) {
  const Outcome silent = RunSelf({"--child=dump"}, {"HAKMEM_STATS_AT_EXIT=0"});
  EXPECT_EQ(silent.exit_code, 0);
  EXPECT_EQ(silent.err, "");
  // Without samples: a small block with guard pages would count as a large one.
  const Outcome outcome = RunSelf({"--child=dump"}, {"HAKMEM_STATS_AT_EXIT=1", "HAKMEM_GUARD_SAMPLE=0"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.out, "");
  if (IsFastBuild()) {
    EXPECT_EQ(outcome.err, "");
    return;
  }
  std::set<std::string> names;
  std::istringstream lines(outcome.err);
  size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    char name[64] = {};
    unsigned long long value = 0;
    int end = 0;
    ASSERT_EQ(sscanf(line.c_str(), "hakmem: %63[a-z_]=%llu%n", name, &value, &end), 2) << line;
    ASSERT_EQ(static_cast<size_t>(end), line.size()) << line;
    EXPECT_TRUE(names.insert(name).second) << "twice: " << name;
  }
  EXPECT_EQ(count, kFigures) << outcome;
  EXPECT_EQ(NumberOf(outcome.err, "hakmem: threads"), 1U);
  EXPECT_EQ(NumberOf(outcome.err, "hakmem: live_blocks"), 11U);
  EXPECT_EQ(NumberOf(outcome.err, "hakmem: large_blocks"), 1U);
  EXPECT_GE(NumberOf(outcome.err, "hakmem: live_bytes"), 5 * kMib + 1000);
  EXPECT_GT(NumberOf(outcome.err, "hakmem: os_calls"), 0U);
}

// ---- Versions of the structure ------------------------------------------------------------------

constexpr size_t kVersion1Bytes = offsetof(hak_stats, heap_free_bytes);

// The structure, followed by bytes that must not change.
struct Guarded {
  hak_stats stats;
  unsigned char guard[64];

  int Get(uint32_t version) {
    memset(this, 0xA5, sizeof *this);
    stats.version = version;
    return hak_stats_get(&stats);
  }
  const unsigned char *Bytes() const { return reinterpret_cast<const unsigned char *>(this); }
  // The number of bytes up to the last one that was written. No statistic is all 0xA5.
  size_t Written() const {
    size_t end = sizeof *this;
    while (end > 0 && Bytes()[end - 1] == 0xA5) --end;
    return end;
  }
};
static_assert(offsetof(Guarded, guard) == sizeof(hak_stats), "right behind it");

TEST(StatisticsVersions, AnOldCallerGetsWhatItKnows) {
  void *block = hak_malloc(1000);
  Guarded guarded;
  EXPECT_EQ(guarded.Get(1), 0);
  EXPECT_EQ(guarded.stats.version, 1U);
  EXPECT_EQ(guarded.Written(), kVersion1Bytes);
  const hak_stats all = Stats();
  // Nothing happened between the calls, so the common part is equal except for the version.
  EXPECT_EQ(memcmp(guarded.Bytes() + 4, reinterpret_cast<const unsigned char *>(&all) + 4, kVersion1Bytes - 4), 0);
  EXPECT_GE(all.live_blocks, 1U);
  hak_free(block);
}

TEST(StatisticsVersions, TheVersionIsLoweredToWhatTheLibraryKnows) {
  Guarded guarded;
  for (const uint32_t version : {uint32_t{HAK_STATS_VERSION}, HAK_STATS_VERSION + 1U, UINT32_MAX}) {
    EXPECT_EQ(guarded.Get(version), 0);
    EXPECT_EQ(guarded.stats.version, uint32_t{HAK_STATS_VERSION});
    EXPECT_EQ(guarded.Written(), sizeof(hak_stats));
  }
}

TEST(StatisticsVersions, WithoutAVersionNothingIsWritten) {
  Guarded guarded;
  EXPECT_EQ(guarded.Get(0), EINVAL);
  EXPECT_EQ(guarded.stats.version, 0U);
  EXPECT_EQ(guarded.Written(), sizeof(uint32_t));
  EXPECT_EQ(hak_stats_get(nullptr), EINVAL);
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--child=statistics") == 0) return hak_test::Statistics();
  if (argc == 2 && strcmp(argv[1], "--child=dump") == 0) return hak_test::Dump();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
