// SPDX-License-Identifier: Apache-2.0
//
// Not tested here: that a process with raised privileges ignores the environment (AT_SECURE); it takes a setuid
// program.
#include "allocator/gate/gate.h"

#include <gtest/gtest.h>
#include <stdint.h>
#include <stdlib.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "allocator/os/unit_test.h"

namespace {

constexpr uint64_t kUntouched = 0xABCDEF;

// The value that the gate reads in `text`, or kUntouched when it accepts none.
uint64_t Parse(uint32_t id, const char *text) {
  uint64_t value = kUntouched;
  const bool accepted = hak_gate_parse(&hak_gates[id], text, &value);
  EXPECT_EQ(accepted, value != kUntouched) << text;
  return value;
}

struct Resolved {
  hak_gate_values values;
  std::string messages;
};

Resolved Resolve(const std::vector<std::string> &environment) {
  std::vector<char *> strings;
  for (const std::string &entry : environment) strings.push_back(const_cast<char *>(entry.c_str()));
  strings.push_back(nullptr);
  Resolved resolved = {};
  testing::internal::CaptureStderr();
  hak_gate_resolve(strings.data(), &resolved.values);
  resolved.messages = testing::internal::GetCapturedStderr();
  return resolved;
}

TEST(GateTable, IsConsistent) {
  std::set<std::string> names;
  for (const hak_gate &gate : hak_gates) {
    ASSERT_NE(gate.name, nullptr);
    EXPECT_EQ(std::string(gate.name).rfind("HAKMEM_", 0), 0u) << gate.name;
    EXPECT_TRUE(names.insert(gate.name).second) << gate.name;
    EXPECT_FALSE(std::string(gate.text).empty()) << gate.name;
    uint64_t choices = 0;
    if (gate.choices != nullptr) {
      while (gate.choices[choices] != nullptr) choices++;
      EXPECT_GE(choices, 2u) << gate.name;
    } else {
      EXPECT_LT(gate.least, gate.most) << gate.name;
      EXPECT_NE(gate.unit, nullptr) << gate.name;
      EXPECT_LE(gate.most, uint64_t{INT64_MAX}) << gate.name << " is printed as a signed number";
    }
    for (const uint64_t value : gate.preset) {
      EXPECT_GE(value, gate.choices != nullptr ? 0 : gate.least) << gate.name;
      EXPECT_LE(value, gate.choices != nullptr ? choices - 1 : gate.most) << gate.name;
    }
  }
}

TEST(GateParse, EveryChoiceIsItsNumber) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    for (uint64_t i = 0; hak_gates[id].choices != nullptr && hak_gates[id].choices[i] != nullptr; i++) {
      EXPECT_EQ(Parse(id, hak_gates[id].choices[i]), i) << hak_gates[id].name;
    }
  }
}

TEST(GateParse, NumbersWithinTheirRange) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    const hak_gate &gate = hak_gates[id];
    if (gate.choices != nullptr) continue;
    EXPECT_EQ(Parse(id, std::to_string(gate.least).c_str()), gate.least) << gate.name;
    EXPECT_EQ(Parse(id, std::to_string(gate.most).c_str()), gate.most) << gate.name;
    EXPECT_EQ(Parse(id, std::to_string(gate.most + 1).c_str()), kUntouched) << gate.name;
    if (gate.least > 0) {
      EXPECT_EQ(Parse(id, std::to_string(gate.least - 1).c_str()), kUntouched) << gate.name;
    }
  }
}

TEST(GateParse, ANumberIsDigitsAndNothingElse) {
  EXPECT_EQ(Parse(HAK_GATE_DECOMMIT_DEADLINE, "0"), 0u);
  EXPECT_EQ(Parse(HAK_GATE_DECOMMIT_DEADLINE, "0012"), 12u);
  for (const char *text : {"",
                           " ",
                           "-1",
                           "-0",
                           "+1",
                           " 1",
                           "1 ",
                           "1\n",
                           "\t1",
                           "1.0",
                           "1e3",
                           "0x10",
                           "1k",
                           "1,000",
                           "one",
                           "\xC2\xB9",
                           "18446744073709551615",
                           "18446744073709551616",
                           "18446744073709551617",
                           "99999999999999999999999999999999999999"}) {
    EXPECT_EQ(Parse(HAK_GATE_DECOMMIT_DEADLINE, text), kUntouched) << '"' << text << '"';
  }
}

TEST(GateParse, AChoiceIsItsExactName) {
  for (const char *text : {"", "Speed", "SPEED", " speed", "speed ", "spee", "speedy", "0", "1", "speed,lean"}) {
    EXPECT_EQ(Parse(HAK_GATE_PROFILE, text), kUntouched) << '"' << text << '"';
  }
  for (const char *text : {"", "2", "00", "yes", "true", "-1"}) {
    EXPECT_EQ(Parse(HAK_GATE_SHOW_CONFIG, text), kUntouched) << '"' << text << '"';
  }
}

TEST(GateParse, AliasesBelongToTheirGateAlone) {
  EXPECT_EQ(Parse(HAK_GATE_PROFILE, "MIXED_TINYV3_C7_BALANCED"), uint64_t{HAK_PRESET_BALANCED});
  EXPECT_EQ(Parse(HAK_GATE_PROFILE, "MIXED_TINYV3_C7_SAFE"), uint64_t{HAK_PRESET_SPEED});
  EXPECT_EQ(Parse(HAK_GATE_PROFILE, "mixed_tinyv3_c7_safe"), kUntouched);
  EXPECT_EQ(Parse(HAK_GATE_SLAB_MAP, "MIXED_TINYV3_C7_SAFE"), kUntouched);
}

TEST(GateResolve, WithoutAnEnvironmentEverythingIsBalanced) {
  hak_gate_values values;
  hak_gate_resolve(nullptr, &values);
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    EXPECT_EQ(values.value[id], hak_gates[id].preset[HAK_PRESET_BALANCED]) << hak_gates[id].name;
    EXPECT_EQ(values.origin[id], HAK_GATE_BUILT_IN) << hak_gates[id].name;
  }
}

TEST(GateResolve, APresetSetsTheDefaultsOfTheOtherGates) {
  const struct {
    const char *entry;
    hak_preset preset;
  } cases[] = {
      {"HAKMEM_PROFILE=balanced", HAK_PRESET_BALANCED},
      {"HAKMEM_PROFILE=speed", HAK_PRESET_SPEED},
      {"HAKMEM_PROFILE=lean", HAK_PRESET_LEAN},
      {"HAKMEM_PROFILE=MIXED_TINYV3_C7_BALANCED", HAK_PRESET_BALANCED},
      {"HAKMEM_PROFILE=MIXED_TINYV3_C7_SAFE", HAK_PRESET_SPEED},
  };
  for (const auto &c : cases) {
    const Resolved resolved = Resolve({c.entry});
    EXPECT_EQ(resolved.messages, "");
    EXPECT_EQ(resolved.values.value[HAK_GATE_PROFILE], uint64_t{c.preset}) << c.entry;
    EXPECT_EQ(resolved.values.origin[HAK_GATE_PROFILE], HAK_GATE_FROM_ENVIRONMENT);
    for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
      if (id == HAK_GATE_PROFILE) continue;
      const hak_gate &gate = hak_gates[id];
      EXPECT_EQ(resolved.values.value[id], gate.preset[c.preset]) << c.entry << ' ' << gate.name;
      EXPECT_EQ(resolved.values.origin[id],
                gate.preset[c.preset] != gate.preset[HAK_PRESET_BALANCED] ? HAK_GATE_FROM_PRESET : HAK_GATE_BUILT_IN);
    }
  }
}

TEST(GateResolve, AGateOfItsOwnBeatsThePresetInAnyOrder) {
  for (const auto &environment : std::vector<std::vector<std::string>>{
           {"HAKMEM_DECOMMIT_DEADLINE_MS=77", "HAKMEM_PROFILE=speed"},
           {"HAKMEM_PROFILE=speed", "HAKMEM_DECOMMIT_DEADLINE_MS=77"},
       }) {
    const Resolved resolved = Resolve(environment);
    EXPECT_EQ(resolved.values.value[HAK_GATE_DECOMMIT_DEADLINE], 77u);
    EXPECT_EQ(resolved.values.origin[HAK_GATE_DECOMMIT_DEADLINE], HAK_GATE_FROM_ENVIRONMENT);
    EXPECT_EQ(resolved.values.value[HAK_GATE_KEEP_SUPERSLABS],
              hak_gates[HAK_GATE_KEEP_SUPERSLABS].preset[HAK_PRESET_SPEED]);
    EXPECT_EQ(resolved.messages, "");
  }
}

TEST(GateResolve, OnlyTheWholeNameCountsAndTheFirstEntryWins) {
  const Resolved resolved =
      Resolve({"HAKMEM_PROFILE", "HAKMEM_PROFIL=lean", "HAKMEM_PROFILES=lean", "XHAKMEM_PROFILE=lean", "=speed", "",
               "hakmem_profile=lean", "HAKMEM_PROFILE=speed", "HAKMEM_PROFILE=lean"});
  EXPECT_EQ(resolved.values.value[HAK_GATE_PROFILE], uint64_t{HAK_PRESET_SPEED});
  EXPECT_EQ(resolved.messages, "");
}

TEST(GateReport, ABadValueIsOneLineWithItsGateItselfAndWhatIsAccepted) {
  EXPECT_EQ(Resolve({"HAKMEM_PROFILE=bogus"}).messages,
            "hakmem: HAKMEM_PROFILE=\"bogus\" is not accepted; accepted: balanced, speed, lean; using balanced\n");
  EXPECT_EQ(Resolve({"HAKMEM_PROFILE="}).messages,
            "hakmem: HAKMEM_PROFILE=\"\" is not accepted; accepted: balanced, speed, lean; using balanced\n");
  EXPECT_EQ(Resolve({"HAKMEM_DECOMMIT_DEADLINE_MS=-5"}).messages,
            "hakmem: HAKMEM_DECOMMIT_DEADLINE_MS=\"-5\" is not accepted; accepted: 0 to 3600000 milliseconds; "
            "using 1000\n");
  EXPECT_EQ(Resolve({"HAKMEM_SHOW_CONFIG=2"}).messages,
            "hakmem: HAKMEM_SHOW_CONFIG=\"2\" is not accepted; accepted: 0, 1; using 0\n");
}

TEST(GateReport, UsesTheDefaultOfThePresetInstead) {
  const Resolved resolved = Resolve({"HAKMEM_DECOMMIT_DEADLINE_MS=3600001", "HAKMEM_PROFILE=speed"});
  EXPECT_EQ(resolved.messages,
            "hakmem: HAKMEM_DECOMMIT_DEADLINE_MS=\"3600001\" is not accepted; accepted: 0 to 3600000 milliseconds; "
            "using 10000\n");
  EXPECT_EQ(resolved.values.value[HAK_GATE_DECOMMIT_DEADLINE], 10000u);
  EXPECT_EQ(resolved.values.origin[HAK_GATE_DECOMMIT_DEADLINE], HAK_GATE_FROM_PRESET);
}

TEST(GateReport, EachBadGateHasItsLine) {
  std::vector<std::string> environment;
  for (const hak_gate &gate : hak_gates) environment.push_back(std::string(gate.name) + "=?");
  const Resolved resolved = Resolve(environment);
  EXPECT_EQ(std::count(resolved.messages.begin(), resolved.messages.end(), '\n'), HAK_GATE_COUNT);
  for (const hak_gate &gate : hak_gates) {
    EXPECT_NE(resolved.messages.find("hakmem: " + std::string(gate.name) + "=\"?\" is not accepted"),
              std::string::npos);
  }
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    EXPECT_EQ(resolved.values.value[id], hak_gates[id].preset[HAK_PRESET_BALANCED]);
  }
}

TEST(GateReport, UnprintableAndEndlessValuesStayOnePlainLine) {
  const Resolved control = Resolve({"HAKMEM_PROFILE=a\nb\x1b[2J\x7f\xff\r~ "});
  EXPECT_EQ(control.messages,
            "hakmem: HAKMEM_PROFILE=\"a?b?[2J???~ \" is not accepted; accepted: balanced, speed, lean; "
            "using balanced\n");
  const Resolved endless = Resolve({"HAKMEM_PROFILE=" + std::string(100000, 'z')});
  EXPECT_EQ(endless.messages, "hakmem: HAKMEM_PROFILE=\"" + std::string(64, 'z') +
                                  "\" is not accepted; accepted: balanced, speed, lean; using balanced\n");
}

std::string Show(const hak_gate_values &values) {
  testing::internal::CaptureStderr();
  hak_gate_show(&values);
  return testing::internal::GetCapturedStderr();
}

TEST(GateShow, PrintsEveryGateWithItsValueAndWhereItCameFrom) {
  const Resolved resolved = Resolve({"HAKMEM_PROFILE=speed", "HAKMEM_KEEP_SUPERSLABS=3"});
  const std::string text = Show(resolved.values);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), HAK_GATE_COUNT);
  const auto has = [&text](const std::string &line) {
    return text.find("hakmem: " + line + "\n") != std::string::npos;
  };
  // FAST builds have no live gates, so nothing came from anywhere.
  const auto from = [](const char *origin) { return std::string(HAK_FAST ? " (fixed in this build)" : origin); };
  EXPECT_TRUE(has("HAKMEM_PROFILE=speed" + from(" (environment)"))) << text;
  EXPECT_TRUE(has("HAKMEM_DECOMMIT_DEADLINE_MS=10000" + from(" (preset)"))) << text;
  EXPECT_TRUE(has("HAKMEM_KEEP_SUPERSLABS=3" + from(" (environment)"))) << text;
  EXPECT_TRUE(has("HAKMEM_SLAB_MAP=auto" + from(" (default)"))) << text;
}

class GateInit : public testing::Test {
 protected:
  GateInit() { Clear(); }
  ~GateInit() override { Clear(); }
  static void Clear() {
    for (const hak_gate &gate : hak_gates) unsetenv(gate.name);
  }
  static std::string Init() {
    testing::internal::CaptureStderr();
    hak_gate_init();
    return testing::internal::GetCapturedStderr();
  }
};

void ExpectConfig(hak_preset preset) {
  const auto value = [preset](uint32_t id) { return hak_gates[id].preset[preset]; };
  EXPECT_EQ(hak_config.decommit_deadline_ms, value(HAK_GATE_DECOMMIT_DEADLINE));
  EXPECT_EQ(hak_config.thread_cache_bytes, value(HAK_GATE_THREAD_CACHE) * 1024);
  EXPECT_EQ(hak_config.thread_cache_share, value(HAK_GATE_THREAD_CACHE_SHARE));
  EXPECT_EQ(hak_config.borrow, value(HAK_GATE_BORROW) != 0);
  EXPECT_EQ(hak_config.mapping_cache_bytes, value(HAK_GATE_MAPPING_CACHE) * 1024);
  EXPECT_EQ(hak_config.keep_superslabs, value(HAK_GATE_KEEP_SUPERSLABS));
  EXPECT_EQ(hak_config.slab_map_form, value(HAK_GATE_SLAB_MAP));
}

TEST_F(GateInit, ResolvesTheDefaults) {
  EXPECT_EQ(Init(), "");
  ExpectConfig(HAK_PRESET_BALANCED);
}

TEST_F(GateInit, ReadsTheEnvironmentUnlessTheGatesAreFixed) {
  setenv("HAKMEM_PROFILE", "lean", 1);
  setenv("HAKMEM_THREAD_CACHE_KB", "nonsense", 1);
  const std::string messages = Init();
  if (HAK_FAST) {
    EXPECT_EQ(messages, "");
    ExpectConfig(HAK_PRESET_BALANCED);
  } else {
    EXPECT_EQ(std::count(messages.begin(), messages.end(), '\n'), 1) << messages;
    ExpectConfig(HAK_PRESET_LEAN);
  }
}

TEST_F(GateInit, ShowsTheConfigurationInEveryProfile) {
  setenv("HAKMEM_SHOW_CONFIG", "0", 1);
  EXPECT_EQ(Init(), "");
  setenv("HAKMEM_SHOW_CONFIG", "1", 1);
  const std::string text = Init();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), HAK_GATE_COUNT) << text;
  EXPECT_NE(text.find("hakmem: HAKMEM_PROFILE=balanced ("), std::string::npos) << text;
}

}  // namespace
