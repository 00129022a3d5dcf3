// SPDX-License-Identifier: Apache-2.0
//
// Mistakes in names, and HAKMEM_CONF_STRICT, which makes the first mistake end the process. gate_test.cc and
// gate_sources_test.cc have the messages about values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "allocator/gate/gate.h"
#include "allocator/gate/gate_now.h"
#include "allocator/gate/gate_start.h"
#include "allocator/os/os.h"

namespace {

using Environment = std::vector<std::string>;

hak_gate_values values;

void Resolve(const Environment &environment, const char *program = nullptr, const char *build = nullptr,
             bool fixed = false) {
  std::vector<char *> strings;
  for (const std::string &entry : environment) strings.push_back(const_cast<char *>(entry.c_str()));
  strings.push_back(nullptr);
  const hak_gate_sources sources = {strings.data(), program, build, fixed};
  hak_gate_resolve(&sources, &values);
}

std::string Messages(const Environment &environment, const char *program = nullptr, const char *build = nullptr,
                     bool fixed = false) {
  testing::internal::CaptureStderr();
  Resolve(environment, program, build, fixed);
  return testing::internal::GetCapturedStderr();
}

// ---- Names ----------------------------------------------------------------------------------------

TEST(UnknownVariable, IsOneLineWithTheNearestName) {
  EXPECT_EQ(Messages({"HAKMEM_PROFIL=lean"}),
            "hakmem: \"HAKMEM_PROFIL\" in the environment is no setting; the nearest is HAKMEM_PROFILE\n");
  EXPECT_EQ(
      Messages({"A=1", "HAKMEM_MEMORY_LIMIT=1", "B=2"}),
      "hakmem: \"HAKMEM_MEMORY_LIMIT\" in the environment is no setting; the nearest is HAKMEM_MEMORY_LIMIT_MB\n");
  EXPECT_EQ(Messages({"HAKMEM_profile=lean"}),
            "hakmem: \"HAKMEM_profile\" in the environment is no setting; the nearest is HAKMEM_PROFILE\n");
  EXPECT_EQ(values.value[HAK_GATE_PROFILE], uint64_t{HAK_PRESET_BALANCED});
}

TEST(UnknownVariable, ASettingThatIsATextIsNone) {
  EXPECT_EQ(Messages({"HAKMEM_PROF_DUMP=/tmp/heap.%p"}), "");
  EXPECT_EQ(Messages({"HAKMEM_PROF_DUMB=/tmp/heap.%p"}),
            "hakmem: \"HAKMEM_PROF_DUMB\" in the environment is no setting; the nearest is HAKMEM_PROF_DUMP\n");
}

TEST(UnknownVariable, WithoutANearNameSaysWhereTheNamesAre) {
  const std::string rest = " in the environment is no setting; HAKMEM_SHOW_CONFIG=1 lists them\n";
  EXPECT_EQ(Messages({"HAKMEM_DASHBOARD_URL=http://user:secret@host"}), "hakmem: \"HAKMEM_DASHBOARD_URL\"" + rest);
  EXPECT_EQ(Messages({"HAKMEM_=1"}), "hakmem: \"HAKMEM_\"" + rest);
}

TEST(UnknownVariable, StaysOnePlainShortLine) {
  const std::string rest = " in the environment is no setting; HAKMEM_SHOW_CONFIG=1 lists them\n";
  EXPECT_EQ(Messages({"HAKMEM_\x1b[2J\n\x7f\xff=1"}), "hakmem: \"HAKMEM_?[2J???\"" + rest);
  EXPECT_EQ(Messages({"HAKMEM_" + std::string(100000, 'z') + "=1"}),
            "hakmem: \"HAKMEM_" + std::string(57, 'z') + "\"" + rest);
}

TEST(UnknownVariable, OthersAreNone) {
  EXPECT_EQ(Messages({"HAKMEM", "HAKMEM=1", "HAKMEM_PROFIL", "HAKMEM-PROFIL=1", "hakmem_profil=1", "XHAKMEM_PROFIL=1",
                      "HAKME_PROFILE=1", "HAK_TEST_SEED=1", "=HAKMEM_PROFIL", "H=1", ""}),
            "");
}

TEST(UnknownVariable, NorAreThoseOfTheProjectsTools) {
  EXPECT_EQ(Messages({"HAKMEM_BENCH_SOAK_COUNTS=1", "HAKMEM_TEST_LOG=1", "HAKMEM_TEST_QEMU_AARCH64=x",
                      "HAKMEM_TEST_PROBE_ROOT=x", "HAKMEM_CONF_STRICT=1"}),
            "");
  EXPECT_EQ(Messages({"HAKMEM_BENCHMARK=1"}),
            "hakmem: \"HAKMEM_BENCHMARK\" in the environment is no setting; HAKMEM_SHOW_CONFIG=1 lists them\n");
}

TEST(UnknownVariable, OfManyTheFirstAreNamed) {
  Environment environment = {"HAKMEM_SLAB_MAP=flat"};
  std::string expected;
  for (int i = 0; i < 8; i++) {
    environment.push_back("HAKMEM_UNKNOWN_" + std::to_string(i) + "=1");
    expected += "hakmem: \"HAKMEM_UNKNOWN_" + std::to_string(i) +
                "\" in the environment is no setting; HAKMEM_SHOW_CONFIG=1 lists them\n";
  }
  EXPECT_EQ(Messages(environment), expected);
  environment.push_back("HAKMEM_THP=on");
  for (int i = 8; i < 1000; i++) environment.push_back("HAKMEM_UNKNOWN_" + std::to_string(i) + "=1");
  EXPECT_EQ(Messages(environment),
            expected + "hakmem: 992 more variables of the environment that begin with HAKMEM_ are no settings\n");
  EXPECT_EQ(values.value[HAK_GATE_THP], uint64_t{HAK_HUGE_PAGES_ON});
}

TEST(UnknownItem, HasTheNearestName) {
  const std::string names = " is not accepted; accepted: NAME=VALUE, with a NAME that HAKMEM_SHOW_CONFIG=1 lists";
  EXPECT_EQ(Messages({}, "profil=lean"),
            "hakmem: hak_conf: \"profil=lean\"" + names + "; the nearest is HAKMEM_PROFILE\n");
  EXPECT_EQ(Messages({}, nullptr, "HAKMEM_MEMORY_LIMIT=1"),
            "hakmem: //configs:conf: \"HAKMEM_MEMORY_LIMIT=1\"" + names + "; the nearest is HAKMEM_MEMORY_LIMIT_MB\n");
  EXPECT_EQ(Messages({}, "colour=blue"), "hakmem: hak_conf: \"colour=blue\"" + names + "\n");
}

TEST(UnknownItem, APresetOrAProfileByItself) {
  const std::string names = " is not accepted; accepted: NAME=VALUE, with a NAME that HAKMEM_SHOW_CONFIG=1 lists";
  for (const std::string preset : {"balanced", "speed", "lean"}) {
    EXPECT_EQ(Messages({}, preset.c_str()), "hakmem: hak_conf: \"" + preset + "\"" + names + "; " + preset +
                                                " is a preset: profile=" + preset + "\n");
  }
  for (const std::string profile : {"fast", "standard", "observe", "hardened"}) {
    EXPECT_EQ(Messages({}, nullptr, profile.c_str()), "hakmem: //configs:conf: \"" + profile + "\"" + names + "; " +
                                                          profile +
                                                          " is a profile, which is chosen when hakmem is built\n");
  }
  // Only the whole word.
  EXPECT_EQ(Messages({}, "leaner,lea"),
            "hakmem: hak_conf: \"leaner\"" + names + "\nhakmem: hak_conf: \"lea\"" + names + "\n");
}

// ---- HAKMEM_CONF_STRICT -----------------------------------------------------------------------------

// Expects that the process ends with the exit status 1, and with exactly this line on stderr.
#define EXPECT_ENDS(statement, line)                 \
  EXPECT_EXIT(statement, testing::ExitedWithCode(1), \
              testing::Eq(std::string(line) + "; HAKMEM_CONF_STRICT ends the process\n"))

TEST(Strict, EndsTheProcessAtTheFirstMistake) {
  EXPECT_ENDS(Resolve({"HAKMEM_CONF_STRICT=1", "HAKMEM_PROFIL=lean", "HAKMEM_PROFIL2=lean"}),
              "hakmem: \"HAKMEM_PROFIL\" in the environment is no setting; the nearest is HAKMEM_PROFILE");
  EXPECT_ENDS(Resolve({"HAKMEM_X=1", "HAKMEM_PROFILE=hardened", "HAKMEM_CONF_STRICT=on"}),
              "hakmem: HAKMEM_PROFILE=\"hardened\" is not accepted; accepted: balanced, speed, lean; hardened is a "
              "profile, which is chosen when hakmem is built");
  EXPECT_ENDS(Resolve({"HAKMEM_CONF_STRICT=1", "HAKMEM_THREAD_CACHE_KB=1P"}),
              "hakmem: HAKMEM_THREAD_CACHE_KB=\"1P\" is not accepted; accepted: 0 to 1048576 KiB, or whole KiB with a "
              "suffix: K, M, G, T");
  EXPECT_ENDS(Resolve({"HAKMEM_CONF_STRICT=1"}, "bogus"),
              "hakmem: hak_conf: \"bogus\" is not accepted; accepted: NAME=VALUE, with a NAME that "
              "HAKMEM_SHOW_CONFIG=1 lists");
  EXPECT_ENDS(Resolve({"HAKMEM_CONF_STRICT=1"}, nullptr, "thp=x"),
              "hakmem: //configs:conf: \"thp=x\" is not accepted; accepted: auto, on, off");
  EXPECT_ENDS(Resolve({"HAKMEM_CONF_STRICT=1"}, std::string(5000, ' ').c_str()),
              "hakmem: hak_conf is not accepted; accepted: up to 4096 bytes");
}

TEST(Strict, FromEachSource) {
  EXPECT_ENDS(Resolve({"HAKMEM_Q=1"}, "conf_strict=true"),
              "hakmem: \"HAKMEM_Q\" in the environment is no setting; HAKMEM_SHOW_CONFIG=1 lists them");
  EXPECT_ENDS(Resolve({}, nullptr, "conf_strict=yes,q=1"),
              "hakmem: //configs:conf: \"q=1\" is not accepted; accepted: NAME=VALUE, with a NAME that "
              "HAKMEM_SHOW_CONFIG=1 lists");
  // Its own value may be the mistake.
  EXPECT_ENDS(Resolve({"HAKMEM_CONF_STRICT=maybe"}, "conf_strict=1"),
              "hakmem: HAKMEM_CONF_STRICT=\"maybe\" is not accepted; accepted: 0, 1, off, on, false, true, no, yes");
  EXPECT_EQ(Messages({"HAKMEM_CONF_STRICT=maybe"}),
            "hakmem: HAKMEM_CONF_STRICT=\"maybe\" is not accepted; accepted: 0, 1, off, on, false, true, no, yes; "
            "using 0\n");
}

TEST(Strict, WithoutAMistakeNothing) {
  EXPECT_EQ(Messages({"HAKMEM_CONF_STRICT=1", "HAKMEM_PRESET=lean", "PATH=/bin"}, "keep_superslabs=3", "thp=on"), "");
  EXPECT_EQ(values.value[HAK_GATE_CONF_STRICT], 1u);
  EXPECT_EQ(values.value[HAK_GATE_KEEP_SUPERSLABS], 3u);
}

TEST(Strict, OffAMistakeIsALine) {
  EXPECT_NE(Messages({"HAKMEM_CONF_STRICT=0", "HAKMEM_Q=1"}, "conf_strict=1"), "");
  EXPECT_EQ(values.value[HAK_GATE_CONF_STRICT], 0u);
}

// ---- FAST, whose settings are fixed -------------------------------------------------------------------

TEST(Fixed, OnlyTwoVariablesCount) {
  EXPECT_EQ(
      Messages({"HAKMEM_PROFILE=bogus", "HAKMEM_KEEP_SUPERSLABS=3", "HAKMEM_SHOW_CONFIG=1", "HAKMEM_CONF_STRICT=no"},
               nullptr, "keep_superslabs=9", true),
      "");
  EXPECT_EQ(values.value[HAK_GATE_KEEP_SUPERSLABS], 9u);
  EXPECT_EQ(values.value[HAK_GATE_SHOW_CONFIG], 1u);
  EXPECT_EQ(values.origin[HAK_GATE_SHOW_CONFIG], HAK_GATE_FROM_ENVIRONMENT);
  EXPECT_EQ(values.origin[HAK_GATE_CONF_STRICT], HAK_GATE_FROM_ENVIRONMENT);
  EXPECT_EQ(
      Messages({"HAKMEM_SHOW_CONFIG=2"}, nullptr, nullptr, true),
      "hakmem: HAKMEM_SHOW_CONFIG=\"2\" is not accepted; accepted: 0, 1, off, on, false, true, no, yes; using 0\n");
}

TEST(Fixed, UnknownNamesAreMistakesAllTheSame) {
  EXPECT_EQ(Messages({"HAKMEM_SHOW_CONFG=1"}, nullptr, nullptr, true),
            "hakmem: \"HAKMEM_SHOW_CONFG\" in the environment is no setting; the nearest is HAKMEM_SHOW_CONFIG\n");
  EXPECT_ENDS(Resolve({"HAKMEM_CONF_STRICT=1"}, nullptr, "thp=x", true),
              "hakmem: //configs:conf: \"thp=x\" is not accepted; accepted: auto, on, off");
}

// ---- The settings of this process ---------------------------------------------------------------------

void Init(const char *name, const char *value) {
  setenv("HAKMEM_CONF_STRICT", "1", 1);
  setenv(name, value, 1);
  hak_gate_init();
}

TEST(Process, EndsAtAnUnknownNameInEveryBuild) {
  EXPECT_ENDS(Init("HAKMEM_KEEP_SUPERSLAB", "1"),
              "hakmem: \"HAKMEM_KEEP_SUPERSLAB\" in the environment is no setting; the nearest is "
              "HAKMEM_KEEP_SUPERSLABS");
}

TEST(Process, EndsAtAMemoryLimitThatIsTooSmall) {
  if (HAK_FAST) return;  // There is no limit.
  if (hak_os_resident_bytes() == 0) GTEST_SKIP() << "/proc does not tell what is in use";
  EXPECT_EXIT(
      Init("HAKMEM_MEMORY_LIMIT_MB", "1M"), testing::ExitedWithCode(1),
      testing::MatchesRegex("hakmem: HAKMEM_MEMORY_LIMIT_MB=\"1\" is not accepted; accepted: 0, or more than the "
                            "[0-9]+ MiB in use; HAKMEM_CONF_STRICT ends the process\n"));
}

TEST(Process, KeepsWhatItReadOfTheTwoVariables) {
  setenv("HAKMEM_CONF_STRICT", "True", 1);
  hak_gate_init();
  const char *origin = nullptr;
  EXPECT_STREQ(hak_gate_get("HAKMEM_CONF_STRICT", &origin), "1");
  EXPECT_STREQ(origin, "environment");
  unsetenv("HAKMEM_CONF_STRICT");
  hak_gate_init();
  EXPECT_STREQ(hak_gate_get("HAKMEM_CONF_STRICT", &origin), "0");
  EXPECT_STREQ(origin, HAK_FAST ? "fixed in this build" : "default");
}

}  // namespace
