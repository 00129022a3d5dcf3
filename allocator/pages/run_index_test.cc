// SPDX-License-Identifier: Apache-2.0
#include "allocator/pages/run_index.h"

#include <gtest/gtest.h>
#include <stdint.h>

#include <iterator>
#include <memory>
#include <set>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/pages/test_runs.h"

namespace {

using hak_unit::Address;
using hak_unit::KeyOf;
using hak_unit::MakeRun;
using hak_unit::Random;
using Key = hak_unit::RunKey;

constexpr size_t kLargest = (static_cast<size_t>(1) << HAK_PAGE_MAP_BITS) - HAK_PAGE_SIZE;

TEST(RunIndex, AnEmptyIndexHasNothing) {
  auto index = std::make_unique<hak_run_index>();
  EXPECT_EQ(hak_run_index_find(index.get(), 0, nullptr), nullptr);
  EXPECT_EQ(hak_run_index_find(index.get(), kLargest, nullptr), nullptr);
  EXPECT_EQ(hak_run_index_find(index.get(), SIZE_MAX / 2, nullptr), nullptr);
  EXPECT_EQ(hak_run_index_last(index.get()), nullptr);
}

// For each size of a few bits: a run of exactly that size is found by it, and by the page below, and not by the page
// above. So no size shares a tree with one that comes behind a size of another tree.
TEST(RunIndex, EverySizeIsInOrder) {
  for (uint32_t shift = HAK_PAGE_SHIFT; shift < HAK_PAGE_MAP_BITS; shift++) {
    for (size_t top = 1; top < 64; top++) {
      for (const size_t off : {size_t{0}, HAK_PAGE_SIZE, 0 - HAK_PAGE_SIZE}) {
        const size_t size = (top << shift) + off;
        if (size == 0 || size > kLargest) continue;
        auto index = std::make_unique<hak_run_index>();
        hak_run run = MakeRun(size, 7);
        hak_run_index_insert(index.get(), &run);
        ASSERT_EQ(hak_run_index_find(index.get(), size, nullptr), &run) << size;
        ASSERT_EQ(hak_run_index_find(index.get(), size - HAK_PAGE_SIZE, nullptr), &run) << size;
        ASSERT_EQ(hak_run_index_find(index.get(), size, Address(7)), &run) << size;
        ASSERT_EQ(hak_run_index_find(index.get(), size, Address(8)), nullptr) << size;
        ASSERT_EQ(hak_run_index_find(index.get(), size + HAK_PAGE_SIZE, nullptr), nullptr) << size;
        ASSERT_EQ(hak_run_index_last(index.get()), &run) << size;
        hak_run_index_remove(index.get(), &run);
        ASSERT_EQ(hak_run_index_find(index.get(), 0, nullptr), nullptr) << size;
        ASSERT_EQ(hak_run_index_last(index.get()), nullptr) << size;
      }
    }
  }
}

// A size drawn so that all magnitudes are as likely, and equal sizes occur.
size_t DrawSize(Random *random) {
  const size_t pages = (static_cast<size_t>(1) << random->Below(HAK_PAGE_MAP_BITS - HAK_PAGE_SHIFT)) +
                       random->Below(3) * random->Below(5);
  return (pages << HAK_PAGE_SHIFT) <= kLargest ? pages << HAK_PAGE_SHIFT : kLargest;
}

TEST(RunIndex, AgreesWithASortedSet) {
  constexpr size_t kRuns = 300;
  Random random(1);
  std::vector<hak_run> runs(kRuns);
  std::vector<bool> inside(kRuns);
  std::set<Key> model;
  auto index = std::make_unique<hak_run_index>();
  const int operations = hak_unit::Operations(20000);
  for (int i = 0; i < operations; i++) {
    const size_t n = random.Below(kRuns);
    if (random.OneIn(3)) {
      const size_t size = random.OneIn(2) ? DrawSize(&random) : runs[n].size;
      const uintptr_t start = random.Below(kRuns + 1);
      const auto expected = model.lower_bound({size, start});
      const hak_run *found = hak_run_index_find(index.get(), size, Address(start));
      ASSERT_EQ(found != nullptr, expected != model.end());
      if (found != nullptr) {
        ASSERT_EQ(KeyOf(*found), *expected);
      }
    } else if (inside[n]) {
      ASSERT_EQ(model.erase(KeyOf(runs[n])), 1u);
      hak_run_index_remove(index.get(), &runs[n]);
      inside[n] = false;
    } else {
      runs[n] = MakeRun(DrawSize(&random), n);
      hak_run_index_insert(index.get(), &runs[n]);
      model.insert(KeyOf(runs[n]));
      inside[n] = true;
    }
    const hak_run *last = hak_run_index_last(index.get());
    ASSERT_EQ(last != nullptr, !model.empty());
    if (last != nullptr) {
      ASSERT_EQ(KeyOf(*last), *std::prev(model.end()));
    }
  }
}

}  // namespace
