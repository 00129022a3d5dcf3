// SPDX-License-Identifier: Apache-2.0
#include "allocator/gate/ss_mem_lean.h"

#include <gtest/gtest.h>
#include <stdint.h>
#include <string.h>

#include <string>
#include <vector>

#include "allocator/gate/gate_config.h"
#include "allocator/policy/config.h"

namespace {

constexpr hak_gate_origin kOrigins[] = {HAK_GATE_BUILT_IN, HAK_GATE_FROM_PRESET, HAK_GATE_FROM_BUILD,
                                        HAK_GATE_FROM_PROGRAM, HAK_GATE_FROM_ENVIRONMENT};

// Whether the setting was given explicitly.
bool Asked(hak_gate_origin origin) { return origin != HAK_GATE_BUILT_IN && origin != HAK_GATE_FROM_PRESET; }
constexpr hak_decommit_mode kModes[] = {HAK_DECOMMIT_OFF, HAK_DECOMMIT_FREE, HAK_DECOMMIT_DONTNEED};

struct hak_config Lean(const hak_gate_values &values) {
  struct hak_config config = {};
  config.prewarm_suppressed = 12345;
  hak_gate_fill_config(&values, &config);
  return config;
}

// Fills each byte of a configuration except the fields that LEAN decides.
std::vector<unsigned char> Others(struct hak_config *config) {
  config->lean_decommit = HAK_DECOMMIT_OFF;
  config->prewarm_superslabs = 0;
  config->prewarm_suppressed = 0;
  std::vector<unsigned char> bytes(sizeof *config);
  memcpy(bytes.data(), config, sizeof *config);
  return bytes;
}

struct hak_config FromEnvironment(const std::vector<std::string> &environment) {
  std::vector<char *> strings;
  for (const std::string &entry : environment) strings.push_back(const_cast<char *>(entry.c_str()));
  strings.push_back(nullptr);
  hak_gate_values values = {};
  const hak_gate_sources sources = {strings.data(), nullptr, nullptr, false};
  hak_gate_resolve(&sources, &values);
  return Lean(values);
}

void Set(hak_gate_values *values, hak_gate_id id, uint64_t value, hak_gate_origin origin) {
  values->value[id] = value;
  values->origin[id] = origin;
}

// The rule in words: LEAN suppresses the prewarm, unless the prewarm was requested explicitly and LEAN was not. Without
// LEAN nothing is decommitted eagerly, whatever the mode and its source.
TEST(SsMemLean, EveryCombination) {
  int prewarmed = 0;
  for (const uint64_t lean : {0u, 1u}) {
    for (const hak_gate_origin lean_origin : kOrigins) {
      for (const hak_decommit_mode mode : kModes) {
        for (const hak_gate_origin mode_origin : kOrigins) {
          for (const uint64_t prewarm : {0u, 1u, 5u}) {
            for (const hak_gate_origin prewarm_origin : kOrigins) {
              for (const uint64_t target : {0u, 1u, 10u, 1048576u}) {
                hak_gate_values values = {};
                Set(&values, HAK_GATE_SS_MEM_LEAN, lean, lean_origin);
                Set(&values, HAK_GATE_SS_MEM_LEAN_DECOMMIT, mode, mode_origin);
                Set(&values, HAK_GATE_SS_MEM_LEAN_TARGET, target, mode_origin);
                Set(&values, HAK_GATE_SS_PREWARM, prewarm, prewarm_origin);
                const struct hak_config config = Lean(values);

                const bool prewarm_asked = Asked(prewarm_origin);
                const bool lean_asked = Asked(lean_origin);
                const bool suppressed = lean == 1 && (lean_asked || !prewarm_asked);
                EXPECT_EQ(config.prewarm_superslabs, suppressed ? 0 : prewarm);
                EXPECT_EQ(config.prewarm_suppressed, suppressed ? prewarm : 0);
                EXPECT_EQ(config.lean_decommit, lean == 1 ? mode : HAK_DECOMMIT_OFF);
                EXPECT_EQ(config.lean_target_bytes, target * 1024 * 1024);
                prewarmed += config.prewarm_superslabs != 0;

                if (testing::Test::HasFailure()) {
                  FAIL() << "lean " << lean << " from " << lean_origin << ", decommit " << mode << " from "
                         << mode_origin << ", prewarm " << prewarm << " from " << prewarm_origin << ", target "
                         << target;
                }
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(prewarmed, 0);
}

TEST(SsMemLean, TouchesNoOtherField) {
  hak_gate_values values;
  const hak_gate_sources sources = {};
  hak_gate_resolve(&sources, &values);
  for (const int fill : {0, 1}) {  // both values of a bool
    struct hak_config before, after;
    memset(&before, fill, sizeof before);
    memset(&after, fill, sizeof after);
    hak_ss_mem_lean_resolve(&values, &after);
    EXPECT_EQ(Others(&before), Others(&after));
  }
}

void ExpectPrewarm(const struct hak_config &config, uint64_t done, uint64_t suppressed) {
  EXPECT_EQ(config.prewarm_superslabs, done);
  EXPECT_EQ(config.prewarm_suppressed, suppressed);
}

TEST(SsMemLean, TheDefaultIsLeanWithoutEagerDecommit) {
  const struct hak_config config = FromEnvironment({});
  EXPECT_EQ(config.lean_decommit, HAK_DECOMMIT_OFF);
  EXPECT_EQ(config.lean_target_bytes, 10u << 20);
  ExpectPrewarm(config, 0, 1);
}

TEST(SsMemLean, APrewarmThatIsAskedForBeatsAPreset) {
  for (const char *preset : {"balanced", "speed", "lean"}) {
    ExpectPrewarm(FromEnvironment({std::string("HAKMEM_PROFILE=") + preset, "HAKMEM_SS_PREWARM=3"}), 3, 0);
  }
  ExpectPrewarm(FromEnvironment({"HAKMEM_SS_PREWARM=3"}), 3, 0);
  ExpectPrewarm(FromEnvironment({"HAKMEM_SS_PREWARM=0"}), 0, 0);
  // The prewarm does not affect the decommit.
  EXPECT_EQ(FromEnvironment({"HAKMEM_PROFILE=lean", "HAKMEM_SS_PREWARM=3"}).lean_decommit, HAK_DECOMMIT_DONTNEED);
}

TEST(SsMemLean, LeanThatIsAskedForBeatsEverything) {
  ExpectPrewarm(FromEnvironment({"HAKMEM_SS_MEM_LEAN=1", "HAKMEM_SS_PREWARM=3"}), 0, 3);
  ExpectPrewarm(FromEnvironment({"HAKMEM_SS_PREWARM=3", "HAKMEM_SS_MEM_LEAN=1"}), 0, 3);
  ExpectPrewarm(FromEnvironment({"HAKMEM_PROFILE=speed", "HAKMEM_SS_MEM_LEAN=1"}), 0, 1);
  ExpectPrewarm(FromEnvironment({"HAKMEM_PROFILE=speed", "HAKMEM_SS_MEM_LEAN=1", "HAKMEM_SS_PREWARM=3"}), 0, 3);
}

TEST(SsMemLean, WithoutLeanTheDefaultPrewarmIsDone) {
  ExpectPrewarm(FromEnvironment({"HAKMEM_SS_MEM_LEAN=0"}), 1, 0);
  ExpectPrewarm(FromEnvironment({"HAKMEM_PROFILE=lean", "HAKMEM_SS_MEM_LEAN=0"}), 1, 0);
  ExpectPrewarm(FromEnvironment({"HAKMEM_PROFILE=speed"}), 1, 0);
  ExpectPrewarm(FromEnvironment({"HAKMEM_SS_MEM_LEAN=0", "HAKMEM_SS_PREWARM=3"}), 3, 0);
}

TEST(SsMemLean, TheDecommitNeedsLean) {
  EXPECT_EQ(FromEnvironment({"HAKMEM_SS_MEM_LEAN_DECOMMIT=DONTNEED"}).lean_decommit, HAK_DECOMMIT_DONTNEED);
  EXPECT_EQ(FromEnvironment({"HAKMEM_SS_MEM_LEAN_DECOMMIT=FREE"}).lean_decommit, HAK_DECOMMIT_FREE);
  EXPECT_EQ(FromEnvironment({"HAKMEM_SS_MEM_LEAN_DECOMMIT=DONTNEED", "HAKMEM_SS_MEM_LEAN=0"}).lean_decommit,
            HAK_DECOMMIT_OFF);
  EXPECT_EQ(FromEnvironment({"HAKMEM_SS_MEM_LEAN_DECOMMIT=FREE", "HAKMEM_PROFILE=speed"}).lean_decommit,
            HAK_DECOMMIT_OFF);
  EXPECT_EQ(FromEnvironment({"HAKMEM_PROFILE=lean"}).lean_decommit, HAK_DECOMMIT_DONTNEED);
  EXPECT_EQ(FromEnvironment({"HAKMEM_PROFILE=lean", "HAKMEM_SS_MEM_LEAN=0"}).lean_decommit, HAK_DECOMMIT_OFF);
}

TEST(SsMemLean, AValueThatIsNotAcceptedWasNotAskedFor) {
  testing::internal::CaptureStderr();
  ExpectPrewarm(FromEnvironment({"HAKMEM_SS_MEM_LEAN=2", "HAKMEM_SS_PREWARM=3"}), 3, 0);
  ExpectPrewarm(FromEnvironment({"HAKMEM_SS_MEM_LEAN=1", "HAKMEM_SS_PREWARM=-3"}), 0, 1);
  ExpectPrewarm(FromEnvironment({"HAKMEM_SS_PREWARM=1025"}), 0, 1);
  testing::internal::GetCapturedStderr();
}

}  // namespace
