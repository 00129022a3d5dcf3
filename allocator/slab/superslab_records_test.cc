// SPDX-License-Identifier: Apache-2.0
#include "allocator/slab/superslab_records.h"

#include <gtest/gtest.h>
#include <string.h>
#include <sys/resource.h>

#include <set>
#include <vector>

#include "allocator/heap/heap.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/slab/slab_release.h"

namespace {

using hak_unit::IsReadable;

class SuperslabRecords : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    hak_superslab_records_init();
  }
  SuperslabRecords() { hak_config.decommit_deadline_ms = uint64_t{3600} * 1000; }
  ~SuperslabRecords() override {
    GiveAll();
    hak_pool_trim(0);
    EXPECT_EQ(hak_pool_totals().superslabs, 0u);
  }
  hak_slab *Take() {
    hak_slab *slab = hak_pool_take(3, &hak_orphanage, true);
    if (slab != nullptr) slabs_.push_back(slab);
    return slab;
  }
  // Takes the slabs of `count` superslabs; returns the superslabs.
  std::set<hak_superslab *> TakeAll(size_t count) {
    std::set<hak_superslab *> superslabs;
    while (superslabs.size() < count) superslabs.insert(hak_superslab_of_slab(Take()));
    return superslabs;
  }
  void GiveAll() {
    for (hak_slab *slab : slabs_) hak_pool_give(slab);
    slabs_.clear();
    EXPECT_STREQ(hak_pool_verify(), nullptr);
  }
  std::vector<hak_slab *> slabs_;
};

TEST_F(SuperslabRecords, EveryAddressFindsThem) {
  EXPECT_EQ(hak_superslab_records_apart(), HAK_HARDENED && hak_slab_map_is_flat());
  for (hak_superslab *ss : TakeAll(5)) {
    const char *memory = hak_superslab_memory(ss);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % HAK_SUPERSLAB_SIZE, 0u);
    EXPECT_EQ(hak_superslab_is_apart(ss), hak_superslab_records_apart());
    EXPECT_EQ(memory == reinterpret_cast<char *>(ss), !hak_superslab_records_apart());
    for (size_t at = 0; at < HAK_SUPERSLAB_SIZE; at += 12345) ASSERT_EQ(hak_superslab_of(memory + at), ss);
    EXPECT_EQ(hak_superslab_of(memory + HAK_SUPERSLAB_SIZE - 1), ss);
  }
  for (hak_slab *slab : slabs_) {
    EXPECT_EQ(hak_slab_of(hak_slab_begin(slab)), slab);
    EXPECT_EQ(hak_slab_of(hak_slab_end(slab) - 1), slab);
    memset(hak_slab_begin(slab), 0xFF, static_cast<size_t>(hak_slab_end(slab) - hak_slab_begin(slab)));
  }
  EXPECT_STREQ(hak_pool_verify(), nullptr) << "blocks and records overlap";
}

#if HAK_HARDENED

bool AddressSpaceIsLimited() {
  struct rlimit limit;
  return getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
}

TEST_F(SuperslabRecords, NothingIsNearTheBlocks) {
  if (AddressSpaceIsLimited()) GTEST_SKIP() << "the address space is limited";
  ASSERT_TRUE(hak_superslab_records_apart());
  if (hak_os_page_size() > HAK_SLAB_GUARD) GTEST_SKIP() << "pages are larger than the guards";
  hak_slab *slab = Take();
  ASSERT_NE(slab, nullptr);
  const char *memory = hak_superslab_memory(hak_superslab_of_slab(slab));
  for (size_t at = 0; at < HAK_SUPERSLAB_HEAD; at += 1024) EXPECT_FALSE(IsReadable(memory + at)) << at;
  EXPECT_TRUE(IsReadable(memory + HAK_SUPERSLAB_HEAD));
}

TEST_F(SuperslabRecords, GoWithTheSuperslabAndAreUsedAgain) {
  const std::set<hak_superslab *> first = TakeAll(4);
  std::vector<const char *> memory;
  for (const hak_superslab *ss : first) memory.push_back(hak_superslab_memory(ss));
  GiveAll();
  hak_pool_trim(0);
  for (const char *gone : memory) EXPECT_EQ(reinterpret_cast<const char *>(hak_superslab_of(gone)), gone);
  if (hak_superslab_records_apart()) {
    EXPECT_EQ(TakeAll(4), first) << "records are recycled";
  }
}

// Records that cannot be allocated apart are in the head, and everything works the same.
TEST_F(SuperslabRecords, WithoutMemoryTheyAreInTheHead) {
  if (AddressSpaceIsLimited()) GTEST_SKIP() << "the address space is limited";
  ASSERT_TRUE(hak_superslab_records_apart());
  hak_superslab *const *const kept = hak_superslab_table;
  hak_superslab_table = nullptr;
  std::set<hak_superslab *> superslabs = TakeAll(2);
  hak_superslab_table = kept;
  for (hak_superslab *ss : superslabs) {
    EXPECT_EQ(hak_superslab_memory(ss), reinterpret_cast<char *>(ss));
    EXPECT_EQ(hak_superslab_of(reinterpret_cast<char *>(ss) + 500000), ss);
  }
  superslabs = TakeAll(2);
  EXPECT_STREQ(hak_pool_verify(), nullptr);
  size_t apart = 0;
  for (const hak_superslab *ss : superslabs) apart += hak_superslab_is_apart(ss);
  EXPECT_GE(apart, 1u);
}

#endif

}  // namespace
