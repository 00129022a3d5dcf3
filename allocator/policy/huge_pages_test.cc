// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/huge_pages.h"

#include <gtest/gtest.h>

namespace {

hak_huge_facts Growing() {
  return {/*wanted=*/HAK_HUGE_PAGES_AUTO, /*available=*/true, /*further=*/true, /*eager=*/false,
          /*committed=*/HAK_HUGE_FROM};
}

// In HARDENED guard pages split huge pages, so huge pages are used only if they are requested.
TEST(HugeWanted, InAHeapThatGrows) {
  const hak_huge_facts facts = Growing();
  EXPECT_EQ(hak_should_use_huge(&facts), !HAK_HARDENED);
  EXPECT_FALSE(hak_should_populate(&facts));
}

TEST(HugeWanted, NotInASmallOne) {
  hak_huge_facts facts = Growing();
  facts.committed = HAK_HUGE_FROM - 1;
  EXPECT_FALSE(hak_should_use_huge(&facts));
  facts.available = false;
  EXPECT_FALSE(hak_should_populate(&facts));
}

TEST(HugeWanted, NotForTheFirstSlabOfAClass) {
  hak_huge_facts facts = Growing();
  facts.further = false;
  EXPECT_FALSE(hak_should_use_huge(&facts));
}

TEST(HugeWanted, NotWhereFreeMemoryGoesBackAtOnce) {
  hak_huge_facts facts = Growing();
  facts.eager = true;
  EXPECT_FALSE(hak_should_use_huge(&facts));
  facts.available = false;
  EXPECT_FALSE(hak_should_populate(&facts));
}

TEST(HugeWanted, NotWhereThereAreNone) {
  hak_huge_facts facts = Growing();
  facts.available = false;
  EXPECT_FALSE(hak_should_use_huge(&facts));
  EXPECT_TRUE(hak_should_populate(&facts));
  facts.wanted = HAK_HUGE_PAGES_ON;
  EXPECT_FALSE(hak_should_use_huge(&facts));
}

TEST(HugeWanted, AsTheOperatorSays) {
  hak_huge_facts facts = Growing();
  facts.wanted = HAK_HUGE_PAGES_OFF;
  EXPECT_FALSE(hak_should_use_huge(&facts));
  facts = {HAK_HUGE_PAGES_ON, true, false, true, 0};
  EXPECT_TRUE(hak_should_use_huge(&facts));
}

}  // namespace
