// SPDX-License-Identifier: Apache-2.0
#include "allocator/slab/slab_guard.h"

#include <gtest/gtest.h>
#include <string.h>

#include <vector>

#include "allocator/heap/heap.h"
#include "allocator/os/fault.h"
#include "allocator/os/mapping_limit.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/policy/guard_budget.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/slab/slab_release.h"

namespace {

using hak_unit::FaultPlan;

class SlabGuard : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  SlabGuard() { hak_config.decommit_deadline_ms = uint64_t{3600} * 1000; }
  ~SlabGuard() override {
    for (hak_slab *slab : slabs_) hak_pool_give(slab);
    hak_pool_trim(0);
    EXPECT_STREQ(hak_pool_verify(), nullptr);
    EXPECT_EQ(hak_pool_totals().superslabs, 0u);
    EXPECT_EQ(hak_slab_guard_count(), 0u);
  }
  hak_slab *Take(uint32_t class_id) {
    hak_slab *slab = hak_pool_take(class_id, &hak_orphanage, true);
    if (slab != nullptr) slabs_.push_back(slab);
    return slab;
  }
  std::vector<hak_slab *> slabs_;
};

#if HAK_HARDENED

using hak_unit::IsReadable;

TEST_F(SlabGuard, NobodyReachesAcrossTheEndOfASlabOrTheHead) {
  if (hak_os_page_size() > HAK_SLAB_GUARD) GTEST_SKIP() << "pages are larger than the guards";
  for (int i = 0; i < 40; i++) {
    hak_slab *slab = Take(3);
    ASSERT_NE(slab, nullptr);
    char *const end = hak_slab_end(slab);
    memset(hak_slab_begin(slab), 1, static_cast<size_t>(end - hak_slab_begin(slab)));
    if (i % 8 == 0) {
      EXPECT_FALSE(IsReadable(end));
      EXPECT_FALSE(IsReadable(end + HAK_SLAB_GUARD - 1));
    }
    if (slab->index == 0) {
      EXPECT_FALSE(IsReadable(hak_slab_begin(slab) - 1));
    }
  }
  EXPECT_EQ(hak_slab_guard_count(), 40u + hak_pool_totals().superslabs);
}

// These superslabs have their records in the head. superslab_records_test.cc tests the others.
TEST_F(SlabGuard, TheHeadStaysOpenUpToTheGuard) {
  hak_slab *slab = Take(3);
  ASSERT_NE(slab, nullptr);
  const char *memory = hak_superslab_memory(hak_superslab_of_slab(slab));
  EXPECT_TRUE(IsReadable(memory));
  EXPECT_TRUE(IsReadable(memory + HAK_SUPERSLAB_RECORDS - 1));
}

TEST_F(SlabGuard, NoBlockBeginsInAGuard) {
  hak_slab *slab = Take(3);
  ASSERT_NE(slab, nullptr);
  for (char *byte = hak_slab_end(slab); byte < hak_slab_start(slab) + HAK_SLAB_SIZE; byte++) {
    ASSERT_FALSE(hak_slab_is_block_start(byte, slab->reciprocal));
    ASSERT_FALSE(hak_slab_is_block_start_by(byte, slab->reciprocal, 0 - slab->reciprocal));
  }
}

TEST_F(SlabGuard, GoWithoutPastTheBudget) {
  if (hak_os_page_size() > HAK_SLAB_GUARD) GTEST_SKIP() << "pages are larger than the guards";
  hak_guard_budget_init(32);  // Room for ten guards; a quarter is left for other uses.
  for (int i = 0; i < 40; i++) ASSERT_NE(Take(3), nullptr);
  EXPECT_EQ(hak_slab_guard_count(), 7u);
  EXPECT_EQ(hak_guard_budget_used(), 14u);
  for (hak_slab *slab : slabs_) hak_pool_give(slab);
  slabs_.clear();
  hak_pool_trim(0);
  EXPECT_EQ(hak_guard_budget_used(), 0u) << "a superslab's guards go with it";
  hak_guard_budget_init(HAK_OS_MAPPING_LIMIT_DEFAULT);
}

TEST_F(SlabGuard, WithoutThemSlabsServeAllTheSame) {
  const FaultPlan plan(HAK_FAULT_PROTECT);
  hak_slab *slab = Take(3);
  ASSERT_NE(slab, nullptr);
  EXPECT_EQ(hak_slab_guard_count(), 0u);
}

#else

TEST_F(SlabGuard, AreHardenedsAlone) {
  ASSERT_NE(Take(3), nullptr);
  EXPECT_EQ(hak_slab_guard_count(), 0u);
  EXPECT_EQ(HAK_SLAB_GUARD, 0u);
}

#endif

}  // namespace
