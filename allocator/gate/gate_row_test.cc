// SPDX-License-Identifier: Apache-2.0
#include "allocator/gate/gate_row.h"

#include <gtest/gtest.h>
#include <stdint.h>
#include <string.h>

#include <set>
#include <string>

namespace {

constexpr uint64_t kUntouched = 0xABCDEF;

// The value of the setting in `text`, or kUntouched if it is not accepted.
uint64_t Parse(uint32_t id, const char *text) {
  uint64_t value = kUntouched;
  const bool accepted = hak_gate_parse(&hak_gates[id], text, &value);
  EXPECT_EQ(accepted, value != kUntouched) << text;
  return value;
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

TEST(GateTable, MarksWhatHasNoEffectInThisBuild) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    const bool not_in_fast = id == HAK_GATE_PROF || id == HAK_GATE_PROF_SAMPLE || id == HAK_GATE_AUTOPSY ||
                             id == HAK_GATE_DUMP_SIGNAL || id == HAK_GATE_STATS_PAGE || id == HAK_GATE_REPORT ||
                             id == HAK_GATE_PROF_DUMP_EVERY || id == HAK_GATE_PROF_DUMP_GROWTH ||
                             id == HAK_GATE_PROF_DUMP_FILES;
    const bool only_guarded = id == HAK_GATE_GUARD_REPORT || id == HAK_GATE_MISMATCH;
    const bool works = id == HAK_GATE_GUARD_SAMPLE ? HAK_HARDENED
                       : only_guarded              ? HAK_GUARDED
                                                   : !not_in_fast || !HAK_FAST;
    EXPECT_EQ(hak_gates[id].works, works) << hak_gates[id].name;
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
                           "18446744073709551620",
                           "18446744073709551621",
                           "99999999999999999999999999999999999999"}) {
    EXPECT_EQ(Parse(HAK_GATE_DECOMMIT_DEADLINE, text), kUntouched) << '"' << text << '"';
  }
}

TEST(GateParse, AChoiceIsItsExactName) {
  for (const char *text : {"", "Speed", "SPEED", " speed", "speed ", "spee", "speedy", "0", "1", "speed,lean"}) {
    EXPECT_EQ(Parse(HAK_GATE_PROFILE, text), kUntouched) << '"' << text << '"';
  }
}

TEST(GateParse, TheDecommitModesAreCapitals) {
  EXPECT_EQ(Parse(HAK_GATE_SS_MEM_LEAN_DECOMMIT, "OFF"), uint64_t{HAK_DECOMMIT_OFF});
  EXPECT_EQ(Parse(HAK_GATE_SS_MEM_LEAN_DECOMMIT, "FREE"), uint64_t{HAK_DECOMMIT_FREE});
  EXPECT_EQ(Parse(HAK_GATE_SS_MEM_LEAN_DECOMMIT, "DONTNEED"), uint64_t{HAK_DECOMMIT_DONTNEED});
  for (const char *text : {"off", "Off", "free", "Free", "dontneed", "DontNeed", "DONT_NEED", "MADV_DONTNEED",
                           "DONTNEED ", " FREE", "OFF,FREE", "0", "1", "2", "on", ""}) {
    EXPECT_EQ(Parse(HAK_GATE_SS_MEM_LEAN_DECOMMIT, text), kUntouched) << '"' << text << '"';
  }
}

TEST(GateParse, ASwitchHasFourNamesForEachValueInEitherCase) {
  int switches = 0;
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    const hak_gate &gate = hak_gates[id];
    const bool is_switch = gate.choices != nullptr && strcmp(gate.choices[0], "0") == 0;
    EXPECT_EQ(gate.is_switch, is_switch) << gate.name;
    switches += is_switch;
    for (const char *text : {"0", "off", "false", "no", "OFF", "False", "nO"}) {
      if (is_switch) {
        EXPECT_EQ(Parse(id, text), 0u) << gate.name << '=' << text;
      }
    }
    for (const char *text : {"1", "on", "true", "yes", "ON", "True", "yEs"}) {
      if (is_switch) {
        EXPECT_EQ(Parse(id, text), 1u) << gate.name << '=' << text;
      }
    }
  }
  EXPECT_GT(switches, 5);
  for (const char *text : {"", "2", "00", "01", "-1", "o", "of", "offf", "on ", " on", "y", "n", "t", "tru", "truee",
                           "enable", "on,off", "o\xCE\xBD"}) {
    EXPECT_EQ(Parse(HAK_GATE_SHOW_CONFIG, text), kUntouched) << '"' << text << '"';
  }
  // Words of a switch are no values of other choices, nor of numbers.
  for (const char *text : {"true", "false", "yes", "no", "ON", "Off"}) {
    EXPECT_EQ(Parse(HAK_GATE_THP, text), kUntouched) << text;
    EXPECT_EQ(Parse(HAK_GATE_SS_PREWARM, text), kUntouched) << text;
  }
}

TEST(GateParse, ASizeHasASuffix) {
  const struct {
    const char *text;
    uint64_t kib, mib;
  } sizes[] = {
      {"64K", 64, kUntouched},
      {"64k", 64, kUntouched},
      {"1024K", 1024, 1},
      {"1536K", 1536, kUntouched},
      {"512M", 512 * 1024, 512},
      {"512m", 512 * 1024, 512},
      {"1G", 1024 * 1024, 1024},
      {"1g", 1024 * 1024, 1024},
      {"0001g", 1024 * 1024, 1024},
      {"1T", kUntouched, 1024 * 1024},
      {"0K", 0, 0},
      {"0T", 0, 0},
      {"1048576K", 1048576, 1024},
      {"1048577K", kUntouched, kUntouched},
      {"1024G", kUntouched, 1048576},
      {"1025G", kUntouched, kUntouched},
      {"16777216T", kUntouched, kUntouched},              // 2^64 bytes
      {"18014398509481985K", kUntouched, kUntouched},     // 2^64 + 1,024 bytes
      {"18446744073709551617K", kUntouched, kUntouched},  // 2^64 + 1
  };
  ASSERT_STREQ(hak_gates[HAK_GATE_THREAD_CACHE].unit, "KiB");
  ASSERT_STREQ(hak_gates[HAK_GATE_SS_MEM_LEAN_TARGET].unit, "MiB");
  for (const auto &size : sizes) {
    EXPECT_EQ(Parse(HAK_GATE_THREAD_CACHE, size.text), size.kib) << size.text;
    EXPECT_EQ(Parse(HAK_GATE_SS_MEM_LEAN_TARGET, size.text), size.mib) << size.text;
  }
  EXPECT_EQ(Parse(HAK_GATE_MEMORY_LIMIT, "1G"), 1024u);
  EXPECT_EQ(Parse(HAK_GATE_MEMORY_LIMIT, "1024T"), 1073741824u);
  EXPECT_EQ(Parse(HAK_GATE_MEMORY_LIMIT, "1025T"), kUntouched);
}

TEST(GateParse, ASuffixIsOneLetterBehindASize) {
  for (const char *text : {"K",   "M",  "G",  "T",  "1 K", "1K ",  " 1K", "1KK", "1KB",  "1KiB",
                           "1Ki", "1B", "1P", "1E", "-1K", "1.5M", "K1",  "1K1", "0x1K", "1\xC3\x82"}) {
    EXPECT_EQ(Parse(HAK_GATE_THREAD_CACHE, text), kUntouched) << '"' << text << '"';
  }
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    if (hak_gate_scale(&hak_gates[id]) != 1) continue;
    for (const char *text : {"1K", "1M", "0K"}) EXPECT_EQ(Parse(id, text), kUntouched) << hak_gates[id].name;
  }
}

TEST(GateScale, IsThatOfTheUnit) {
  for (const hak_gate &gate : hak_gates) {
    const std::string unit = gate.unit != nullptr ? gate.unit : "";
    EXPECT_EQ(hak_gate_scale(&gate), unit == "KiB" ? 1024u : unit == "MiB" ? 1024u * 1024u : 1u) << gate.name;
  }
}

std::string Accepted(hak_gate_id id) {
  hak_line line = {};
  hak_gate_add_accepted(&line, &hak_gates[id]);
  return std::string(line.text, line.length);
}

TEST(GateAccepted, NamesEachForm) {
  EXPECT_EQ(Accepted(HAK_GATE_PROFILE), "balanced, speed, lean");
  EXPECT_EQ(Accepted(HAK_GATE_SHOW_CONFIG), "0, 1, off, on, false, true, no, yes");
  EXPECT_EQ(Accepted(HAK_GATE_DECOMMIT_DEADLINE), "0 to 3600000 milliseconds");
  EXPECT_EQ(Accepted(HAK_GATE_THREAD_CACHE), "0 to 1048576 KiB, or whole KiB with a suffix: K, M, G, T");
  EXPECT_EQ(Accepted(HAK_GATE_MEMORY_LIMIT), "0 to 1073741824 MiB, or whole MiB with a suffix: K, M, G, T");
}

// Nearest("x"): the name for the text "x", or "".
std::string Nearest(const std::string &text) {
  const char *name = hak_gate_nearest_name(text.data(), text.size());
  return name != nullptr ? name : "";
}

TEST(GateNearest, OfAMisspeltNameTheRightOne) {
  for (const hak_gate &gate : hak_gates) {
    const std::string name = gate.name;
    EXPECT_EQ(Nearest(name), name);
    EXPECT_EQ(Nearest(name + "S"), name);
    EXPECT_EQ(Nearest("HAKMEM_X" + name.substr(strlen("HAKMEM_"))), name);
    EXPECT_EQ(Nearest(name.substr(0, name.size() - 1)), name);
  }
  EXPECT_EQ(Nearest("HAKMEM_PRFOILE"), "HAKMEM_PROFILE");
  EXPECT_EQ(Nearest("HAKMEM_PRESETT"), "HAKMEM_PRESET");
  EXPECT_EQ(Nearest("HAKMEM_MEMORY_LIMIT"), "HAKMEM_MEMORY_LIMIT_MB");
  EXPECT_EQ(Nearest("HAKMEM_THREAD_CACHE"), "HAKMEM_THREAD_CACHE_KB");
  EXPECT_EQ(Nearest("HAKMEM_DECOMMIT_DEADLINE"), "HAKMEM_DECOMMIT_DEADLINE_MS");
  EXPECT_EQ(Nearest("HAKMEM_LEAN_DECOMMIT"), "HAKMEM_SS_MEM_LEAN_DECOMMIT");
}

TEST(GateNearest, WithOrWithoutThePrefixInEitherCase) {
  for (const char *text : {"HAKMEM_PROFIL", "PROFIL", "profil", "hakmem_profil", "Hakmem_Profil", "HAKMEM_profile"}) {
    EXPECT_EQ(Nearest(text), "HAKMEM_PROFILE") << text;
  }
}

TEST(GateNearest, OfAnythingElseNone) {
  for (const char *text : {"", "HAKMEM_", "HAKMEM_A", "HAKMEM_DASHBOARD_URL", "HAKMEM_HOME", "X"}) {
    EXPECT_EQ(Nearest(text), "") << text;
  }
  // Three of seven letters are wrong, then four: more than half.
  EXPECT_EQ(Nearest("HAKMEM_QROFQLQ"), "HAKMEM_PROFILE");
  EXPECT_EQ(Nearest("HAKMEM_QQOFQLQ"), "");
  EXPECT_EQ(Nearest("HAKMEM_PROFILE" + std::string(1000, 'E')), "");
  EXPECT_EQ(Nearest(std::string(100000, 'P')), "");
}

TEST(GateParse, AliasesBelongToTheirGateAlone) {
  EXPECT_EQ(Parse(HAK_GATE_PROFILE, "MIXED_TINYV3_C7_BALANCED"), uint64_t{HAK_PRESET_BALANCED});
  EXPECT_EQ(Parse(HAK_GATE_PROFILE, "MIXED_TINYV3_C7_SAFE"), uint64_t{HAK_PRESET_SPEED});
  EXPECT_EQ(Parse(HAK_GATE_PROFILE, "mixed_tinyv3_c7_safe"), kUntouched);
  EXPECT_EQ(Parse(HAK_GATE_SLAB_MAP, "MIXED_TINYV3_C7_SAFE"), kUntouched);
}

}  // namespace
