// SPDX-License-Identifier: Apache-2.0
//
// Settings from the environment. gate_secure_test.cc tests that a process with raised privileges (AT_SECURE) ignores
// the environment, and gate_sources_test.cc tests hak_conf and //configs:conf.
#include "allocator/gate/gate.h"

#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "allocator/gate/gate_now.h"
#include "allocator/gate/gate_start.h"
#include "allocator/os/unit_test.h"

namespace {

constexpr uint64_t kUntouched = 0xABCDEF;

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
  const hak_gate_sources sources = {strings.data(), nullptr, nullptr, false};
  hak_gate_resolve(&sources, &resolved.values);
  resolved.messages = testing::internal::GetCapturedStderr();
  return resolved;
}

TEST(GateResolve, WithoutAnEnvironmentEverythingIsBalanced) {
  hak_gate_values values;
  const hak_gate_sources sources = {};
  hak_gate_resolve(&sources, &values);
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

// Which settings a preset changes, and in which direction: more speed or less memory.
TEST(GateResolve, PresetsDifferInTheGatesThatTradeMemoryForSpeed) {
  // Larger values of these settings keep more memory.
  const std::vector<hak_gate_id> keep = {HAK_GATE_DECOMMIT_DEADLINE, HAK_GATE_THREAD_CACHE,    HAK_GATE_IDLE_CACHE,
                                         HAK_GATE_MAPPING_CACHE,     HAK_GATE_KEEP_SUPERSLABS, HAK_GATE_KEEP_FREE};
  std::set<uint32_t> trade(keep.begin(), keep.end());
  const auto value = [](hak_gate_id id, hak_preset preset) { return hak_gates[id].preset[preset]; };
  for (const hak_gate_id id : keep) {
    EXPECT_LT(value(id, HAK_PRESET_LEAN), value(id, HAK_PRESET_BALANCED)) << hak_gates[id].name;
    EXPECT_LT(value(id, HAK_PRESET_BALANCED), value(id, HAK_PRESET_SPEED)) << hak_gates[id].name;
  }
  // The share is one part of this many.
  trade.insert(HAK_GATE_THREAD_CACHE_SHARE);
  EXPECT_GT(value(HAK_GATE_THREAD_CACHE_SHARE, HAK_PRESET_LEAN),
            value(HAK_GATE_THREAD_CACHE_SHARE, HAK_PRESET_BALANCED));
  EXPECT_GT(value(HAK_GATE_THREAD_CACHE_SHARE, HAK_PRESET_BALANCED),
            value(HAK_GATE_THREAD_CACHE_SHARE, HAK_PRESET_SPEED));
  // Only `speed` is without LEAN and without the additional classes of large heaps. Only `lean` decommits eagerly, has
  // a lower target, and forbids huge pages.
  for (const hak_gate_id id : {HAK_GATE_SS_MEM_LEAN, HAK_GATE_SS_MEM_LEAN_DECOMMIT, HAK_GATE_SS_MEM_LEAN_TARGET,
                               HAK_GATE_THP, HAK_GATE_FINE_CLASSES}) {
    trade.insert(id);
  }
  EXPECT_EQ(value(HAK_GATE_FINE_CLASSES, HAK_PRESET_BALANCED), 1u);
  EXPECT_EQ(value(HAK_GATE_FINE_CLASSES, HAK_PRESET_SPEED), 0u);
  EXPECT_EQ(value(HAK_GATE_FINE_CLASSES, HAK_PRESET_LEAN), 1u);
  EXPECT_EQ(value(HAK_GATE_SS_MEM_LEAN, HAK_PRESET_BALANCED), 1u);
  EXPECT_EQ(value(HAK_GATE_SS_MEM_LEAN, HAK_PRESET_SPEED), 0u);
  EXPECT_EQ(value(HAK_GATE_SS_MEM_LEAN, HAK_PRESET_LEAN), 1u);
  EXPECT_EQ(value(HAK_GATE_SS_MEM_LEAN_DECOMMIT, HAK_PRESET_BALANCED), uint64_t{HAK_DECOMMIT_OFF});
  EXPECT_EQ(value(HAK_GATE_SS_MEM_LEAN_DECOMMIT, HAK_PRESET_SPEED), uint64_t{HAK_DECOMMIT_OFF});
  EXPECT_EQ(value(HAK_GATE_SS_MEM_LEAN_DECOMMIT, HAK_PRESET_LEAN), uint64_t{HAK_DECOMMIT_DONTNEED});
  EXPECT_LT(value(HAK_GATE_SS_MEM_LEAN_TARGET, HAK_PRESET_LEAN),
            value(HAK_GATE_SS_MEM_LEAN_TARGET, HAK_PRESET_BALANCED));
  EXPECT_EQ(value(HAK_GATE_THP, HAK_PRESET_BALANCED), uint64_t{HAK_HUGE_PAGES_AUTO});
  EXPECT_EQ(value(HAK_GATE_THP, HAK_PRESET_SPEED), uint64_t{HAK_HUGE_PAGES_AUTO});
  EXPECT_EQ(value(HAK_GATE_THP, HAK_PRESET_LEAN), uint64_t{HAK_HUGE_PAGES_OFF});
  // All others are the same in every preset: limits, reports, and the forms of records.
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    if (id == HAK_GATE_PROFILE || trade.count(id) != 0) continue;
    for (const uint64_t other : hak_gates[id].preset) {
      EXPECT_EQ(other, hak_gates[id].preset[HAK_PRESET_BALANCED]) << hak_gates[id].name;
    }
  }
}

TEST(GateResolve, AnUnknownPresetIsBalanced) {
  for (const char *entry : {"HAKMEM_PROFILE=fast", "HAKMEM_PROFILE=Lean", "HAKMEM_PROFILE=lean ", "HAKMEM_PROFILE="}) {
    const Resolved resolved = Resolve({entry});
    EXPECT_EQ(std::count(resolved.messages.begin(), resolved.messages.end(), '\n'), 1) << entry;
    for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
      EXPECT_EQ(resolved.values.value[id], hak_gates[id].preset[HAK_PRESET_BALANCED]) << entry;
      EXPECT_EQ(resolved.values.origin[id], HAK_GATE_BUILT_IN) << entry;
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
  EXPECT_EQ(resolved.messages,
            "hakmem: \"HAKMEM_PROFIL\" in the environment is no setting; the nearest is HAKMEM_PROFILE\n"
            "hakmem: \"HAKMEM_PROFILES\" in the environment is no setting; the nearest is HAKMEM_PROFILE\n");
}

TEST(GateReport, ABadValueIsOneLineWithItsGateItselfAndWhatIsAccepted) {
  EXPECT_EQ(Resolve({"HAKMEM_PROFILE=bogus"}).messages,
            "hakmem: HAKMEM_PROFILE=\"bogus\" is not accepted; accepted: balanced, speed, lean; using balanced\n");
  EXPECT_EQ(Resolve({"HAKMEM_PROFILE="}).messages,
            "hakmem: HAKMEM_PROFILE=\"\" is not accepted; accepted: balanced, speed, lean; using balanced\n");
  EXPECT_EQ(Resolve({"HAKMEM_DECOMMIT_DEADLINE_MS=-5"}).messages,
            "hakmem: HAKMEM_DECOMMIT_DEADLINE_MS=\"-5\" is not accepted; accepted: 0 to 3600000 milliseconds; "
            "using 1000\n");
  EXPECT_EQ(
      Resolve({"HAKMEM_SHOW_CONFIG=2"}).messages,
      "hakmem: HAKMEM_SHOW_CONFIG=\"2\" is not accepted; accepted: 0, 1, off, on, false, true, no, yes; using 0\n");
}

TEST(GateResolve, ThePresetHasAnotherName) {
  const auto preset = [](const Resolved &resolved) { return resolved.values.value[HAK_GATE_PROFILE]; };
  EXPECT_EQ(preset(Resolve({"HAKMEM_PRESET=lean"})), uint64_t{HAK_PRESET_LEAN});
  EXPECT_EQ(preset(Resolve({"HAKMEM_PRESET=lean", "HAKMEM_PROFILE=speed"})), uint64_t{HAK_PRESET_SPEED});
  EXPECT_EQ(preset(Resolve({"HAKMEM_PRESET=lean", "HAKMEM_PRESET=speed"})), uint64_t{HAK_PRESET_LEAN});
  EXPECT_EQ(preset(Resolve({"HAKMEM_PRESETS=lean"})), uint64_t{HAK_PRESET_BALANCED});
  EXPECT_EQ(Resolve({"HAKMEM_PRESET=bogus"}).messages,
            "hakmem: HAKMEM_PRESET=\"bogus\" is not accepted; accepted: balanced, speed, lean; using balanced\n");
  EXPECT_EQ(hak_gate_named("HAKMEM_PRESET"), uint32_t{HAK_GATE_PROFILE});
  EXPECT_EQ(hak_gate_named("HAKMEM_THP"), uint32_t{HAK_GATE_THP});
  EXPECT_EQ(hak_gate_named("HAKMEM_PRESE"), uint32_t{HAK_GATE_COUNT});
}

TEST(GateReport, AProfileIsNoPreset) {
  for (const std::string profile : {"fast", "standard", "observe", "hardened"}) {
    EXPECT_EQ(Resolve({"HAKMEM_PROFILE=" + profile}).messages,
              "hakmem: HAKMEM_PROFILE=\"" + profile +
                  "\" is not accepted; accepted: balanced, speed, lean; using balanced; " + profile +
                  " is a profile, which is chosen when hakmem is built\n");
  }
}

TEST(GateReport, TheGatesOfLeanToo) {
  EXPECT_EQ(Resolve({"HAKMEM_SS_MEM_LEAN_TARGET_MB=-1"}).messages,
            "hakmem: HAKMEM_SS_MEM_LEAN_TARGET_MB=\"-1\" is not accepted; accepted: 0 to 1048576 MiB, or whole MiB "
            "with a suffix: K, M, G, T; using 10\n");
  EXPECT_EQ(Resolve({"HAKMEM_SS_MEM_LEAN_DECOMMIT=dontneed"}).messages,
            "hakmem: HAKMEM_SS_MEM_LEAN_DECOMMIT=\"dontneed\" is not accepted; accepted: OFF, FREE, DONTNEED; "
            "using OFF\n");
  EXPECT_EQ(Resolve({"HAKMEM_SS_MEM_LEAN_DECOMMIT=off", "HAKMEM_PROFILE=lean"}).messages,
            "hakmem: HAKMEM_SS_MEM_LEAN_DECOMMIT=\"off\" is not accepted; accepted: OFF, FREE, DONTNEED; "
            "using DONTNEED\n");
  EXPECT_EQ(Resolve({"HAKMEM_SS_PREWARM=1025"}).messages,
            "hakmem: HAKMEM_SS_PREWARM=\"1025\" is not accepted; accepted: 0 to 1024 superslabs; using 1\n");
  // 2^64 + 1, and two numbers that would become small if a multiplication wrapped.
  for (const std::string number : {"18446744073709551617", "18446744073709551620", "18446744073709551621"}) {
    EXPECT_NE(Resolve({"HAKMEM_KEEP_SUPERSLABS=" + number}).messages, "") << number;
  }
  EXPECT_EQ(Resolve({"HAKMEM_MEMORY_LIMIT_MB=all"}).messages,
            "hakmem: HAKMEM_MEMORY_LIMIT_MB=\"all\" is not accepted; accepted: 0 to 1073741824 MiB, or whole MiB with "
            "a suffix: K, M, G, T; using 0\n");
}

TEST(GateReport, ASizeThatIsNotWholeOrTooLarge) {
  const std::string accepted =
      "\" is not accepted; accepted: 0 to 1073741824 MiB, or whole MiB with a suffix: K, M, G, T; using 0\n";
  for (const std::string text : {"1500K", "512", "1025T", "1GB", "-1G", "99999999999999999999T"}) {
    EXPECT_EQ(Resolve({"HAKMEM_MEMORY_LIMIT_MB=" + text}).messages,
              text == "512" ? "" : "hakmem: HAKMEM_MEMORY_LIMIT_MB=\"" + text + accepted);
  }
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

// The first line of HAKMEM_SHOW_CONFIG.
std::string FirstLine() {
  return "hakmem: version " + std::to_string(HAK_VERSION_MAJOR) + "." + std::to_string(HAK_VERSION_MINOR) + "." +
         std::to_string(HAK_VERSION_PATCH) + " " HAK_PROFILE_NAME " header=" HAK_HEADER_NAME "\n";
}

TEST(GateShow, PrintsEveryGateWithItsValueAndWhereItCameFrom) {
  const Resolved resolved = Resolve({"HAKMEM_PROFILE=speed", "HAKMEM_KEEP_SUPERSLABS=3"});
  const std::string text = Show(resolved.values);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1 + HAK_GATE_COUNT);
  EXPECT_EQ(text.substr(0, text.find('\n') + 1), FirstLine());
  const auto has = [&text](const std::string &line) {
    return text.find("hakmem: " + line + "\n") != std::string::npos;
  };
  // In FAST builds the settings are fixed, so they have no source but the environment.
  const auto from = [](const char *origin) { return std::string(HAK_FAST ? "fixed in this build" : origin); };
  EXPECT_TRUE(has("HAKMEM_PROFILE=speed (environment)")) << text;
  EXPECT_TRUE(has("HAKMEM_DECOMMIT_DEADLINE_MS=10000 (" + from("preset") + ")")) << text;
  EXPECT_TRUE(has("HAKMEM_KEEP_SUPERSLABS=3 (environment)")) << text;
  EXPECT_TRUE(has("HAKMEM_SLAB_MAP=auto (" + from("default") + ")")) << text;
}

TEST(GateShow, MarksWhatHasNoEffect) {
  const std::string text = Show(Resolve({"HAKMEM_PAGE_PURGE=0"}).values);
  const std::string origin = HAK_FAST ? "fixed in this build" : "default";
  const std::string mark = HAK_FAST ? "; no effect" : "; no effect in this build";
  EXPECT_NE(text.find("hakmem: HAKMEM_GUARD_SAMPLE=2000 (" + origin + (HAK_HARDENED ? "" : mark) + ")\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("hakmem: HAKMEM_PAGE_PURGE=0 (environment)\n"), std::string::npos) << text;
  EXPECT_NE(text.find("hakmem: HAKMEM_BORROW=1 (" + origin + ")\n"), std::string::npos) << text;
}

// Runs before main, and so before hak_gate_init.
const char *const kBeforeInit = hak_gate_get("HAKMEM_PROFILE", nullptr);

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

uint64_t Scale(const hak_gate &gate) {
  const std::string unit = gate.unit != nullptr ? gate.unit : "";
  return unit == "KiB" ? uint64_t{1} << 10 : unit == "MiB" ? uint64_t{1} << 20 : 1;
}

TEST(GateTable, AFieldOfBytesSaysSo) {
  int of_bytes = 0;
  const auto expect = [&of_bytes](const hak_gate &gate, const std::string &field) {
    const std::string end = "_bytes";
    const bool counts_bytes = field.size() > end.size() && field.substr(field.size() - end.size()) == end;
    EXPECT_EQ(counts_bytes, Scale(gate) != 1) << field;
    of_bytes += counts_bytes;
  };
#define HAK_GATE_NUMBER(id, field, ...) expect(hak_gates[HAK_GATE_##id], #field);
#include "allocator/policy/gate_table.inc"
  EXPECT_GT(of_bytes, 3);
}

// Checks every field against the values of the settings.
void ExpectConfig(const std::vector<uint64_t> &value) {
  const bool lean =
      value[HAK_GATE_SS_MEM_LEAN] != 0;  // never from the environment here: ss_mem_lean_test has that case
  const auto expect = [&](uint32_t id, const char *field, uint64_t is) {
    uint64_t wanted = value[id] * Scale(hak_gates[id]);
    if (id == HAK_GATE_SS_MEM_LEAN_DECOMMIT && !lean) wanted = HAK_DECOMMIT_OFF;
    if (id == HAK_GATE_SS_PREWARM && lean) wanted = 0;
    EXPECT_EQ(is, wanted) << field;
  };
#define HAK_GATE_NUMBER(id, field, ...) expect(HAK_GATE_##id, #field, hak_config.field);
#define HAK_GATE_CHOICE(id, field, ...) expect(HAK_GATE_##id, #field, hak_config.field);
#include "allocator/policy/gate_table.inc"
  EXPECT_EQ(hak_config.prewarm_suppressed, lean ? value[HAK_GATE_SS_PREWARM] : 0);
}

std::vector<uint64_t> Values(hak_preset preset) {
  std::vector<uint64_t> values;
  for (const hak_gate &gate : hak_gates) values.push_back(gate.preset[preset]);
  return values;
}

void ExpectConfig(hak_preset preset) { ExpectConfig(Values(preset)); }

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

TEST_F(GateInit, EveryGateReachesItsField) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    // SHOW_CONFIG prints, and the others have tests of their own.
    if (id == HAK_GATE_PROFILE || id == HAK_GATE_SHOW_CONFIG || id == HAK_GATE_SS_MEM_LEAN || id == HAK_GATE_SS_PREWARM)
      continue;
    std::vector<uint64_t> want = Values(HAK_PRESET_BALANCED);
    const hak_gate &gate = hak_gates[id];
    const uint64_t other = gate.choices != nullptr ? 1 - (want[id] & 1) : gate.most;
    Clear();
    setenv(gate.name, gate.choices != nullptr ? gate.choices[other] : std::to_string(other).c_str(), 1);
    EXPECT_EQ(Init(), "") << gate.name;
    if (!HAK_FAST || id == HAK_GATE_CONF_STRICT) want[id] = other;
    SCOPED_TRACE(gate.name);
    ExpectConfig(want);
  }
}

// The longest text that is accepted ends where readable memory ends.
TEST_F(GateInit, CopiesATextUpToItsEnd) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  auto *const memory =
      static_cast<char *>(mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(mprotect(memory + page, page, PROT_NONE), 0);
  const std::string text(HAK_GATE_TEXT_BYTES - 1, 'd');
  const std::string entry = "HAKMEM_PROF_DUMP=" + text;
  char *const at = memory + page - entry.size() - 1;
  memcpy(at, entry.c_str(), entry.size() + 1);
  char *strings[] = {at, nullptr};
  char **const before = environ;
  environ = strings;
  EXPECT_EQ(Init(), "");
  EXPECT_STREQ(hak_gate_text(HAK_GATE_TEXT_PROF_DUMP), HAK_FAST ? "" : text.c_str());
  char none[] = "HAKMEM_PROF_DUMP=";
  strings[0] = none;
  EXPECT_EQ(Init(), "");
  environ = before;
  munmap(memory, 2 * page);
}

TEST_F(GateInit, KeepsACopyOfATextOfTheEnvironment) {
  EXPECT_STREQ(hak_gate_text(HAK_GATE_TEXT_PROF_DUMP), "");
  char entry[] = "HAKMEM_PROF_DUMP=/tmp/heap.%p\nx";
  char longer[] = "HAKMEM_PROF_DUMPS=no";
  char *strings[] = {longer, entry, nullptr};
  char **const before = environ;
  environ = strings;
  EXPECT_EQ(Init(),
            "hakmem: \"HAKMEM_PROF_DUMPS\" in the environment is no setting; the nearest is HAKMEM_PROF_DUMP\n");
  memset(entry, 'y', sizeof entry - 1);
  EXPECT_STREQ(hak_gate_text(HAK_GATE_TEXT_PROF_DUMP), HAK_FAST ? "" : "/tmp/heap.%p\nx");
  char show[] = "HAKMEM_SHOW_CONFIG=1";
  char *shown[] = {show, nullptr};
  environ = shown;
  const std::string messages = Init();
  environ = before;
  // A text from outside cannot fake a line.
  EXPECT_NE(messages.find(HAK_FAST ? "hakmem: HAKMEM_PROF_DUMP= (fixed in this build; no effect)\n"
                                   : "hakmem: HAKMEM_PROF_DUMP=/tmp/heap.%p?x (environment)\n"),
            std::string::npos)
      << messages;
}

TEST_F(GateInit, ASizeWithASuffixReachesItsFieldInBytes) {
  setenv("HAKMEM_THREAD_CACHE_KB", "64K", 1);
  setenv("HAKMEM_SS_MEM_LEAN_TARGET_MB", "1G", 1);
  setenv("HAKMEM_PAGE_PURGE", "Off", 1);
  EXPECT_EQ(Init(), "");
  std::vector<uint64_t> want = Values(HAK_PRESET_BALANCED);
  if (!HAK_FAST) {
    want[HAK_GATE_THREAD_CACHE] = 64;
    want[HAK_GATE_SS_MEM_LEAN_TARGET] = 1024;
    want[HAK_GATE_PAGE_PURGE] = 0;
    EXPECT_STREQ(hak_gate_get("HAKMEM_SS_MEM_LEAN_TARGET_MB", nullptr), "1024");
    EXPECT_STREQ(hak_gate_get("HAKMEM_PAGE_PURGE", nullptr), "0");
  }
  ExpectConfig(want);
}

// The memory in use in MiB. Pads it to about half a MiB more, so that small changes do not change the number. It looks
// after each page, because a sanitizer's shadow of a page takes memory too.
uint64_t InUseMegabytes() {
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  const size_t page = hak_os_page_size();
  const size_t padding = 2 * kMiB;
  auto *memory = static_cast<char *>(hak_os_map(padding, page));
  if (memory == nullptr) return 0;
  for (size_t at = 0; at < padding; at += page) {
    const uint64_t rest = hak_os_resident_bytes() % kMiB;
    if (rest >= kMiB * 7 / 16 && rest < kMiB * 9 / 16) break;
    memory[at] = 1;
  }
  return hak_os_resident_bytes() / kMiB;
}

TEST_F(GateInit, TheMemoryLimitMustBeAboveWhatIsInUse) {
  if (hak_os_resident_bytes() == 0) GTEST_SKIP() << "/proc does not tell what is in use";
  const uint64_t in_use = InUseMegabytes();
  ASSERT_GE(in_use, 1u);
  for (const uint64_t limit : {uint64_t{1}, in_use}) {
    const std::string text = std::to_string(limit);
    setenv("HAKMEM_MEMORY_LIMIT_MB", text.c_str(), 1);
    EXPECT_EQ(Init(), HAK_FAST ? ""
                               : "hakmem: HAKMEM_MEMORY_LIMIT_MB=\"" + text +
                                     "\" is not accepted; accepted: 0, or more than the " + std::to_string(in_use) +
                                     " MiB in use; using 0\n");
    EXPECT_EQ(hak_config.memory_limit_bytes, 0u);
    const char *origin = nullptr;
    EXPECT_STREQ(hak_gate_get("HAKMEM_MEMORY_LIMIT_MB", &origin), "0");
    EXPECT_STREQ(origin, HAK_FAST ? "fixed in this build" : "default");
  }
  for (const uint64_t limit : {in_use + 1, uint64_t{1000000}}) {
    setenv("HAKMEM_MEMORY_LIMIT_MB", std::to_string(limit).c_str(), 1);
    EXPECT_EQ(Init(), "");
    EXPECT_EQ(hak_config.memory_limit_bytes, HAK_FAST ? 0 : limit << 20);
  }
  setenv("HAKMEM_MEMORY_LIMIT_MB", "0", 1);
  EXPECT_EQ(Init(), "");
  EXPECT_EQ(hak_config.memory_limit_bytes, 0u);
}

TEST(GateGet, NothingBeforeTheGatesAreResolved) { EXPECT_EQ(kBeforeInit, nullptr); }

TEST_F(GateInit, GetTellsValueAndOriginOfEveryGate) {
  setenv("HAKMEM_PROFILE", "speed", 1);
  setenv("HAKMEM_KEEP_SUPERSLABS", "1048576", 1);
  setenv("HAKMEM_SS_MEM_LEAN_DECOMMIT", "FREE", 1);
  setenv("HAKMEM_THREAD_CACHE_KB", "nonsense", 1);
  Init();
  const auto expect = [](const char *name, const char *value, const char *origin, const char *fixed_value) {
    const char *told = "untouched";
    EXPECT_STREQ(hak_gate_get(name, &told), HAK_FAST ? fixed_value : value) << name;
    EXPECT_STREQ(told, HAK_FAST ? "fixed in this build" : origin) << name;
    EXPECT_STREQ(hak_gate_get(name, nullptr), HAK_FAST ? fixed_value : value) << name;
  };
  expect("HAKMEM_PROFILE", "speed", "environment", "balanced");
  expect("HAKMEM_KEEP_SUPERSLABS", "1048576", "environment",
         std::to_string(hak_gates[HAK_GATE_KEEP_SUPERSLABS].preset[HAK_PRESET_BALANCED]).c_str());
  expect("HAKMEM_SS_MEM_LEAN_DECOMMIT", "FREE", "environment", "OFF");
  expect("HAKMEM_SS_MEM_LEAN", "0", "preset", "1");
  const auto preset_text = [](hak_gate_id id, hak_preset preset) {
    return std::to_string(hak_gates[id].preset[preset]);
  };
  // The value that is used instead.
  expect("HAKMEM_THREAD_CACHE_KB", preset_text(HAK_GATE_THREAD_CACHE, HAK_PRESET_SPEED).c_str(), "preset",
         preset_text(HAK_GATE_THREAD_CACHE, HAK_PRESET_BALANCED).c_str());
  expect("HAKMEM_SLAB_MAP", "auto", "default", "auto");
  expect("HAKMEM_SHOW_CONFIG", "0", "default", "0");
  for (const hak_gate &gate : hak_gates) {
    const char *origin = nullptr;
    const char *text = hak_gate_get(gate.name, &origin);
    ASSERT_NE(text, nullptr) << gate.name;
    ASSERT_NE(origin, nullptr) << gate.name;
    uint64_t value = kUntouched;
    EXPECT_TRUE(hak_gate_parse(&gate, text, &value)) << gate.name << '=' << text;
  }
}

TEST_F(GateInit, GetOfAnUnknownNameIsNull) {
  Init();
  for (const char *name : {"", "HAKMEM_", "PROFILE", "hakmem_profile", "HAKMEM_PROFILES", "HAKMEM_PROFIL",
                           "HAKMEM_PROFILE=", "HAKMEM_PROFILE ", "PATH"}) {
    const char *origin = "untouched";
    EXPECT_EQ(hak_gate_get(name, &origin), nullptr) << name;
    EXPECT_STREQ(origin, "untouched") << name;
  }
}

TEST_F(GateInit, ShowsTheConfigurationInEveryProfile) {
  setenv("HAKMEM_SHOW_CONFIG", "0", 1);
  EXPECT_EQ(Init(), "");
  setenv("HAKMEM_SHOW_CONFIG", "1", 1);
  const std::string text = Init();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1 + HAK_GATE_COUNT + HAK_GATE_TEXT_COUNT) << text;
  EXPECT_EQ(text.substr(0, text.find('\n') + 1), FirstLine());
  EXPECT_NE(text.find("hakmem: HAKMEM_SHOW_CONFIG=1 (environment)\n"), std::string::npos) << text;
  EXPECT_NE(text.find("hakmem: HAKMEM_PROFILE=balanced ("), std::string::npos) << text;
}

}  // namespace
