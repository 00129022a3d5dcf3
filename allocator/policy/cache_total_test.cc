// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/cache_total.h"

#include <gtest/gtest.h>
#include <stdint.h>

#include <thread>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"

namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = uint64_t{1} << 20;

// The rule in words: within the bound, and at most four times what is left of it afterwards.
TEST(CacheTotalAdmits, EveryCombinationOfFewValues) {
  int seen[2] = {};
  for (uint64_t bound = 1; bound < 24; bound++) {
    for (uint64_t reserved = 0; reserved < 30; reserved++) {
      for (uint64_t mine = 0; mine <= reserved; mine++) {
        for (uint64_t more = 0; more < 30; more++) {
          const bool fits = reserved + more <= bound;
          const bool wanted = fits && mine + more <= 4 * (bound - (reserved + more));
          EXPECT_EQ(hak_cache_total_admits(bound, reserved, mine, more), wanted)
              << bound << ' ' << reserved << ' ' << mine << ' ' << more;
          seen[wanted]++;
        }
        const bool unfair = reserved >= bound ? mine > 0 : mine > 8 * (bound - reserved);
        EXPECT_EQ(hak_cache_total_is_unfair(bound, reserved, mine), unfair) << bound << ' ' << reserved << ' ' << mine;
      }
    }
  }
  for (const int times : seen) EXPECT_GT(times, 0);
}

TEST(CacheTotalAdmits, LargeNumbers) {
  EXPECT_FALSE(hak_cache_total_admits(kMiB, 0, 0, UINT64_MAX));
  EXPECT_FALSE(hak_cache_total_admits(kMiB, UINT64_MAX, 0, 1));
  EXPECT_TRUE(hak_cache_total_admits(uint64_t{1} << 40, 0, 0, uint64_t{1} << 39));
  for (const uint64_t value : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) {
    EXPECT_TRUE(hak_cache_total_admits(0, value, value, value)) << "no bound";
    EXPECT_FALSE(hak_cache_total_is_unfair(0, value, value));
  }
}

// Caches that grow in turns by the same step share the bound, one that comes late finds room, and no cache that has
// just grown must shrink.
TEST(CacheTotalAdmits, IsFair) {
  constexpr uint64_t kBound = 6 * kMiB;
  for (const size_t count : {size_t{1}, size_t{2}, size_t{10}, size_t{50}}) {
    std::vector<uint64_t> caches(count, 0);
    uint64_t reserved = 0;
    for (bool grew = true; grew;) {
      grew = false;
      for (uint64_t &mine : caches) {
        if (!hak_cache_total_admits(kBound, reserved, mine, 1024)) continue;
        mine += 1024;
        reserved += 1024;
        grew = true;
        EXPECT_FALSE(hak_cache_total_is_unfair(kBound, reserved, mine));
      }
    }
    EXPECT_LE(reserved, kBound);
    EXPECT_GE(reserved, kBound / 4 * 3) << count;
    for (const uint64_t mine : caches) EXPECT_LE(mine, caches.back() + 1024) << count;
    EXPECT_TRUE(hak_cache_total_admits(kBound, reserved, 0, 16 * kKiB)) << count;
  }
}

TEST(CacheTotalLargeShare, IsAnEqualPartOfAQuarter) {
  EXPECT_EQ(hak_cache_total_large_share(0, 0), UINT64_MAX);
  EXPECT_EQ(hak_cache_total_large_share(0, 50), UINT64_MAX);
  EXPECT_EQ(hak_cache_total_large_share(8 * kMiB, 0), 2 * kMiB);
  EXPECT_EQ(hak_cache_total_large_share(8 * kMiB, 1), 2 * kMiB);
  EXPECT_EQ(hak_cache_total_large_share(8 * kMiB, 4), 512 * kKiB);
  EXPECT_EQ(hak_cache_total_large_share(3, 7), 0u);
}

class CacheTotalAccount : public testing::Test {
 protected:
  void SetUp() override {
    if (HAK_FAST) GTEST_SKIP() << "no bound";
    hak_config.total_thread_cache_bytes = 0;
    ASSERT_EQ(hak_cache_total_reserved(), 0u);
  }
  void TearDown() override { hak_config.total_thread_cache_bytes = 0; }
};

TEST_F(CacheTotalAccount, ThreeQuartersAreForSmallBlocks) {
  hak_config.total_thread_cache_bytes = 4 * kMiB;
  EXPECT_FALSE(hak_cache_total_is_short());
  ASSERT_TRUE(hak_cache_total_reserve(0, 2 * kMiB));
  EXPECT_EQ(hak_cache_total_reserved(), 2 * kMiB);
  EXPECT_FALSE(hak_cache_total_is_short());
  EXPECT_FALSE(hak_cache_total_reserve(0, kMiB + 1)) << "beyond 3 MiB";
  EXPECT_FALSE(hak_cache_total_reserve(0, kMiB)) << "nothing would be left";
  ASSERT_TRUE(hak_cache_total_reserve(2 * kMiB, 256 * kKiB));
  EXPECT_FALSE(hak_cache_total_is_short());
  ASSERT_TRUE(hak_cache_total_reserve(0, 4 * kKiB));
  EXPECT_TRUE(hak_cache_total_is_short());
  EXPECT_FALSE(hak_cache_total_is_exceeded());
  EXPECT_FALSE(hak_cache_total_is_crowded(2 * kMiB + 256 * kKiB));
  ASSERT_TRUE(hak_cache_total_reserve(0, 512 * kKiB));
  EXPECT_TRUE(hak_cache_total_is_crowded(2 * kMiB + 256 * kKiB));
  // A lower bound.
  hak_config.total_thread_cache_bytes = kMiB;
  EXPECT_TRUE(hak_cache_total_is_exceeded());
  EXPECT_TRUE(hak_cache_total_is_crowded(1));
  EXPECT_FALSE(hak_cache_total_reserve(0, 1));
  hak_cache_total_release(2 * kMiB + 256 * kKiB + 4 * kKiB);
  EXPECT_FALSE(hak_cache_total_is_exceeded());
  hak_cache_total_release(512 * kKiB);
  EXPECT_EQ(hak_cache_total_reserved(), 0u);
}

TEST_F(CacheTotalAccount, CountsWithoutABound) {
  ASSERT_TRUE(hak_cache_total_reserve(0, 100 * kMiB));
  EXPECT_EQ(hak_cache_total_reserved(), 100 * kMiB);
  EXPECT_FALSE(hak_cache_total_is_exceeded());
  EXPECT_FALSE(hak_cache_total_is_short());
  EXPECT_FALSE(hak_cache_total_is_crowded(100 * kMiB));
  hak_cache_total_release(100 * kMiB);
}

// Whatever threads do at once, the sum stays within the bound.
TEST_F(CacheTotalAccount, ThreadsTogetherStayWithinTheBound) {
  hak_config.total_thread_cache_bytes = 4 * kMiB;
  std::vector<std::thread> threads;
  for (uint64_t number = 0; number < 4; number++) {
    threads.emplace_back([number] {
      hak_unit::Random random(number);
      uint64_t mine = 0;
      for (int i = 0; i < hak_unit::Operations(20000); i++) {
        const uint64_t bytes = random.Below(64 * kKiB);
        if (random.Below(2) == 0) {
          if (hak_cache_total_reserve(mine, bytes)) mine += bytes;
        } else if (bytes <= mine) {
          hak_cache_total_release(bytes);
          mine -= bytes;
        }
        EXPECT_LE(hak_cache_total_reserved(), 3 * kMiB);
        EXPECT_GE(hak_cache_total_reserved(), mine);
      }
      hak_cache_total_release(mine);
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(hak_cache_total_reserved(), 0u);
}

}  // namespace
