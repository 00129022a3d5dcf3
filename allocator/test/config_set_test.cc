// SPDX-License-Identifier: Apache-2.0
//
// hak_config_set in a running process: the effect of each kind of setting.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <string.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;

std::string Value(const char *name) { return hak_config_get(name, nullptr); }
std::string Origin(const char *name) {
  const char *origin = nullptr;
  hak_config_get(name, &origin);
  return origin;
}

class ConfigSet : public testing::Test {
 protected:
  void SetUp() override {
    if (IsFastBuild()) GTEST_SKIP() << "values are fixed";
  }
  // Restores the values that the settings had.
  void TearDown() override {
    if (IsFastBuild()) return;
    for (const auto &[name, value] : before_) EXPECT_EQ(hak_config_set(name.c_str(), value.c_str()), 0) << name;
    hak_trim(0);
    EXPECT_TRUE(hak_heap_verify());
  }
  void Set(const char *name, const char *value) {
    before_.emplace(name, Value(name));
    ASSERT_EQ(hak_config_set(name, value), 0) << name;
    EXPECT_EQ(Value(name), value);
    EXPECT_EQ(Origin(name), "hak_config_set");
  }

 private:
  std::map<std::string, std::string> before_;
};

// Takes and frees this many bytes of small blocks.
void GrowAndFree(uint64_t bytes) {
  std::vector<Stamped> blocks;
  for (uint64_t taken = 0; taken < bytes; taken += 500) {
    blocks.emplace_back();
    ASSERT_TRUE(blocks.back().New(500, blocks.size()));
  }
  for (Stamped &block : blocks) ASSERT_TRUE(block.Free());
}

TEST(ConfigSetRefuses, WhatItCannotChange) {
  errno = 77;
  EXPECT_EQ(hak_config_set(nullptr, "1"), EINVAL);
  EXPECT_EQ(hak_config_set("HAKMEM_BORROW", nullptr), EINVAL);
  EXPECT_EQ(hak_config_set("HAKMEM_NO_SUCH_GATE", "1"), EINVAL);
  EXPECT_EQ(hak_config_set("HAKMEM_BORROW", "2"), EINVAL);
  EXPECT_EQ(hak_config_set("HAKMEM_SLAB_MAP", "flat"), EPERM);
  EXPECT_EQ(hak_config_set("HAKMEM_BORROW", "1"), IsFastBuild() ? EPERM : 0);
  EXPECT_EQ(errno, 77);
}

TEST_F(ConfigSet, AShorterDeadlineGivesBackWhatIsKept) {
  Set("HAKMEM_SS_MEM_LEAN", "0");
  Set("HAKMEM_DECOMMIT_DEADLINE_MS", "3600000");
  Set("HAKMEM_PAGE_PURGE", "0");
  GrowAndFree(24 * kMib);
  hak_thread_flush();
  const uint64_t kept = Stats().committed_bytes;
  EXPECT_GT(kept, 20 * kMib);
  Set("HAKMEM_DECOMMIT_DEADLINE_MS", "0");
  // Later calls that use the pool of slabs return the memory.
  for (int i = 0; i < 200 && Stats().committed_bytes > kept / 2; i++) {
    GrowAndFree(256 * 1024);
    hak_thread_flush();
  }
  EXPECT_LT(Stats().committed_bytes, kept / 2);
}

TEST_F(ConfigSet, FreedLargeBlocksCanBeKeptOrNot) {
  if (IsHardenedBuild() || strstr(hak_version(), " observe ") != nullptr) GTEST_SKIP() << "freed ones stay closed";
  Set("HAKMEM_DECOMMIT_DEADLINE_MS", "3600000");
  const auto large = [] {
    Stamped block;
    ASSERT_TRUE(block.New(5 * kMib, 1));
    ASSERT_TRUE(block.Free());
  };
  Set("HAKMEM_MAPPING_CACHE_KB", "0");
  hak_trim(0);
  const uint64_t before = Stats().committed_bytes;
  large();
  EXPECT_LE(Stats().committed_bytes, before + 2 * kMib) << "records of the first large block among them";
  Set("HAKMEM_MAPPING_CACHE_KB", "32768");
  large();
  EXPECT_GE(Stats().committed_bytes, before + 4 * kMib);
}

TEST_F(ConfigSet, AMemoryLimitHoldsFromThenOn) {
  if (ResidentBytes() == 0) GTEST_SKIP() << "/proc does not tell what is in use";
  const uint64_t in_use = ResidentBytes() / kMib;
  const hak_stats before = Stats();
  Set("HAKMEM_CGROUP_LIMIT",
      "0");  // otherwise the group's limit is read again when the heap grows, and this limit with it
  Set("HAKMEM_MEMORY_LIMIT_MB", std::to_string(in_use + 64).c_str());
  errno = 0;
  void *block = hak_malloc((in_use + 128) * kMib);
  EXPECT_EQ(block, nullptr);
  EXPECT_EQ(errno, ENOMEM);
  hak_free(block);
  // Small blocks end at the limit too, and all memory is returned afterwards.
  std::vector<Stamped> blocks;
  for (uint64_t id = 0;; id++) {
    Stamped next;
    if (!next.New(1000, id)) break;
    blocks.push_back(next);
    ASSERT_LT(blocks.size() * 1000, (in_use + 128) * kMib) << "no limit";
  }
  EXPECT_GT(Stats().limit_refusals, before.limit_refusals);
  EXPECT_GT(Stats().limit_purges, before.limit_purges) << "nothing was returned near the new limit";
  for (Stamped &each : blocks) EXPECT_TRUE(each.Free());
  Set("HAKMEM_MEMORY_LIMIT_MB", "0");
  block = hak_malloc((in_use + 128) * kMib);
  EXPECT_NE(block, nullptr);
  hak_free(block);
}

TEST_F(ConfigSet, ThreadCachesGrowToANewBound) {
  Set("HAKMEM_THREAD_CACHE_SHARE", "0");
  Set("HAKMEM_THREAD_CACHE_KB", "0");
  hak_thread_flush();
  const auto cached = [] {
    uint64_t most = 0;
    std::thread([&most] {
      GrowAndFree(4 * kMib);
      GrowAndFree(4 * kMib);
      most = Stats().cached_bytes;
    }).join();
    return most;
  };
  const uint64_t least = cached();
  Set("HAKMEM_THREAD_CACHE_KB", "4096");
  EXPECT_GT(cached(), least + 50000);
}

TEST_F(ConfigSet, ThePurgeThreadComesAndGoes) {
  if (PurgeThread() != 0) GTEST_SKIP() << "it is there already";
  for (int round = 0; round < 2; round++) {
    Set("HAKMEM_BACKGROUND", "1");
    EXPECT_TRUE(WaitUntil([] { return PurgeThread() != 0; }));
    Set("HAKMEM_BACKGROUND", "0");
    EXPECT_TRUE(WaitUntil([] { return PurgeThread() == 0; }));
  }
  // The thread must wait for work, not only sleep between two rounds.
  Set("HAKMEM_DECOMMIT_DEADLINE_MS", "0");
  Set("HAKMEM_IDLE_CACHE_MS", "1");
  Set("HAKMEM_BACKGROUND", "1");
  uint64_t rounds = 0;
  EXPECT_TRUE(WaitUntil(
      [&rounds] {
        const uint64_t before = rounds;
        rounds = Stats().background_rounds;
        return rounds != 0 && rounds == before;
      },
      20, 200));
  Set("HAKMEM_BACKGROUND", "0");
  EXPECT_TRUE(WaitUntil([] { return PurgeThread() == 0; }));
  // The setting is switched off and on again before the thread has noticed.
  for (int i = 0; i < 100; i++) {
    ASSERT_EQ(hak_config_set("HAKMEM_BACKGROUND", i % 2 != 0 ? "1" : "0"), 0);
    if (i % 10 == 0) SleepMs(3);
  }
  EXPECT_TRUE(WaitUntil([] { return PurgeThread() != 0; }));
  SleepMs(600);
  EXPECT_NE(PurgeThread(), 0);
}

struct Setting {
  const char *name;
  std::vector<std::string> values;
};

// Each setting that may change at any time, with values of all kinds.
std::vector<Setting> SettingsThatMayChange() {
  enum { HAK_GATE_AT_START, HAK_GATE_ANY_TIME };
  // Other values would refuse every request, guard every block, or print.
  const std::map<std::string, std::vector<std::string>> own = {
      {"HAKMEM_MEMORY_LIMIT_MB", {"0", "100000", "200000"}},
      {"HAKMEM_SOFT_LIMIT_MB", {"0", "1", "4", "100000"}},
      {"HAKMEM_GUARD_SAMPLE", {"0", "2", "2000"}},
      {"HAKMEM_STATS_AT_EXIT", {"0"}},
  };
  std::vector<Setting> settings;
  const auto add = [&](int change, const char *name, const std::vector<std::string> &values) {
    if (change == HAK_GATE_ANY_TIME) settings.push_back({name, own.count(name) != 0 ? own.at(name) : values});
  };
#define HAK_CHOICES(...) {__VA_ARGS__}
#define HAK_GATE_CHOICE(id, field, type, name, choices, balanced, speed, lean, rooms, change, works, text) \
  add(change, name, choices);
#define HAK_GATE_NUMBER(id, field, name, least, most, unit, balanced, speed, lean, rooms, change, works, text) \
  add(change, name,                                                                                            \
      {std::to_string(least), std::to_string(least + 1), std::to_string(balanced), std::to_string(speed),      \
       std::to_string(lean)});
#include "allocator/policy/gate_table.inc"
#undef HAK_CHOICES
  return settings;
}

// Threads allocate while all settings that can change are changed, as fast as possible.
TEST_F(ConfigSet, AnyTimeWhileThreadsAllocate) {
  const std::vector<Setting> settings = SettingsThatMayChange();
  EXPECT_GT(settings.size(), 10u);
  std::vector<std::string> before;
  for (const Setting &setting : settings) before.push_back(Value(setting.name));
  std::atomic<bool> stop{false};
  std::atomic<int> damaged{0};
  std::vector<std::thread> threads;
  for (uint64_t seed = 1; seed <= 3; seed++) {
    threads.emplace_back([&, seed] {
      Random random(TestSeed(seed));
      std::vector<Stamped> slots(200);
      for (uint64_t id = 0; !stop; id++) {
        Stamped &slot = slots[random.Index(slots.size())];
        if (slot.p != nullptr) {
          if (!slot.Free()) damaged++;
          continue;
        }
        const size_t size = random.OneIn(100) ? random.Index(3u << 20) : random.Index(2000);
        if (!slot.New(size, seed << 40 | id)) damaged++;
      }
      for (Stamped &slot : slots) damaged += !slot.Free();
    });
  }
  Random random(TestSeed(99));
  const uint64_t changes = Scaled(6000);
  for (uint64_t i = 0; i < changes; i++) {
    const Setting &setting = settings[random.Index(settings.size())];
    const std::string &value = setting.values[random.Index(setting.values.size())];
    ASSERT_EQ(hak_config_set(setting.name, value.c_str()), 0) << setting.name << '=' << value;
    if (i % 50 == 0) SleepMs(1);
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(damaged, 0);
  for (size_t i = 0; i < before.size(); i++) {
    ASSERT_EQ(hak_config_set(settings[i].name, before[i].c_str()), 0) << settings[i].name;
  }
}

}  // namespace
}  // namespace hak_test
