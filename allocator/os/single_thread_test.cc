// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/single_thread.h"

#include <gtest/gtest.h>

#include <thread>

namespace {

// glibc has the variable since 2.32.
#ifdef __GLIBC__
#define HAS_VARIABLE __GLIBC_PREREQ(2, 32)
#else
#define HAS_VARIABLE 0
#endif

TEST(SingleThread, UntilTheFirstThreadIsCreated) {
  // A sanitizer may have a thread of its own.
  if (!HAK_SANITIZED) {
    EXPECT_EQ(hak_is_single_threaded(), HAS_VARIABLE != 0);
  }
  bool seen = true;
  std::thread other([&] { seen = hak_is_single_threaded(); });
  EXPECT_FALSE(hak_is_single_threaded());
  other.join();
  EXPECT_FALSE(seen);
}

}  // namespace
