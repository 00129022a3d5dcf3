// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/single_thread.h"

#include <gtest/gtest.h>

#include <thread>

namespace {

// glibc has the variable since 2.32, and ThreadSanitizer has a thread of its own.
#if defined(__GLIBC__) && !HAK_SANITIZED
#if __GLIBC_PREREQ(2, 32)
#define IS_KNOWN true
#endif
#endif
#ifndef IS_KNOWN
#define IS_KNOWN false
#endif

TEST(SingleThread, UntilTheFirstThreadIsCreated) {
  EXPECT_EQ(hak_is_single_threaded(), IS_KNOWN);
  bool seen = true;
  std::thread other([&] { seen = hak_is_single_threaded(); });
  EXPECT_FALSE(hak_is_single_threaded());
  other.join();
  EXPECT_FALSE(seen);
}

}  // namespace
