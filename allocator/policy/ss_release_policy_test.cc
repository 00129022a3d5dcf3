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

// Every combination of few values, against the rule in words: unmapped is what is past its deadline, wholly free, and
// one more than may stay.
TEST(ReleasePolicy, UnmapsWhatIsWhollyFreeAndOneTooMany) {
  for (uint64_t empty = 0; empty <= 4; empty++) {
    for (uint64_t keep = 0; keep <= 4; keep++) {
      for (const bool wholly_free : {false, true}) {
        for (const uint64_t now : {100u, 149u, 150u, 151u}) {
          hak_release_facts facts = Facts(now, 100, 50);
          facts.empty_superslabs = empty;
          facts.keep_superslabs = keep;
          facts.wholly_free = wholly_free;
          hak_release_verdict want = HAK_RELEASE_KEEP;
          if (now >= 150) want = wholly_free && empty > keep ? HAK_RELEASE_UNMAP : HAK_RELEASE_DECOMMIT;
          EXPECT_EQ(Verdict(facts), want) << empty << ' ' << keep << ' ' << wholly_free << ' ' << now;
        }
      }
    }
  }
}

TEST(ReleasePolicy, AHeapKeepsOnlyItsLastSlabWithRoom) {
  EXPECT_TRUE(hak_release_keep_slab(0));
  EXPECT_FALSE(hak_release_keep_slab(1));
  EXPECT_FALSE(hak_release_keep_slab(UINT32_MAX));
}

}  // namespace
