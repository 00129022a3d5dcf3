// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the pool share: slabs whose memory was used, and a pool without slabs in use before and after each
// case.
#ifndef HAKMEM_SLAB_UNIT_TEST_H_
#define HAKMEM_SLAB_UNIT_TEST_H_

#include <gtest/gtest.h>
#include <string.h>

#include <vector>

#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/slab/slab_release.h"
#include "allocator/slab/superslab_records.h"

namespace hak_unit {

constexpr uint32_t kSmall = 4;  // class id: 64 bytes
constexpr uint64_t kHour = uint64_t{3600} * 1000;

// The pool only stores owners: any address that is not NULL will do.
inline hak_heap *SomeOwner() { return reinterpret_cast<hak_heap *>(uintptr_t{64}); }

// Each test begins and ends without a slab in use. Superslabs without memory may stay from one test to the next.
class Pool : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    hak_superslab_records_init();
  }
  Pool() {
    hak_config.decommit_deadline_ms = kHour;
    hak_config.keep_superslabs = 0;
  }
  ~Pool() override {
    hak_pool_trim(0);
    EXPECT_STREQ(hak_pool_verify(), nullptr);
    EXPECT_EQ(hak_pool_totals().slabs_used, 0u);
    EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
  }
};

// A slab whose memory was used.
inline hak_slab *TakeUsed(uint32_t class_id) {
  hak_slab *slab = hak_pool_take(class_id, SomeOwner(), true);
  void *block;
  if (slab == nullptr || hak_slab_carve(slab, &block, 1) != 1) return nullptr;
  memset(block, 0xEE, hak_class_usable(class_id));
  return slab;
}

inline std::vector<hak_slab *> TakeManyUsed(int count, uint32_t class_id = kSmall) {
  std::vector<hak_slab *> slabs;
  for (int i = 0; i < count; i++) slabs.push_back(TakeUsed(class_id));
  return slabs;
}

inline void GiveAll(const std::vector<hak_slab *> &slabs) {
  for (hak_slab *slab : slabs) hak_pool_give(slab);
}

}  // namespace hak_unit

#endif  // HAKMEM_SLAB_UNIT_TEST_H_
