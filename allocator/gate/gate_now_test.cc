// SPDX-License-Identifier: Apache-2.0
#include "allocator/gate/gate_now.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "allocator/gate/gate_config.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"

namespace {

const hak_gate &Gate(uint32_t id) { return hak_gates[id]; }
bool AnyTime(uint32_t id) { return Gate(id).change == HAK_GATE_ANY_TIME; }

std::string Text(uint32_t id, uint64_t value) {
  return Gate(id).choices != nullptr ? Gate(id).choices[value] : std::to_string(value);
}

// Each test starts with the settings of `environment` and no others.
class GateNow : public testing::Test {
 protected:
  GateNow() { Resolve({}); }
  void Resolve(std::vector<std::string> environment, const char *program = nullptr, const char *build = nullptr) {
    std::vector<char *> strings;
    for (std::string &text : environment) strings.push_back(text.data());
    strings.push_back(nullptr);
    const hak_gate_sources sources = {strings.data(), program, build, false};
    hak_gate_resolve(&sources, &values_);
    hak_gate_fill_config(&values_, &hak_config);
    hak_gate_now_init(&values_);
  }
  static void Expect(uint32_t id, const std::string &value, const char *origin) {
    const char *told = nullptr;
    EXPECT_STREQ(hak_gate_get(Gate(id).name, &told), value.c_str()) << Gate(id).name;
    EXPECT_STREQ(told, HAK_FAST ? "fixed in this build" : origin) << Gate(id).name;
  }
  // What hak_config must be when the settings have these values, except the settings that are read only at the start.
  static void ExpectConfig(const hak_gate_values &values) {
    struct hak_config wanted;
    memset(&wanted, 0, sizeof wanted);
    hak_gate_fill_config(&values, &wanted);
#define EXPECT_FIELD(id, field)                          \
  if (AnyTime(HAK_GATE_##id)) {                          \
    EXPECT_EQ(hak_config.field, wanted.field) << #field; \
  }
#define HAK_GATE_NUMBER(id, field, ...) EXPECT_FIELD(id, field)
#define HAK_GATE_CHOICE(id, field, ...) EXPECT_FIELD(id, field)
#include "allocator/policy/gate_table.inc"
#undef EXPECT_FIELD
  }

  hak_gate_values values_;
};

TEST_F(GateNow, EachGateThatMayChangeTakesEffectByItself) {
  int changed = 0;
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    if (id == HAK_GATE_PROFILE) continue;
    Resolve({});
    const uint64_t before = values_.value[id];
    const uint64_t other = Gate(id).choices != nullptr ? (before == 0 ? 1 : 0)
                                                       : (before == Gate(id).most ? Gate(id).least : Gate(id).most);
    const int error = hak_gate_set(Gate(id).name, Text(id, other).c_str());
    EXPECT_EQ(error, AnyTime(id) && !HAK_FAST ? 0 : EPERM) << Gate(id).name;
    if (error == 0) {
      values_.value[id] = other;
      values_.origin[id] = HAK_GATE_FROM_CALL;
      changed++;
    }
    ExpectConfig(values_);
    for (uint32_t each = 0; each < HAK_GATE_COUNT; each++) {
      Expect(each, Text(each, values_.value[each]),
             hak_gate_origin_name(static_cast<hak_gate_origin>(values_.origin[each])));
    }
    if (HasFailure()) FAIL() << Gate(id).name;
  }
  EXPECT_GT(changed, HAK_FAST ? -1 : 10);
}

TEST_F(GateNow, BeatsEveryOtherSource) {
  if (HAK_FAST) GTEST_SKIP() << "values are fixed";
  Resolve({"HAKMEM_KEEP_SUPERSLABS=6"}, "keep_superslabs=5,keep_free_kb=100", "keep_superslabs=4,mapping_cache_kb=3");
  EXPECT_EQ(hak_gate_set("HAKMEM_KEEP_SUPERSLABS", "7"), 0);
  EXPECT_EQ(hak_gate_set("HAKMEM_KEEP_FREE_KB", "8"), 0);
  EXPECT_EQ(hak_gate_set("HAKMEM_MAPPING_CACHE_KB", "9"), 0);
  Expect(HAK_GATE_KEEP_SUPERSLABS, "7", "hak_config_set");
  Expect(HAK_GATE_KEEP_FREE, "8", "hak_config_set");
  Expect(HAK_GATE_MAPPING_CACHE, "9", "hak_config_set");
  EXPECT_EQ(hak_gate_set("HAKMEM_KEEP_SUPERSLABS", "6"), 0) << "the value that the environment has";
  Expect(HAK_GATE_KEEP_SUPERSLABS, "6", "hak_config_set");
}

TEST_F(GateNow, ThePresetReachesAllForWhichNobodyAsked) {
  if (HAK_FAST) GTEST_SKIP() << "values are fixed";
  Resolve({"HAKMEM_KEEP_SUPERSLABS=6"}, "keep_free_kb=100", "mapping_cache_kb=3");
  ASSERT_EQ(hak_gate_set("HAKMEM_THREAD_CACHE_KB", "77"), 0);
  for (const char *name : {"lean", "speed", "balanced", "MIXED_TINYV3_C7_SAFE"}) {
    ASSERT_EQ(hak_gate_set("HAKMEM_PROFILE", name), 0);
    uint64_t preset;
    ASSERT_TRUE(hak_gate_parse(&Gate(HAK_GATE_PROFILE), name, &preset));
    Expect(HAK_GATE_PROFILE, Text(HAK_GATE_PROFILE, preset), "hak_config_set");
    Expect(HAK_GATE_KEEP_SUPERSLABS, "6", "environment");
    Expect(HAK_GATE_KEEP_FREE, "100", "hak_conf");
    Expect(HAK_GATE_MAPPING_CACHE, "3", "//configs:conf");
    Expect(HAK_GATE_THREAD_CACHE, "77", "hak_config_set");
    const std::set<uint32_t> asked = {HAK_GATE_PROFILE, HAK_GATE_KEEP_SUPERSLABS, HAK_GATE_KEEP_FREE,
                                      HAK_GATE_MAPPING_CACHE, HAK_GATE_THREAD_CACHE};
    for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
      if (asked.count(id) != 0) continue;
      // Settings that are read only at the start do not change.
      const uint64_t value = Gate(id).preset[AnyTime(id) ? preset : uint64_t{HAK_PRESET_BALANCED}];
      Expect(id, Text(id, value), value != Gate(id).preset[HAK_PRESET_BALANCED] ? "preset" : "default");
    }
    EXPECT_EQ(hak_config.decommit_deadline_ms, Gate(HAK_GATE_DECOMMIT_DEADLINE).preset[preset]);
    EXPECT_EQ(hak_config.thread_cache_bytes, 77u * 1024);
  }
}

TEST_F(GateNow, WhatIsNotAcceptedChangesNothing) {
  ASSERT_EQ(hak_gate_set("HAKMEM_KEEP_SUPERSLABS", "3"), HAK_FAST ? EPERM : 0);
  const struct hak_config before = hak_config;
  for (const char *name : {"", "KEEP_SUPERSLABS", "hakmem_keep_superslabs", "HAKMEM_KEEP_SUPERSLABS ", "PATH"}) {
    EXPECT_EQ(hak_gate_set(name, "5"), EINVAL) << name;
  }
  for (const char *value : {"", "x", "-1", "1048577", "99999999999999999999", "5 ", "0x5"}) {
    EXPECT_EQ(hak_gate_set("HAKMEM_KEEP_SUPERSLABS", value), EINVAL) << value;
  }
  EXPECT_EQ(hak_gate_set("HAKMEM_PROFILE", "leaner"), EINVAL);
  EXPECT_EQ(hak_gate_set("HAKMEM_SLAB_MAP", "flatter"), EINVAL) << "the value is looked at first";
  EXPECT_EQ(hak_gate_set("HAKMEM_SLAB_MAP", "flat"), EPERM);
  EXPECT_EQ(memcmp(&before, &hak_config, sizeof before), 0);
  Expect(HAK_GATE_KEEP_SUPERSLABS, HAK_FAST ? "1" : "3", "hak_config_set");
  Expect(HAK_GATE_SLAB_MAP, "auto", "default");
}

TEST_F(GateNow, AMemoryLimitMustBeAboveWhatIsInUse) {
  if (HAK_FAST) GTEST_SKIP() << "values are fixed";
  if (hak_os_resident_bytes() == 0) GTEST_SKIP() << "/proc does not tell what is in use";
  EXPECT_EQ(hak_gate_set("HAKMEM_MEMORY_LIMIT_MB", "1"), EINVAL);
  EXPECT_EQ(hak_config.memory_limit_bytes, 0u);
  EXPECT_EQ(hak_gate_set("HAKMEM_MEMORY_LIMIT_MB", "100000"), 0);
  EXPECT_EQ(hak_config.memory_limit_bytes, uint64_t{100000} << 20);
  EXPECT_EQ(hak_gate_set("HAKMEM_MEMORY_LIMIT_MB", "0"), 0);
  EXPECT_EQ(hak_config.memory_limit_bytes, 0u);
}

TEST_F(GateNow, TakesSizesAndSwitchesInEachForm) {
  const int done = HAK_FAST ? EPERM : 0;
  EXPECT_EQ(hak_gate_set("HAKMEM_THREAD_CACHE_KB", "2m"), done);
  Expect(HAK_GATE_THREAD_CACHE, HAK_FAST ? "4096" : "2048", "hak_config_set");
  EXPECT_EQ(hak_config.thread_cache_bytes, HAK_FAST ? 4u << 20 : 2u << 20);
  EXPECT_EQ(hak_gate_set("HAKMEM_BORROW", "False"), done);
  Expect(HAK_GATE_BORROW, HAK_FAST ? "1" : "0", "hak_config_set");
  EXPECT_EQ(hak_gate_set("HAKMEM_THREAD_CACHE_KB", "1025M"), EINVAL);
  EXPECT_EQ(hak_gate_set("HAKMEM_CONF_STRICT", "1"), EPERM);
}

// More numbers than one page of texts holds. No text changes.
TEST_F(GateNow, TextsStay) {
  if (HAK_FAST) GTEST_SKIP() << "values are fixed";
  std::vector<const char *> texts;
  for (int round = 0; round < 2; round++) {
    for (size_t value = 0; value < 1000; value++) {
      ASSERT_EQ(hak_gate_set("HAKMEM_KEEP_SUPERSLABS", std::to_string(value).c_str()), 0);
      const char *text = hak_gate_get("HAKMEM_KEEP_SUPERSLABS", nullptr);
      if (round == 0) texts.push_back(text);
      EXPECT_EQ(text, texts[value]) << "the same number has the same text";
    }
  }
  for (size_t value = 0; value < texts.size(); value++) EXPECT_EQ(texts[value], std::to_string(value));
}

TEST_F(GateNow, WithoutMemoryForATextNothingChanges) {
  if (HAK_FAST) GTEST_SKIP() << "values are fixed";
  ASSERT_EQ(hak_gate_set("HAKMEM_KEEP_SUPERSLABS", "499999"), 0);
  hak_unit::FaultPlan plan(HAK_FAULT_MAP);
  int refused = 0;
  for (uint64_t value = 500000; value < 500000 + 1000 && refused < 3; value++) {
    const std::string before = hak_gate_get("HAKMEM_KEEP_SUPERSLABS", nullptr);
    const int error = hak_gate_set("HAKMEM_KEEP_SUPERSLABS", std::to_string(value).c_str());
    refused += error == ENOMEM;
    ASSERT_TRUE(error == 0 || error == ENOMEM);
    const std::string now = hak_gate_get("HAKMEM_KEEP_SUPERSLABS", nullptr);
    EXPECT_EQ(now, error == 0 ? std::to_string(value) : before);
    EXPECT_EQ(std::to_string(hak_config.keep_superslabs), now);
  }
  EXPECT_EQ(refused, 3);
  EXPECT_EQ(hak_gate_set("HAKMEM_KEEP_SUPERSLABS", "499999"), 0) << "a number that has a text";
}

// While one thread changes settings, others always read complete texts of accepted values.
TEST_F(GateNow, OthersReadMeanwhile) {
  if (HAK_FAST) GTEST_SKIP() << "values are fixed";
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> reads{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; i++) {
    readers.emplace_back([&] {
      while (!stop) {
        for (const hak_gate &gate : hak_gates) {
          const char *origin = nullptr;
          const char *text = hak_gate_get(gate.name, &origin);
          uint64_t value;
          ASSERT_TRUE(hak_gate_parse(&gate, text, &value)) << gate.name << '=' << text;
          ASSERT_NE(origin, nullptr);
          reads++;
        }
      }
    });
  }
  const int changes = hak_unit::Operations(4000);
  for (int i = 0; i < changes; i++) {
    EXPECT_EQ(hak_gate_set("HAKMEM_PROFILE", i % 2 != 0 ? "lean" : "speed"), 0);
    EXPECT_EQ(hak_gate_set("HAKMEM_DECOMMIT_DEADLINE_MS", std::to_string(i).c_str()), 0);
  }
  while (reads == 0) std::this_thread::yield();
  stop = true;
  for (std::thread &reader : readers) reader.join();
}

}  // namespace
