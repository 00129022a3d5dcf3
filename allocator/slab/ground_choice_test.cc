// SPDX-License-Identifier: Apache-2.0
#include "allocator/slab/ground_choice.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/policy/huge_pages.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/slab/ground_split.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/slab/slab_release.h"
#include "allocator/slab/unit_test.h"
#include "allocator/test/kernel_support.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::GiveAll;
using hak_unit::kHour;
using hak_unit::kSmall;
using hak_unit::Pool;
using hak_unit::SomeOwner;
using hak_unit::TakeUsed;

// As if the system gave huge pages on advice, and the operator had asked for them.
class HugeGround : public Pool {
 protected:
  HugeGround() { hak_config.huge_pages = HAK_HUGE_PAGES_ON; }
  ~HugeGround() override { hak_config.huge_pages = HAK_HUGE_PAGES_AUTO; }
  void SetUp() override {
    if (!hak_test::HasHugePages()) GTEST_SKIP() << "no huge pages on this system";
  }
};

bool IsHuge(hak_slab *slab) { return hak_ground_is_huge(hak_superslab_of_slab(slab)); }

TEST_F(HugeGround, ASuperslabHasMemoryFromTheStartAndGoesBackWhole) {
  hak_pool_give(TakeUsed(kSmall));  // The first one may map memory for records, which stays.
  hak_pool_trim(0);
  const uint64_t committed = hak_commit_now();
  hak_slab *slab = TakeUsed(kSmall);
  ASSERT_NE(slab, nullptr);
  EXPECT_TRUE(IsHuge(slab));
  EXPECT_EQ(slab->zeroed, 0) << "nobody keeps a book on which parts were used";
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, HAK_SLABS_PER_SUPERSLAB - 1);
  EXPECT_EQ(hak_commit_now(), committed + HAK_SUPERSLAB_SIZE);
  EXPECT_STREQ(hak_pool_verify(), nullptr);
  hak_config.keep_superslabs = 8;
  const hak_pool_counters before = hak_pool_totals().counters;
  hak_pool_give(slab);
  hak_config.decommit_deadline_ms = 0;
  EXPECT_TRUE(hak_pool_tick(hak_os_now_ms()));
  EXPECT_EQ(hak_pool_totals().counters.unmapped_superslabs, before.unmapped_superslabs + 1);
  EXPECT_EQ(hak_pool_totals().counters.split_superslabs, before.split_superslabs);
  EXPECT_EQ(hak_commit_now(), committed);
}

TEST_F(HugeGround, APartThatGoesBackSplitsItOnce) {
  hak_slab *slab = TakeUsed(kSmall);
  hak_slab *other = TakeUsed(kSmall);
  ASSERT_TRUE(slab != nullptr && other != nullptr && IsHuge(slab));
  const hak_pool_counters before = hak_pool_totals().counters;
  hak_pool_trim(0);
  EXPECT_FALSE(IsHuge(slab));
  EXPECT_EQ(hak_pool_totals().counters.split_superslabs, before.split_superslabs + 1);
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
  EXPECT_STREQ(hak_pool_verify(), nullptr);
  hak_pool_give(other);
  hak_pool_trim(0);
  EXPECT_EQ(hak_pool_totals().counters.split_superslabs, before.split_superslabs + 1);
  hak_pool_give(slab);
}

// While a heap grows into a superslab, the deadline counts from the last slab that was taken. After one was given back,
// it counts as usual.
TEST_F(HugeGround, TheDeadlineCountsFromTheLastGrowth) {
  hak_config.decommit_deadline_ms = 2000;
  hak_slab *slab = TakeUsed(kSmall);
  ASSERT_TRUE(slab != nullptr && IsHuge(slab));
  usleep(150 * 1000);
  const uint64_t before = hak_os_now_ms();
  hak_slab *other = TakeUsed(kSmall);
  const uint64_t after = hak_os_now_ms();
  EXPECT_FALSE(hak_pool_tick(before + 1990));
  EXPECT_TRUE(IsHuge(slab));
  hak_pool_give(other);
  usleep(150 * 1000);
  other = TakeUsed(kSmall);
  EXPECT_TRUE(IsHuge(other));
  EXPECT_TRUE(hak_pool_tick(after + 2000));
  EXPECT_FALSE(IsHuge(slab));
  hak_config.decommit_deadline_ms = kHour;
  hak_pool_give(slab);
  hak_pool_give(other);
}

// If the kernel refuses the advice, the superslab is in small pages. If it refuses a split, the superslab counts as
// split anyway.
TEST_F(HugeGround, AdviceMayFail) {
  hak_slab *slab;
  {
    const FaultPlan plan(HAK_FAULT_ADVISE);
    slab = TakeUsed(kSmall);
    EXPECT_GT(hak_fault_hits(), 0u);
  }
  ASSERT_NE(slab, nullptr);
  EXPECT_FALSE(IsHuge(slab));
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
  hak_pool_give(slab);
  hak_pool_trim(0);
  slab = TakeUsed(kSmall);
  ASSERT_TRUE(slab != nullptr && IsHuge(slab));
  {
    const FaultPlan plan(HAK_FAULT_ADVISE);
    EXPECT_GT(hak_pool_trim(0), 0u);
  }
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
  EXPECT_STREQ(hak_pool_verify(), nullptr);
  hak_pool_give(slab);
}

// Slabs that may stay nearly empty are not in huge pages, unless huge pages have much free memory.
TEST_F(HugeGround, EachKindOfSlabHasItsGround) {
  if (HAK_HARDENED) GTEST_SKIP() << "none are wanted unasked";
  hak_config.huge_pages = HAK_HUGE_PAGES_AUTO;
  std::vector<hak_slab *> slabs;
  while (hak_commit_now() < HAK_HUGE_FROM) slabs.push_back(TakeUsed(kSmall));
  hak_slab *further = hak_pool_take_further(kSmall, SomeOwner(), true);
  ASSERT_NE(further, nullptr);
  EXPECT_TRUE(IsHuge(further));
  slabs.push_back(further);
  for (int i = 0; i < 40; i++) {
    slabs.push_back(TakeUsed(kSmall));
    EXPECT_FALSE(IsHuge(slabs.back())) << i;
  }
  // Two more: now huge pages have much free memory, and nothing else is mapped.
  std::vector<hak_slab *> many;
  for (int i = 0; i < 70; i++) many.push_back(hak_pool_take_further(kSmall, SomeOwner(), true));
  GiveAll(many);
  const uint64_t superslabs = hak_pool_totals().superslabs;
  int huge = 0;
  for (int i = 0; i < 90; i++) {
    slabs.push_back(TakeUsed(kSmall));
    huge += IsHuge(slabs.back());
  }
  EXPECT_GT(huge, 0);
  EXPECT_LE(hak_pool_totals().superslabs, superslabs + 1);
  EXPECT_STREQ(hak_pool_verify(), nullptr);
  GiveAll(slabs);
}

// A huge page would also hold what the blocks of a slab leave unused: classes that leave much stay on small pages.
TEST_F(HugeGround, SlabsThatLeaveMuchUnusedStayOnSmallPages) {
  if (HAK_HARDENED) GTEST_SKIP() << "none are wanted unasked";
  hak_config.huge_pages = HAK_HUGE_PAGES_AUTO;
  std::vector<hak_slab *> slabs;
  while (hak_commit_now() < HAK_HUGE_FROM) slabs.push_back(TakeUsed(kSmall));
  int small = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    hak_slab *slab = hak_pool_take_further(class_id, SomeOwner(), true);
    ASSERT_NE(slab, nullptr);
    const size_t stride = hak_class_stride(class_id);
    const size_t used = (HAK_SLAB_SIZE - HAK_HEADER_BYTES) / stride * stride;
    EXPECT_EQ(IsHuge(slab), used >= HAK_SLAB_SIZE * 6 / 7) << stride;
    small += !IsHuge(slab);
    slabs.push_back(slab);
  }
  EXPECT_GT(small, 3);
  GiveAll(slabs);
}

}  // namespace
