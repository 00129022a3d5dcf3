// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/watch_policy.h"

#include <gtest/gtest.h>

namespace {

constexpr uint64_t kMiB = 1024 * 1024;
constexpr uint64_t kDeadline = 1000;

class WatchPolicy : public testing::Test {
 protected:
  bool Judge(uint64_t now, uint64_t free_mib, uint64_t committed_mib) {
    const hak_watch_facts facts = {now, free_mib * kMiB, committed_mib * kMiB, kDeadline};
    return hak_watch_judge(&state_, &facts);
  }
  hak_watch_state state_ = {};
};

TEST_F(WatchPolicy, LastsUntilTheMemoryHasGoneBack) {
  EXPECT_FALSE(Judge(0, 3, 3));
  EXPECT_FALSE(Judge(10, 30, 300));
  for (uint64_t now = 20; now < 1020; now += 10) EXPECT_TRUE(Judge(now, 250, 300)) << "not due yet";
  for (uint64_t left = 250; left > 10; left -= 10) EXPECT_TRUE(Judge(1300 - left, left, 50 + left));
  EXPECT_FALSE(Judge(1400, 3, 53));
}

// Free blocks between blocks in use.
TEST_F(WatchPolicy, EndsWhenNothingGoesBack) {
  EXPECT_TRUE(Judge(0, 100, 200));
  uint64_t now = 0;
  while (Judge(now, 100, 200) && now < 100000) now += 10;
  EXPECT_GT(now, 2 * kDeadline) << "page purge looks twice";
  EXPECT_LT(now, 10 * kDeadline);
  for (uint64_t later = now; later < now + 60000; later += 100) ASSERT_FALSE(Judge(later, 100, 200)) << later;
  // It begins again when more memory is free, and for the same amount after that amount was in use.
  EXPECT_TRUE(Judge(now + 70000, 180, 280));
  EXPECT_FALSE(Judge(now + 71000, 100, 200));
  EXPECT_FALSE(Judge(now + 72000, 10, 200));
  EXPECT_TRUE(Judge(now + 73000, 100, 200));
}

// A pause without a call, or of the whole process, is not a time in which memory could have gone back.
TEST_F(WatchPolicy, APauseIsNoReasonToEnd) {
  EXPECT_TRUE(Judge(0, 100, 200));
  for (uint64_t now = 10; now < 100; now += 10) EXPECT_TRUE(Judge(now, 100, 200));
  EXPECT_TRUE(Judge(60000, 100, 200));
  EXPECT_TRUE(Judge(60010, 100, 200));
  for (uint64_t left = 100; left > 50; left -= 10) EXPECT_TRUE(Judge(70000 - left, left, 100 + left));
  // With a call every ten seconds it ends all the same when nothing goes back.
  uint64_t calls = 0;
  for (uint64_t now = 70000; Judge(now, 50, 150) && calls < 100; now += 10000) calls++;
  EXPECT_GE(calls, 3u);
  EXPECT_LE(calls, 20u);
}

// A heap that grows and shrinks a hundred times a second.
TEST_F(WatchPolicy, BeginsOnlySoManyTimesASecond) {
  uint32_t begun = 0;
  for (uint64_t now = 0; now < 100000; now += 10) {
    begun += Judge(now, 90, 100);
    EXPECT_FALSE(Judge(now + 5, 0, 100));
  }
  EXPECT_LE(begun, HAK_WATCH_EPISODES + 100000 / HAK_WATCH_EPISODE_MS);
  EXPECT_GE(begun, 100000 / HAK_WATCH_EPISODE_MS - 2);
}

TEST(WatchBudget, IsUsedByCallsAndComesBackWithTime) {
  EXPECT_EQ(hak_watch_used(0, 100, 0), 100u);
  EXPECT_EQ(hak_watch_used(1000, 100, 1), 0u);
  EXPECT_EQ(hak_watch_used(HAK_WATCH_CALLS_PER_MS * 10, 5, 3), HAK_WATCH_CALLS_PER_MS * 7 + 5);
  EXPECT_LE(hak_watch_used(HAK_WATCH_CALLS, 1, UINT64_MAX), 1u);
  EXPECT_LE(hak_watch_used(HAK_WATCH_CALLS, 0, HAK_WATCH_CALLS / HAK_WATCH_CALLS_PER_MS - 1), HAK_WATCH_CALLS_PER_MS);
}

}  // namespace
