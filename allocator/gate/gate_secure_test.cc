// SPDX-License-Identifier: Apache-2.0
//
// A process with raised privileges ignores its caller's environment, but obeys the settings that are compiled in.
// Raised privileges need a setuid program, so this test replaces the box that reads them from the kernel.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "allocator/gate/gate.h"
#include "allocator/gate/gate_now.h"
#include "allocator/gate/gate_start.h"
#include "allocator/os/auxv.h"

namespace {

bool secure;

}  // namespace

// Replaces the box's function: this program's own object comes before the archive's.
extern "C" uintptr_t hak_auxv(enum hak_auxv_entry entry) {
  switch (entry) {
    case HAK_AUXV_PAGE_SIZE:
      return static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    case HAK_AUXV_SECURE:
      return secure ? 1 : 0;
    default:
      return 0;
  }
}

namespace {

struct Answer {
  const char *value;
  const char *origin;
  std::string messages;
};

// The settings of a process that is started with some in its environment.
Answer Init(bool raised) {
  setenv("HAKMEM_PROFILE", "speed", 1);
  setenv("HAKMEM_SHOW_CONFIG", "1", 1);
  setenv("HAKMEM_KEEP_SUPERSLABS", "nonsense", 1);
  setenv("HAKMEM_NO_SUCH_SETTING", "1", 1);
  setenv("HAKMEM_PROF_DUMP", raised ? "/raised" : "/plain", 1);
  if (raised) setenv("HAKMEM_CONF_STRICT", "1", 1);
  secure = raised;
  testing::internal::CaptureStderr();
  hak_gate_init();
  Answer answer = {};
  answer.messages = testing::internal::GetCapturedStderr();
  answer.value = hak_gate_get("HAKMEM_PROFILE", &answer.origin);
  return answer;
}

TEST(GateSecure, OtherwiseTheEnvironmentCounts) {
  const Answer answer = Init(false);
  EXPECT_STREQ(answer.value, HAK_FAST ? "balanced" : "speed");
  EXPECT_STREQ(answer.origin, HAK_FAST ? "fixed in this build" : "environment");
  EXPECT_NE(answer.messages, "");
  EXPECT_STREQ(hak_gate_text(HAK_GATE_TEXT_PROF_DUMP), HAK_FAST ? "" : "/plain");
}

TEST(GateSecure, ARaisedProcessIgnoresItAndSaysNothing) {
  const Answer answer = Init(true);
  EXPECT_STREQ(answer.value, "balanced");
  EXPECT_STREQ(answer.origin, HAK_FAST ? "fixed in this build" : "default");
  EXPECT_EQ(answer.messages, "");
  EXPECT_STRNE(hak_gate_text(HAK_GATE_TEXT_PROF_DUMP), "/raised");
}

TEST(GateSecure, ARaisedProcessObeysItsOwnHakConf) {
  hak_conf = "profile=lean";
  const Answer answer = Init(true);
  hak_conf = nullptr;
  EXPECT_STREQ(answer.value, HAK_FAST ? "balanced" : "lean");
  EXPECT_STREQ(answer.origin, HAK_FAST ? "fixed in this build" : "hak_conf");
  EXPECT_EQ(answer.messages, "");
}

}  // namespace
