// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/refusal.h"

#include <gtest/gtest.h>

namespace {

// Asks at every millisecond of a span at which asking is allowed; returns how often it asked.
uint32_t Ask(hak_refusal *refusal, uint64_t from, uint64_t until, bool refused) {
  uint32_t asked = 0;
  for (uint64_t now = from; now < until; now++) {
    if (!hak_refusal_is_over(refusal, now)) continue;
    hak_refusal_note(refusal, refused, now);
    asked++;
  }
  return asked;
}

TEST(Refusal, IsAskedMoreAndMoreRarely) {
  hak_refusal refusal = {};
  EXPECT_EQ(Ask(&refusal, 0, HAK_REFUSALS_FREE, true), HAK_REFUSALS_FREE) << "a few are nothing";
  EXPECT_FALSE(hak_refusal_is_over(&refusal, HAK_REFUSALS_FREE));
  const uint32_t first = Ask(&refusal, HAK_REFUSALS_FREE, 4000, true);
  EXPECT_GE(first, 3U);
  EXPECT_LE(first, 6U);
  const uint32_t last = Ask(&refusal, 100000, 200000, true);
  EXPECT_GE(last, 10U);
  EXPECT_LE(last, 12U) << "the longest pause";
}

TEST(Refusal, EndsWithASuccess) {
  hak_refusal refusal = {};
  Ask(&refusal, 0, 100000, true);
  EXPECT_FALSE(hak_refusal_is_over(&refusal, 100000));
  EXPECT_GT(Ask(&refusal, 100000, 120000, false), 9000U);
  EXPECT_EQ(Ask(&refusal, 120000, 120000 + HAK_REFUSALS_FREE - 1, true), HAK_REFUSALS_FREE - 1);
  EXPECT_TRUE(hak_refusal_is_over(&refusal, 120000 + HAK_REFUSALS_FREE));
}

TEST(Refusal, NowAndThenBringsNoPause) {
  hak_refusal refusal = {};
  for (uint64_t now = 0; now < 1000; now++) {
    EXPECT_TRUE(hak_refusal_is_over(&refusal, now));
    hak_refusal_note(&refusal, now % 3 != 0, now);
  }
}

}  // namespace
