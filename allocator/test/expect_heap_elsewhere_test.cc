// SPDX-License-Identifier: Apache-2.0
//
// EXPECT_HEAP_AT_MOST in a program on another malloc: it must not pass without having counted anything.
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <hakmem/expect_heap.h>

namespace {

TEST(ExpectHeapElsewhere, Fails) {
  bool has_run = false;
  EXPECT_NONFATAL_FAILURE(EXPECT_HEAP_AT_MOST(1000000, has_run = true), "hakmem is not this test's malloc");
  EXPECT_FALSE(has_run);
}

}  // namespace
