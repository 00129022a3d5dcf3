// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/regret.h"

#include <gtest/gtest.h>
#include <stdint.h>

namespace {

constexpr uint64_t kSpan = 1000;

class Regret : public testing::Test {
 protected:
  void Gave(uint64_t bytes) { hak_regret_gave(&regret_, bytes, now_); }
  void Took(uint64_t bytes) { hak_regret_took(&regret_, bytes, now_, kSpan); }
  uint64_t More() { return hak_regret_more(&regret_, now_, kSpan); }
  hak_regret regret_ = {};
  uint64_t now_ = 123456;
};

TEST_F(Regret, WithoutReturningThereIsNone) {
  Took(100);
  EXPECT_EQ(More(), 0u);
  EXPECT_FALSE(hak_regret_is_open(&regret_));
}

TEST_F(Regret, IsWhatWasNeededAgainSoon) {
  Gave(100);
  EXPECT_TRUE(hak_regret_is_open(&regret_));
  EXPECT_EQ(More(), 0u);
  now_ += kSpan;
  Took(30);
  EXPECT_EQ(More(), 30u);
  Took(500);
  EXPECT_EQ(More(), 100u) << "no more than was returned";
  EXPECT_FALSE(hak_regret_is_open(&regret_));
  Gave(50);
  Took(20);
  EXPECT_EQ(More(), 120u);
}

TEST_F(Regret, IsNotWhatWasNeededLater) {
  Gave(100);
  now_ += kSpan + 1;
  Took(100);
  EXPECT_EQ(More(), 0u);
  EXPECT_FALSE(hak_regret_is_open(&regret_)) << "it is not asked for again";
}

TEST_F(Regret, EndsWithTheCycle) {
  Gave(100);
  Took(100);
  for (int i = 0; i < 10; i++) {
    now_ += 2 * kSpan;
    EXPECT_EQ(More(), 100u);
    hak_regret_used(&regret_, now_);
  }
  now_ += 2 * kSpan + 1;
  EXPECT_EQ(More(), 0u);
}

}  // namespace
