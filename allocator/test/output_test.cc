// SPDX-License-Identifier: Apache-2.0
//
// hak_set_output through the public interface: the messages that the program gets in place of stderr.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>
#include <unistd.h>

#include "allocator/test/probe.h"

namespace {

void WriteMarked(const char *text, size_t length) {
  if (write(STDERR_FILENO, "marked: ", 8) != 8 || write(STDERR_FILENO, text, length) < 0) _exit(3);
}

TEST(Output, TheOneBefore) {
  EXPECT_EQ(hak_set_output(WriteMarked), nullptr);
  EXPECT_EQ(hak_set_output(nullptr), WriteMarked);
  EXPECT_EQ(hak_set_output(nullptr), nullptr);
}

TEST(OutputDeathTest, StatisticsAtExit) {
  if (hak_test::IsFastBuild()) {
    EXPECT_NE(hak_config_set("HAKMEM_STATS_AT_EXIT", "1"), 0) << "settings of FAST are fixed";
    return;
  }
  EXPECT_EXIT(
      {
        hak_config_set("HAKMEM_STATS_AT_EXIT", "1");
        hak_set_output(WriteMarked);
        exit(0);
      },
      testing::ExitedWithCode(0), "^marked: hakmem: ");
}

TEST(OutputDeathTest, TheLastLine) {
  void *volatile block = hak_malloc(100);
  EXPECT_DEATH(
      {
        hak_set_output(WriteMarked);
        hak_free(static_cast<char *>(block) + 1);
        hak_thread_flush();
      },
      "^marked: hakmem: invalid free: 0x");
  hak_free(block);
}

}  // namespace
