// SPDX-License-Identifier: Apache-2.0
//
// A process with raised privileges does not obey its caller's environment, but still what it was built with. To be one
// takes a setuid program; here the kernel's word for it, which getauxval passes on, is replaced.
#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "allocator/gate/gate.h"
#include "allocator/gate/gate_now.h"

namespace {

bool secure;

}  // namespace

// In place of the C library's, for this program. Others ask too, some before main, so the rest is answered truly, and
// by plain system calls: a sanitizer's versions of open and read may not be ready.
extern "C" unsigned long getauxval(unsigned long type) noexcept {
  if (type == AT_SECURE) return secure ? 1 : 0;
  Elf64_auxv_t entry;
  unsigned long value = 0;
  const int file = static_cast<int>(syscall(SYS_openat, AT_FDCWD, "/proc/self/auxv", O_RDONLY | O_CLOEXEC));
  while (file >= 0 && syscall(SYS_read, file, &entry, sizeof entry) == static_cast<long>(sizeof entry)) {
    if (entry.a_type == type) value = entry.a_un.a_val;
  }
  if (file >= 0) syscall(SYS_close, file);
  return value;
}

namespace {

struct Answer {
  const char *value;
  const char *origin;
  std::string messages;
};

// What the settings are for a process that is started with some in its environment.
Answer Init(bool raised) {
  setenv("HAKMEM_PROFILE", "speed", 1);
  setenv("HAKMEM_SHOW_CONFIG", "1", 1);
  setenv("HAKMEM_KEEP_SUPERSLABS", "nonsense", 1);
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
}

TEST(GateSecure, ARaisedProcessIgnoresItAndSaysNothing) {
  const Answer answer = Init(true);
  EXPECT_STREQ(answer.value, "balanced");
  EXPECT_STREQ(answer.origin, HAK_FAST ? "fixed in this build" : "default");
  EXPECT_EQ(answer.messages, "");
}

TEST(GateSecure, ARaisedProcessObeysItsOwnHakConf) {
  hak_conf = "profile=lean";
  const Answer answer = Init(true);
  hak_conf = nullptr;
  EXPECT_STREQ(answer.value, HAK_FAST ? "balanced" : "lean");
  EXPECT_STREQ(answer.origin, HAK_FAST ? "fixed in this build" : "hak_conf");
  EXPECT_EQ(answer.messages, "");
}

TEST(GateSecure, TheOtherEntriesOfTheVectorAreTrue) {
  EXPECT_EQ(getauxval(AT_PAGESZ), static_cast<unsigned long>(sysconf(_SC_PAGESIZE)));
}

}  // namespace
