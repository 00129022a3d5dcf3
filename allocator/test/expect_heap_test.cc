// SPDX-License-Identifier: Apache-2.0
//
// EXPECT_HEAP_AT_MOST, in a program whose malloc is hakmem.
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <hakmem/expect_heap.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

std::vector<void *> kept;

void Keep(size_t count, size_t size) {
  for (size_t i = 0; i < count; i++) kept.push_back(malloc(size));
}

class ExpectHeap : public testing::Test {
 protected:
  void SetUp() override { kept.reserve(4096); }
  void TearDown() override {
    for (void *block : kept) free(block);
    kept.clear();
  }
};

TEST_F(ExpectHeap, WhatIsFreedAgainDoesNotCount) {
  EXPECT_HEAP_AT_MOST(0, for (int i = 0; i < 1000; i++) free(malloc(100)));
  EXPECT_HEAP_AT_MOST(0, std::vector<int>(1000000, 1));
  EXPECT_HEAP_AT_MOST(0, Keep(50, 100); for (void *block : kept) free(block); kept.clear());
}

TEST_F(ExpectHeap, TheBoundItselfIsAllowed) {
  const long long usable = static_cast<long long>(hak_good_size(1000));
  EXPECT_HEAP_AT_MOST(10 * usable, Keep(10, 1000));
  EXPECT_FALSE(hakmem::HeapAtMost(10 * usable - 1, "", [] { Keep(10, 1000); }));
}

TEST_F(ExpectHeap, AFailureSaysWhatGrew) {
  EXPECT_NONFATAL_FAILURE(EXPECT_HEAP_AT_MOST(10, Keep(300, 1000)) << "and more text", "and more text");
  EXPECT_NONFATAL_FAILURE(EXPECT_HEAP_AT_MOST(10, Keep(300, 1000)), "Keep(300, 1000)\nkeeps ");
  EXPECT_NONFATAL_FAILURE(EXPECT_HEAP_AT_MOST(10, Keep(300, 1000)), " bytes, more than 10; live are ");
  EXPECT_NONFATAL_FAILURE(EXPECT_HEAP_AT_MOST(10, Keep(1, 1000)), "\n  +1 block of up to 1");
  const testing::AssertionResult result = hakmem::HeapAtMost(10, "code", [] { Keep(300, 1000); });
  const std::string text = result.message();
  const std::string line = "\n  +300 blocks of up to ";
  ASSERT_NE(text.find(line), std::string::npos) << text;
  const int size = atoi(text.c_str() + text.find(line) + line.size());
  EXPECT_GE(size, 1000) << text;
  EXPECT_LT(size, 1300) << text;
}

TEST_F(ExpectHeap, LargeBlocksAreToldByTheirRange) {
  const testing::AssertionResult result = hakmem::HeapAtMost(1 << 20, "code", [] { Keep(2, 3 << 20); });
  ASSERT_FALSE(result);
  const std::string text = result.message();
  EXPECT_NE(text.find("\n  +2 blocks without a size class, of up to 4194304 bytes"), std::string::npos) << text;
}

TEST_F(ExpectHeap, TheGreatestGrowthComesFirst) {
  hakmem::HeapGrowth growth;
  for (size_t size = 16; size <= 8192; size *= 2) Keep(size == 512 ? 100 : 1, size);
  growth.End();
  const std::string text = growth.Grown();
  EXPECT_EQ(text.find("\n  +100 blocks of up to "), 0u) << text;
  EXPECT_NE(text.find("\n  and 2 more sizes"), std::string::npos) << text;
  EXPECT_GT(growth.Bytes(), 100 * 512);
  EXPECT_GE(growth.LiveBytes(), growth.Bytes());
}

TEST_F(ExpectHeap, MemoryThatIsFreedIsNegativeGrowth) {
  Keep(100, 1000);
  hakmem::HeapGrowth growth;
  for (void *block : kept) free(block);
  kept.clear();
  growth.End();
  EXPECT_LE(growth.Bytes(), -100 * 1000);
  EXPECT_EQ(growth.Grown(), "");
}

TEST_F(ExpectHeap, BlocksOfOtherThreadsCount) {
  const auto in_a_thread = [](size_t count) { std::thread([count] { Keep(count, 2000); }).join(); };
  in_a_thread(1);
  EXPECT_HEAP_AT_MOST(64 * 1024, in_a_thread(10));
  EXPECT_FALSE(hakmem::HeapAtMost(64 * 1024, "", [&] { in_a_thread(100); }));
}

TEST_F(ExpectHeap, AReturnEndsTheStatementOnly) {
  bool is_behind = false;
  EXPECT_HEAP_AT_MOST(0, if (kept.empty()) return; Keep(1000, 1000));
  is_behind = true;
  EXPECT_TRUE(is_behind);
}

}  // namespace
