// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/thread_mark.h"

#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "allocator/os/fault.h"
#include "allocator/os/unit_test.h"

namespace {

// False in an emulator that ignores the locks of ended threads.
bool Supported() {
  hak_thread_mark mark = {};
  const bool supported = hak_thread_mark_set(&mark);
  hak_thread_mark_clear(&mark);
  return supported;
}

TEST(ThreadMark, IsLeftByAThreadThatEndsWithIt) {
  if (!Supported()) GTEST_SKIP() << "an emulator or ThreadSanitizer, where there are no marks";
  hak_thread_mark mark = {};
  EXPECT_FALSE(hak_thread_mark_is_left(&mark));
  std::thread([&] {
    EXPECT_TRUE(hak_thread_mark_set(&mark));
    EXPECT_FALSE(hak_thread_mark_is_left(&mark));
  }).join();
  EXPECT_TRUE(hak_thread_mark_is_left(&mark));
  // The mark can be used for the next thread.
  std::thread([&] {
    EXPECT_TRUE(hak_thread_mark_set(&mark));
    EXPECT_FALSE(hak_thread_mark_is_left(&mark));
    hak_thread_mark_clear(&mark);
  }).join();
  EXPECT_FALSE(hak_thread_mark_is_left(&mark));
}

TEST(ThreadMark, IsSetAnewInTheChildOfAFork) {
  if (!Supported()) GTEST_SKIP() << "an emulator or ThreadSanitizer, where there are no marks";
  static hak_thread_mark mark;
  ASSERT_TRUE(hak_thread_mark_set(&mark));
  const pid_t child = fork();
  if (child == 0) {
    const bool good = hak_thread_mark_set(&mark) && !hak_thread_mark_is_left(&mark);
    hak_thread_mark_clear(&mark);
    _exit(good && !hak_thread_mark_is_left(&mark) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(hak_thread_mark_is_left(&mark));
  hak_thread_mark_clear(&mark);
}

TEST(ThreadMark, CanFail) {
  hak_thread_mark mark = {};
  hak_fault_set(HAK_FAULT_THREAD, 1, 1);
  EXPECT_FALSE(hak_thread_mark_set(&mark));
  hak_fault_clear();
  EXPECT_FALSE(hak_thread_mark_is_left(&mark));
  hak_thread_mark_clear(&mark);
}

}  // namespace
