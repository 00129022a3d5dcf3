// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/ss_release_policy.h"

#include <gtest/gtest.h>
#include <stdint.h>

namespace {

hak_release_facts Facts(uint64_t now, uint64_t since, uint64_t deadline) {
  hak_release_facts facts = {};
  facts.now_ms = now;
  facts.free_since_ms = since;
  facts.deadline_ms = deadline;
  return facts;
}

hak_release_verdict Verdict(const hak_release_facts &facts) { return hak_release_superslab(&facts); }

TEST(ReleasePolicy, KeepsUntilTheDeadline) {
  EXPECT_EQ(Verdict(Facts(1000, 1000, 500)), HAK_RELEASE_KEEP);
  EXPECT_EQ(Verdict(Facts(1499, 1000, 500)), HAK_RELEASE_KEEP);
  EXPECT_EQ(Verdict(Facts(1500, 1000, 500)), HAK_RELEASE_DECOMMIT);
  EXPECT_EQ(Verdict(Facts(999999, 1000, 500)), HAK_RELEASE_DECOMMIT);
}

TEST(ReleasePolicy, ADeadlineOfZeroReleasesAtOnce) {
  EXPECT_EQ(Verdict(Facts(1000, 1000, 0)), HAK_RELEASE_DECOMMIT);
  EXPECT_EQ(Verdict(Facts(0, 0, 0)), HAK_RELEASE_DECOMMIT);
}

TEST(ReleasePolicy, AClockBeforeTheMarkCountsAsNoTime) {
  EXPECT_EQ(Verdict(Facts(999, 1000, 1)), HAK_RELEASE_KEEP);
  EXPECT_EQ(Verdict(Facts(0, UINT64_MAX, 1)), HAK_RELEASE_KEEP);
  EXPECT_EQ(Verdict(Facts(0, UINT64_MAX, 0)), HAK_RELEASE_DECOMMIT);
}

TEST(ReleasePolicy, ExtremeTimes) {
  EXPECT_EQ(Verdict(Facts(UINT64_MAX, 0, UINT64_MAX)), HAK_RELEASE_DECOMMIT);
  EXPECT_EQ(Verdict(Facts(UINT64_MAX - 1, 0, UINT64_MAX)), HAK_RELEASE_KEEP);
}

// Every combination of a few values, against the rule in words. A superslab is unmapped if it is past its deadline,
// wholly free, and one more than may stay. Any other memory past its deadline is kept only if no more is free than may
// stay.
TEST(ReleasePolicy, EveryCombinationOfFewValues) {
  int seen[3] = {};
  for (uint64_t empty = 0; empty <= 3; empty++) {
    for (uint64_t keep = 0; keep <= 3; keep++) {
      for (const bool wholly_free : {false, true}) {
        for (const uint64_t now : {100u, 149u, 150u, 151u}) {
          for (uint64_t free_bytes = 0; free_bytes <= 3; free_bytes++) {
            for (uint64_t keep_bytes = 0; keep_bytes <= 3; keep_bytes++) {
              hak_release_facts facts = Facts(now, 100, 50);
              facts.empty_superslabs = empty;
              facts.keep_superslabs = keep;
              facts.wholly_free = wholly_free;
              facts.free_bytes = free_bytes;
              facts.keep_free_bytes = keep_bytes;
              const bool due = now >= 150;
              const bool too_many = wholly_free && empty > keep;
              const bool spared = free_bytes > 0 && free_bytes <= keep_bytes;
              hak_release_verdict want = HAK_RELEASE_KEEP;
              if (due && too_many) want = HAK_RELEASE_UNMAP;
              if (due && !too_many && !spared) want = HAK_RELEASE_DECOMMIT;
              EXPECT_EQ(Verdict(facts), want)
                  << empty << ' ' << keep << ' ' << wholly_free << ' ' << now << ' ' << free_bytes << ' ' << keep_bytes;
              seen[want]++;
            }
          }
        }
      }
    }
  }
  for (const int times : seen) EXPECT_GT(times, 0);
}

TEST(ReleaseEagerly, EveryCombinationOfFewValues) {
  int eager = 0;
  for (const hak_decommit_mode mode : {HAK_DECOMMIT_OFF, HAK_DECOMMIT_FREE, HAK_DECOMMIT_DONTNEED}) {
    for (const uint64_t committed : {uint64_t{0}, uint64_t{1}, uint64_t{10}, UINT64_MAX}) {
      for (const uint64_t target : {uint64_t{0}, uint64_t{1}, uint64_t{9}, uint64_t{10}, uint64_t{11}, UINT64_MAX}) {
        for (const uint64_t free_bytes : {uint64_t{0}, uint64_t{1}, uint64_t{2}, UINT64_MAX}) {
          for (const uint64_t keep : {uint64_t{0}, uint64_t{1}, uint64_t{2}, UINT64_MAX}) {
            hak_eager_facts facts = {};
            facts.mode = mode;
            facts.committed = committed;
            facts.target = target;
            facts.free_bytes = free_bytes;
            facts.keep_free_bytes = keep;
            bool want = true;
            if (mode == HAK_DECOMMIT_OFF) want = false;
            if (committed <= target) want = false;
            if (free_bytes <= keep) want = false;
            EXPECT_EQ(hak_eager_mode(&facts), want ? mode : HAK_DECOMMIT_OFF)
                << mode << ' ' << committed << ' ' << target << ' ' << free_bytes << ' ' << keep;
            eager += want;
          }
        }
      }
    }
  }
  EXPECT_GT(eager, 0);
}

// Beyond the soft limit memory is returned whatever LEAN does, except what may stay.
TEST(ReleaseEagerly, BeyondTheSoftLimit) {
  const auto mode = [](hak_decommit_mode lean, uint64_t committed, uint64_t free_bytes, uint64_t keep = 0) {
    hak_eager_facts facts = {};
    facts.mode = lean;
    facts.committed = committed;
    facts.target = 100;
    facts.soft_limit = 3200;
    facts.free_bytes = free_bytes;
    facts.keep_free_bytes = keep;
    return hak_eager_mode(&facts);
  };
  for (const hak_decommit_mode lean : {HAK_DECOMMIT_OFF, HAK_DECOMMIT_FREE, HAK_DECOMMIT_DONTNEED}) {
    EXPECT_EQ(mode(lean, 3200, 1000), lean);
    EXPECT_EQ(mode(lean, 3201, 1000), HAK_DECOMMIT_DONTNEED);
    EXPECT_EQ(mode(lean, UINT64_MAX, UINT64_MAX), HAK_DECOMMIT_DONTNEED);
    EXPECT_EQ(mode(lean, 3201, 101), HAK_DECOMMIT_DONTNEED);
    EXPECT_EQ(mode(lean, 3201, 100), lean);
    EXPECT_EQ(mode(lean, 3201, 0), HAK_DECOMMIT_OFF);
    EXPECT_EQ(mode(lean, 3201, 1000, 1000), HAK_DECOMMIT_OFF);
    EXPECT_EQ(mode(lean, 3201, 1001, 1000), HAK_DECOMMIT_DONTNEED);
  }
}

TEST(ReleaseSlice, IsATenthOfTheTimeSinceAndAtMostTwentyMilliseconds) {
  for (uint64_t ms = 0; ms <= 200; ms++) EXPECT_EQ(hak_release_slice_us(ms), ms * 1000 / 10) << ms;
  for (const uint64_t ms : {uint64_t{201}, uint64_t{1000}, uint64_t{1} << 32, UINT64_MAX / 100, UINT64_MAX / 100 + 1,
                            uint64_t{1} << 63, UINT64_MAX - 1, UINT64_MAX}) {
    EXPECT_EQ(hak_release_slice_us(ms), 20000u) << ms;
  }
}

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

// The least free bytes out of `whole` for which the function returns true; UINT64_MAX: none. It must be true for more
// bytes too.
template <typename Question>
uint64_t Least(Question question, uint64_t whole) {
  if (!question(UINT64_MAX, whole)) return UINT64_MAX;
  uint64_t no = 0, yes = UINT64_MAX;
  if (question(0, whole)) return 0;
  while (yes - no > 1) {
    const uint64_t middle = no + (yes - no) / 2;
    (question(middle, whole) ? yes : no) = middle;
  }
  return yes;
}

// The function is true from one part in `parts` of the whole on, but never for little memory. Nothing overflows.
template <typename Question>
void ExpectPartOfTheWhole(Question question, uint64_t parts) {
  const uint64_t little = Least(question, 0);
  EXPECT_GE(little, kMiB / 2) << "not worth the work";
  EXPECT_LE(little, 64 * kMiB) << "too much to be kept for good";
  for (const uint64_t whole : {uint64_t{0}, uint64_t{1}, little - 1, little, little * parts, little * parts + parts,
                               3 * kGiB, 1000 * kGiB, UINT64_MAX - 1, UINT64_MAX}) {
    const uint64_t want = whole / parts > little ? whole / parts : little;
    EXPECT_EQ(Least(question, whole), want) << whole;
    EXPECT_FALSE(question(0, whole)) << whole;
    EXPECT_FALSE(question(want - 1, whole)) << whole;
    EXPECT_TRUE(question(want, whole)) << whole;
    EXPECT_TRUE(question(want + 1, whole)) << whole;
  }
}

TEST(ReleaseWatch, WhenAnEighthOfTheHeapIsFreeAndThatIsNotLittle) { ExpectPartOfTheWhole(hak_should_watch, 8); }

TEST(ReleasePages, WhenAnEighthOfTheHeapIsFreeAndThatIsNotLittle) { ExpectPartOfTheWhole(hak_should_purge_pages, 8); }

TEST(ReleaseBeforeGrowth, WhenAnEighthOfTheHeapIsFreeAndThatIsNotLittle) {
  ExpectPartOfTheWhole(hak_should_empty_before_growth, 8);
}

TEST(ReleaseShare, WhenAnEighthOfTheHeapIsFreeAndThatIsNotLittle) { ExpectPartOfTheWhole(hak_should_share_slabs, 8); }

TEST(ReleasePolicy, AHeapKeepsOnlyItsLastSlabWithRoom) {
  EXPECT_TRUE(hak_should_keep_slab(0));
  EXPECT_FALSE(hak_should_keep_slab(1));
  EXPECT_FALSE(hak_should_keep_slab(UINT32_MAX));
}

}  // namespace
