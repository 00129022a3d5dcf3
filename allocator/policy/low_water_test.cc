// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/low_water.h"

#include <gtest/gtest.h>
#include <stdint.h>

#include <algorithm>
#include <vector>

#include "allocator/os/unit_test.h"

namespace {

using hak_unit::Random;

constexpr uint64_t kSpan = 16000;
constexpr uint64_t kStep = kSpan / HAK_LOW_WATER_PARTS + 1;

// Pairs of an amount and the time until which it lasted.
class Model {
 public:
  void Note(uint64_t bytes, uint64_t now) {
    held_.push_back({now_bytes_, now});
    now_bytes_ = bytes;
    now_ = now;
  }
  void Dip(uint64_t bytes) { Note(bytes, now_); }
  void Took(uint64_t bytes) {
    for (Held &held : held_) held.bytes -= std::min(held.bytes, bytes);
    now_bytes_ -= std::min(now_bytes_, bytes);
  }
  // The least amount since the beginning of the part that was under way one span ago.
  uint64_t Due() const {
    const uint64_t whole = HAK_LOW_WATER_PARTS * kStep;
    const uint64_t part = now_ / kStep * kStep;
    const uint64_t from = part > whole ? part - whole : 0;
    uint64_t due = now_bytes_;
    for (const Held &held : held_) {
      if (held.until >= from) due = std::min(due, held.bytes);
    }
    return due;
  }

 private:
  struct Held {
    uint64_t bytes;
    uint64_t until;
  };
  std::vector<Held> held_;
  uint64_t now_bytes_ = 0;
  uint64_t now_ = 0;
};

TEST(LowWater, NothingIsDueAtFirst) {
  hak_low_water water = {};
  EXPECT_EQ(hak_low_water_due(&water), 0u);
  hak_low_water_note(&water, 100, 123456789, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 0u);
}

TEST(LowWater, WhatLiesForTheWholeSpanIsDue) {
  hak_low_water water = {};
  const uint64_t start = 50 * kStep;
  hak_low_water_note(&water, 100, start, kSpan);
  for (uint64_t t = start; t < start + kSpan; t += 7) {
    hak_low_water_note(&water, 100, t, kSpan);
    ASSERT_EQ(hak_low_water_due(&water), 0u) << t - start;
  }
  hak_low_water_note(&water, 100, start + kSpan + 2 * kStep, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 100u);
}

// A program that needs memory again and again keeps it, however much it is. Only memory that stays free is due.
TEST(LowWater, WhatIsTakenAgainAndAgainIsNeverDue) {
  hak_low_water water = {};
  for (uint64_t t = 0; t < 10 * kSpan; t += kStep) {
    hak_low_water_note(&water, 1000, t, kSpan);
    hak_low_water_dip(&water, 30);
    hak_low_water_note(&water, 1000, t + 1, kSpan);
    ASSERT_LE(hak_low_water_due(&water), 30u);
  }
  EXPECT_EQ(hak_low_water_due(&water), 30u);
}

TEST(LowWater, ADipBetweenTwoNotesCounts) {
  hak_low_water water = {};
  hak_low_water_note(&water, 1000, 0, kSpan);
  hak_low_water_note(&water, 1000, 2 * kSpan, kSpan);
  ASSERT_EQ(hak_low_water_due(&water), 1000u);
  hak_low_water_dip(&water, 10);
  EXPECT_EQ(hak_low_water_due(&water), 10u);
  hak_low_water_note(&water, 1000, 2 * kSpan + 1, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 10u);
  hak_low_water_note(&water, 1000, 3 * kSpan, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 10u) << "within the span";
  hak_low_water_note(&water, 1000, 3 * kSpan + 2 * kStep, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 1000u);
}

TEST(LowWater, WhatWentBackIsNoLongerDue) {
  hak_low_water water = {};
  hak_low_water_note(&water, 1000, 0, kSpan);
  hak_low_water_note(&water, 1000, 2 * kSpan, kSpan);
  hak_low_water_took(&water, 300);
  EXPECT_EQ(hak_low_water_due(&water), 700u);
  hak_low_water_note(&water, 700, 2 * kSpan + 1, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 700u);
  hak_low_water_took(&water, UINT64_MAX);
  EXPECT_EQ(hak_low_water_due(&water), 0u);
  hak_low_water_note(&water, 700, 3 * kSpan, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 0u) << "what remains counts as new";
}

TEST(LowWater, AClockThatGoesBackMakesNothingDue) {
  hak_low_water water = {};
  hak_low_water_note(&water, 1000, 100 * kSpan, kSpan);
  hak_low_water_note(&water, 1000, 3, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 0u);
  hak_low_water_note(&water, 1000, 3 + kSpan - kStep, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 0u);
  hak_low_water_note(&water, 1000, 3 + kSpan + 2 * kStep, kSpan);
  EXPECT_EQ(hak_low_water_due(&water), 1000u);
}

TEST(LowWater, ExtremeTimesAndSpans) {
  for (const uint64_t span : {uint64_t{0}, uint64_t{1}, uint64_t{15}, uint64_t{16}, UINT64_MAX}) {
    hak_low_water water = {};
    hak_low_water_note(&water, 5, UINT64_MAX, span);
    EXPECT_EQ(hak_low_water_due(&water), 0u);
    hak_low_water_note(&water, 7, UINT64_MAX, span);
    hak_low_water_note(&water, 7, 0, span);
    hak_low_water_note(&water, 7, UINT64_MAX, span);
    EXPECT_LE(hak_low_water_due(&water), 7u);
  }
}

TEST(LowWater, AgreesWithAModel) {
  Random random(1);
  for (int round = 0; round < 50; round++) {
    hak_low_water water = {};
    Model model;
    uint64_t now = 0;
    uint64_t bytes = 0;
    const uint64_t pause = 1 + random.Below(kSpan);
    for (int i = 0; i < hak_unit::Operations(400); i++) {
      switch (random.Below(8)) {
        case 0:
          bytes = random.Below(bytes + 1);
          hak_low_water_dip(&water, bytes);
          model.Dip(bytes);
          break;
        case 1: {
          const uint64_t took = random.Below(200);
          bytes -= std::min(bytes, took);
          hak_low_water_took(&water, took);
          model.Took(took);
          break;
        }
        case 2:
          now += random.Below(4 * kSpan);
          break;
        default:
          now += random.Below(pause);
          if (random.OneIn(3)) bytes = 500 + random.Below(500);
          hak_low_water_note(&water, bytes, now, kSpan);
          model.Note(bytes, now);
          break;
      }
      ASSERT_EQ(hak_low_water_due(&water), model.Due()) << round << " " << i;
    }
  }
}

// How often the amount is noted does not matter.
TEST(LowWater, TheCadenceOfCallsDoesNotMatter) {
  Random random(2);
  for (int round = 0; round < 50; round++) {
    hak_low_water seldom = {};
    hak_low_water often = {};
    uint64_t now = random.Below(kSpan);
    uint64_t bytes = 0;
    for (int i = 0; i < 100; i++) {
      const uint64_t next = now + random.Below(kSpan / 2);
      for (int n = 0; n < 8; n++) {
        now += random.Below(next - now + 1);
        hak_low_water_note(&often, bytes, now, kSpan);
      }
      now = next;
      bytes = random.Below(1000);
      hak_low_water_note(&often, bytes, now, kSpan);
      hak_low_water_note(&seldom, bytes, now, kSpan);
      ASSERT_EQ(hak_low_water_due(&often), hak_low_water_due(&seldom));
    }
  }
}

}  // namespace
