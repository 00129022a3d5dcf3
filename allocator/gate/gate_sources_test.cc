// SPDX-License-Identifier: Apache-2.0
//
// The sources of settings and their precedence: the environment before hak_conf, hak_conf before //configs:conf, that
// before the preset; and the messages about values that are not accepted.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <vector>

#include "allocator/gate/conf.h"
#include "allocator/gate/gate.h"
#include "allocator/gate/gate_now.h"
#include "allocator/gate/gate_start.h"
#include "allocator/os/os.h"

// Replaces the library's definition.
const char *hak_conf = "keep_superslabs=5";

namespace {

struct Resolved {
  hak_gate_values values;
  std::string messages;
};

Resolved Resolve(const std::vector<std::string> &environment, const char *program, const char *build) {
  std::vector<char *> strings;
  for (const std::string &entry : environment) strings.push_back(const_cast<char *>(entry.c_str()));
  strings.push_back(nullptr);
  const hak_gate_sources sources = {strings.data(), program, build, false};
  Resolved resolved = {};
  testing::internal::CaptureStderr();
  hak_gate_resolve(&sources, &resolved.values);
  resolved.messages = testing::internal::GetCapturedStderr();
  return resolved;
}

void Expect(const Resolved &resolved, hak_gate_id id, uint64_t value, hak_gate_origin origin) {
  EXPECT_EQ(resolved.values.value[id], value) << hak_gates[id].name;
  EXPECT_EQ(resolved.values.origin[id], origin) << hak_gates[id].name;
  EXPECT_EQ(resolved.messages, "");
}

constexpr hak_gate_id kKeep = HAK_GATE_KEEP_SUPERSLABS;

TEST(Precedence, EachPairOfSources) {
  const std::vector<std::string> environment = {"HAKMEM_KEEP_SUPERSLABS=11"};
  const char *const program = "keep_superslabs=12";
  const char *const build = "keep_superslabs=13";
  Expect(Resolve({}, nullptr, nullptr), kKeep, 1, HAK_GATE_BUILT_IN);
  Expect(Resolve({}, "", " ,"), kKeep, 1, HAK_GATE_BUILT_IN);
  Expect(Resolve({"HAKMEM_PROFILE=speed"}, nullptr, nullptr), kKeep, 16, HAK_GATE_FROM_PRESET);
  Expect(Resolve({"HAKMEM_PROFILE=speed"}, nullptr, build), kKeep, 13, HAK_GATE_FROM_BUILD);
  Expect(Resolve({"HAKMEM_PROFILE=speed"}, program, nullptr), kKeep, 12, HAK_GATE_FROM_PROGRAM);
  Expect(Resolve({"HAKMEM_PROFILE=speed", environment[0]}, nullptr, nullptr), kKeep, 11, HAK_GATE_FROM_ENVIRONMENT);
  Expect(Resolve({}, program, build), kKeep, 12, HAK_GATE_FROM_PROGRAM);
  Expect(Resolve(environment, nullptr, build), kKeep, 11, HAK_GATE_FROM_ENVIRONMENT);
  Expect(Resolve(environment, program, nullptr), kKeep, 11, HAK_GATE_FROM_ENVIRONMENT);
  Expect(Resolve(environment, program, build), kKeep, 11, HAK_GATE_FROM_ENVIRONMENT);
}

TEST(Precedence, OfThePresetItself) {
  Expect(Resolve({}, nullptr, "profile=lean"), HAK_GATE_PROFILE, HAK_PRESET_LEAN, HAK_GATE_FROM_BUILD);
  Expect(Resolve({}, nullptr, "profile=lean"), kKeep, 0, HAK_GATE_FROM_PRESET);
  Expect(Resolve({}, "profile=speed", "profile=lean"), kKeep, 16, HAK_GATE_FROM_PRESET);
  Expect(Resolve({"HAKMEM_PROFILE=balanced"}, "profile=speed", "profile=lean"), kKeep, 1, HAK_GATE_BUILT_IN);
  Expect(Resolve({"HAKMEM_PROFILE=balanced"}, "profile=speed", "profile=lean"), HAK_GATE_PROFILE, HAK_PRESET_BALANCED,
         HAK_GATE_FROM_ENVIRONMENT);
  // A setting that is given explicitly overrides a preset, even if the preset comes from a stronger source.
  Expect(Resolve({"HAKMEM_PROFILE=speed"}, nullptr, "keep_superslabs=3"), kKeep, 3, HAK_GATE_FROM_BUILD);
  Expect(Resolve({}, "profile=speed", "keep_superslabs=3"), kKeep, 3, HAK_GATE_FROM_BUILD);
}

TEST(Precedence, TheSameValueButAskedFor) {
  Expect(Resolve({}, nullptr, "keep_superslabs=1"), kKeep, 1, HAK_GATE_FROM_BUILD);
  Expect(Resolve({}, "keep_superslabs=1", "keep_superslabs=1"), kKeep, 1, HAK_GATE_FROM_PROGRAM);
}

TEST(Sources, TakeSizesAndSwitchesInEachForm) {
  Expect(Resolve({"HAKMEM_THREAD_CACHE_KB=2M"}, nullptr, nullptr), HAK_GATE_THREAD_CACHE, 2048,
         HAK_GATE_FROM_ENVIRONMENT);
  Expect(Resolve({}, "memory_limit_mb=1G", nullptr), HAK_GATE_MEMORY_LIMIT, 1024, HAK_GATE_FROM_PROGRAM);
  Expect(Resolve({}, nullptr, "Page_Purge=Off"), HAK_GATE_PAGE_PURGE, 0, HAK_GATE_FROM_BUILD);
}

TEST(Precedence, OfTwoItemsTheLastCounts) {
  Expect(Resolve({}, "keep_superslabs=3,HAKMEM_KEEP_SUPERSLABS=4", nullptr), kKeep, 4, HAK_GATE_FROM_PROGRAM);
  Expect(Resolve({}, nullptr, "keep_superslabs=3 keep_superslabs=4"), kKeep, 4, HAK_GATE_FROM_BUILD);
}

TEST(Sources, EveryGateCanBeSetByEach) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    const hak_gate &gate = hak_gates[id];
    const uint64_t other = gate.choices != nullptr ? 1 : gate.most;
    const std::string value = gate.choices != nullptr ? gate.choices[other] : std::to_string(other);
    const std::string item = std::string(gate.name) + "=" + value;
    std::string small = item.substr(strlen("HAKMEM_"));
    const size_t name_length = small.find('=');
    std::transform(small.begin(), small.begin() + static_cast<long>(name_length), small.begin(), ::tolower);
    const auto gate_id = static_cast<hak_gate_id>(id);
    Expect(Resolve({}, item.c_str(), nullptr), gate_id, other, HAK_GATE_FROM_PROGRAM);
    Expect(Resolve({}, small.c_str(), nullptr), gate_id, other, HAK_GATE_FROM_PROGRAM);
    Expect(Resolve({}, nullptr, small.c_str()), gate_id, other, HAK_GATE_FROM_BUILD);
  }
}

TEST(BadItems, AreOneLineWithTheirSourceAndWhatIsAccepted) {
  EXPECT_EQ(Resolve({}, "profile=fast", nullptr).messages,
            "hakmem: hak_conf: \"profile=fast\" is not accepted; accepted: balanced, speed, lean; using balanced; "
            "fast is a profile, which is chosen when hakmem is built\n");
  EXPECT_EQ(Resolve({}, "preset=quick", nullptr).messages,
            "hakmem: hak_conf: \"preset=quick\" is not accepted; accepted: balanced, speed, lean; using balanced\n");
  EXPECT_EQ(Resolve({}, nullptr, "HAKMEM_THREAD_CACHE_KB=-1").messages,
            "hakmem: //configs:conf: \"HAKMEM_THREAD_CACHE_KB=-1\" is not accepted; accepted: 0 to 1048576 KiB, or "
            "whole KiB with a suffix: K, M, G, T; using 4096\n");
  const std::string names = " is not accepted; accepted: NAME=VALUE, with a NAME that HAKMEM_SHOW_CONFIG=1 lists\n";
  for (const char *item : {"colour=lean", "leaner", "=lean", "profile:lean", "=", "profile;lean", "HAKMEM_=1"}) {
    EXPECT_EQ(Resolve({}, item, nullptr).messages, "hakmem: hak_conf: \"" + std::string(item) + "\"" + names);
    EXPECT_EQ(Resolve({}, nullptr, item).messages, "hakmem: //configs:conf: \"" + std::string(item) + "\"" + names);
  }
}

TEST(BadItems, LeaveWhatHoldsWithoutThem) {
  const struct {
    std::vector<std::string> environment;
    const char *program, *build;
    uint64_t used;
    hak_gate_origin origin;
  } cases[] = {
      {{}, "keep_superslabs=x", nullptr, 1, HAK_GATE_BUILT_IN},
      {{"HAKMEM_PROFILE=speed"}, "keep_superslabs=x", nullptr, 16, HAK_GATE_FROM_PRESET},
      {{}, "keep_superslabs=x", "keep_superslabs=3", 3, HAK_GATE_FROM_BUILD},
      {{}, "keep_superslabs=4", "keep_superslabs=x", 4, HAK_GATE_FROM_PROGRAM},
      {{}, "keep_superslabs=4,keep_superslabs=x", nullptr, 4, HAK_GATE_FROM_PROGRAM},
      {{}, "keep_superslabs=x,keep_superslabs=4", nullptr, 4, HAK_GATE_FROM_PROGRAM},
      {{"HAKMEM_KEEP_SUPERSLABS=9"}, "keep_superslabs=x", nullptr, 9, HAK_GATE_FROM_ENVIRONMENT},
      {{"HAKMEM_KEEP_SUPERSLABS=x"}, "keep_superslabs=4", nullptr, 4, HAK_GATE_FROM_PROGRAM},
      {{"HAKMEM_KEEP_SUPERSLABS=x"}, nullptr, "keep_superslabs=3", 3, HAK_GATE_FROM_BUILD},
  };
  for (const auto &c : cases) {
    const Resolved resolved = Resolve(c.environment, c.program, c.build);
    EXPECT_EQ(resolved.values.value[kKeep], c.used);
    EXPECT_EQ(resolved.values.origin[kKeep], c.origin);
    const std::string end = "; using " + std::to_string(c.used) + "\n";
    EXPECT_EQ(std::count(resolved.messages.begin(), resolved.messages.end(), '\n'), 1) << resolved.messages;
    EXPECT_EQ(resolved.messages.substr(resolved.messages.size() - end.size()), end);
  }
}

TEST(BadItems, OthersOfTheTextCount) {
  const Resolved resolved = Resolve({}, "bogus,keep_superslabs=7,page_purge=2,thp=on", nullptr);
  EXPECT_EQ(resolved.values.value[kKeep], 7u);
  EXPECT_EQ(resolved.values.value[HAK_GATE_THP], uint64_t{HAK_HUGE_PAGES_ON});
  EXPECT_EQ(resolved.values.value[HAK_GATE_PAGE_PURGE], 1u);
  EXPECT_EQ(std::count(resolved.messages.begin(), resolved.messages.end(), '\n'), 2) << resolved.messages;
}

TEST(BadItems, StayOnePlainShortLine) {
  const std::string message = Resolve({}, ("profile=\x1b[2J\x7f" + std::string(1000, 'z')).c_str(), nullptr).messages;
  EXPECT_EQ(message, "hakmem: hak_conf: \"profile=?[2J?" + std::string(51, 'z') +
                         "\" is not accepted; accepted: balanced, speed, lean; using balanced\n");
}

TEST(BadItems, ATextThatIsTooLongIsRefusedAsAWhole) {
  const std::string fits = "keep_superslabs=7" + std::string(HAK_CONF_LENGTH_MAX - 17, ' ');
  Expect(Resolve({}, fits.c_str(), nullptr), kKeep, 7, HAK_GATE_FROM_PROGRAM);
  const std::string longer = fits + " ";
  const Resolved program = Resolve({}, longer.c_str(), "keep_superslabs=3");
  EXPECT_EQ(program.messages, "hakmem: hak_conf is not accepted; accepted: up to 4096 bytes; using nothing of it\n");
  EXPECT_EQ(program.values.value[kKeep], 3u);
  EXPECT_EQ(Resolve({}, nullptr, longer.c_str()).messages,
            "hakmem: //configs:conf is not accepted; accepted: up to 4096 bytes; using nothing of it\n");
}

// ---- The settings of this process ---------------------------------------------------------------------

std::string Init(const char *conf) {
  hak_conf = conf;
  testing::internal::CaptureStderr();
  hak_gate_init();
  return testing::internal::GetCapturedStderr();
}

void ExpectGot(const char *name, const char *value, const char *origin) {
  const char *got_origin = nullptr;
  EXPECT_STREQ(hak_gate_get(name, &got_origin), value);
  EXPECT_STREQ(got_origin, HAK_FAST ? "fixed in this build" : origin);
}

TEST(Process, ReadsItsHakConf) {
  EXPECT_EQ(Init(hak_conf), "");
  ExpectGot("HAKMEM_KEEP_SUPERSLABS", HAK_FAST ? "1" : "5", "hak_conf");
  EXPECT_EQ(hak_config.keep_superslabs, HAK_FAST ? 1u : 5u);
  setenv("HAKMEM_KEEP_SUPERSLABS", "6", 1);
  EXPECT_EQ(Init("keep_superslabs=5"), "");
  unsetenv("HAKMEM_KEEP_SUPERSLABS");
  ExpectGot("HAKMEM_KEEP_SUPERSLABS", HAK_FAST ? "1" : "6", "environment");
}

TEST(Process, ShowsWhereSettingsCameFrom) {
  const std::string shown = Init("show_config=1,borrow=0");
  EXPECT_EQ(std::count(shown.begin(), shown.end(), '\n'), HAK_FAST ? 0 : 1 + HAK_GATE_COUNT + HAK_GATE_TEXT_COUNT)
      << shown;
  EXPECT_EQ(shown.find("hakmem: HAKMEM_BORROW=0 (hak_conf)\n") != std::string::npos, !HAK_FAST) << shown;
  setenv("HAKMEM_SHOW_CONFIG", "0", 1);
  EXPECT_EQ(Init("show_config=1"), "");
  unsetenv("HAKMEM_SHOW_CONFIG");
}

TEST(Process, SaysWhoseMemoryLimitIsTooSmall) {
  if (hak_os_resident_bytes() == 0) GTEST_SKIP() << "/proc does not tell what is in use";
  const std::string message = Init("memory_limit_mb=1");
  const std::string start = "hakmem: hak_conf: HAKMEM_MEMORY_LIMIT_MB=\"1\" is not accepted; accepted: 0, or more than";
  EXPECT_EQ(message.substr(0, start.size()), HAK_FAST ? "" : start);
  ExpectGot("HAKMEM_MEMORY_LIMIT_MB", "0", "default");
}

}  // namespace
