// SPDX-License-Identifier: Apache-2.0
#include "allocator/pages/run_tree.h"

#include <gtest/gtest.h>
#include <stdint.h>

#include <algorithm>
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

// Checks order and priorities below `run`; appends the keys.
void Walk(const hak_run *run, std::vector<Key> *keys, size_t depth, size_t *deepest) {
  if (run == nullptr) return;
  *deepest = std::max(*deepest, depth);
  for (const hak_run *child : {run->left, run->right}) {
    if (child != nullptr) {
      EXPECT_LE(child->priority, run->priority);
    }
  }
  Walk(run->left, keys, depth + 1, deepest);
  keys->push_back(KeyOf(*run));
  Walk(run->right, keys, depth + 1, deepest);
}

size_t CheckTree(const hak_run *root, const std::set<Key> &model) {
  std::vector<Key> keys;
  size_t deepest = 0;
  Walk(root, &keys, 1, &deepest);
  EXPECT_EQ(keys, std::vector<Key>(model.begin(), model.end()));
  return deepest;
}

TEST(RunTree, AnEmptyTreeHasNothing) {
  EXPECT_EQ(hak_run_tree_find(nullptr, 0, nullptr), nullptr);
  hak_run run = MakeRun(1, 1);
  hak_run *root = nullptr;
  hak_run_tree_insert(&root, &run);
  hak_run_tree_remove(&root, &run);
  EXPECT_EQ(root, nullptr);
}

TEST(RunTree, TheSmallestThatServesAndOfTheseTheLowestIsFirst) {
  hak_run runs[] = {MakeRun(8, 500), MakeRun(8, 100), MakeRun(16, 0), MakeRun(4, 900), MakeRun(8, 300)};
  hak_run *root = nullptr;
  for (hak_run &run : runs) hak_run_tree_insert(&root, &run);
  EXPECT_EQ(hak_run_tree_find(root, 0, nullptr), &runs[3]);
  EXPECT_EQ(hak_run_tree_find(root, 4, nullptr), &runs[3]);
  EXPECT_EQ(hak_run_tree_find(root, 5, nullptr), &runs[1]);
  EXPECT_EQ(hak_run_tree_find(root, 8, nullptr), &runs[1]);
  EXPECT_EQ(hak_run_tree_find(root, 8, Address(100)), &runs[1]);
  EXPECT_EQ(hak_run_tree_find(root, 8, Address(101)), &runs[4]);
  EXPECT_EQ(hak_run_tree_find(root, 8, Address(501)), &runs[2]);
  EXPECT_EQ(hak_run_tree_find(root, 16, nullptr), &runs[2]);
  EXPECT_EQ(hak_run_tree_find(root, 16, Address(1)), nullptr);
  EXPECT_EQ(hak_run_tree_find(root, 17, nullptr), nullptr);
}

TEST(RunTree, AgreesWithASortedSet) {
  constexpr size_t kRuns = 300;
  Random random(1);
  // Addresses are distinct; many sizes are equal.
  std::vector<hak_run> runs(kRuns);
  std::vector<bool> inside(kRuns);
  std::set<Key> model;
  hak_run *root = nullptr;
  const int operations = hak_unit::Operations(20000);
  for (int i = 0; i < operations; i++) {
    const size_t n = random.Below(kRuns);
    if (random.OneIn(3)) {
      const size_t size = random.Below(40);
      const uintptr_t start = random.Below(kRuns + 1);
      const auto expected = model.lower_bound({size, start});
      const hak_run *found = hak_run_tree_find(root, size, Address(start));
      ASSERT_EQ(found != nullptr, expected != model.end());
      if (found != nullptr) {
        ASSERT_EQ(KeyOf(*found), *expected);
      }
    } else if (inside[n]) {
      ASSERT_EQ(model.erase(KeyOf(runs[n])), 1u);
      hak_run_tree_remove(&root, &runs[n]);
      inside[n] = false;
    } else {
      runs[n] = MakeRun(1 + random.Below(30), n);
      // Stale fields of a record do not matter.
      runs[n].left = runs[n].right = &runs[(n + 1) % kRuns];
      hak_run_tree_insert(&root, &runs[n]);
      model.insert(KeyOf(runs[n]));
      inside[n] = true;
    }
    if (i % 256 == 0) CheckTree(root, model);
    ASSERT_FALSE(HasFailure()) << i;
  }
  CheckTree(root, model);
}

// Runs that arrive and leave in the order of their sizes do not turn the tree into a list.
TEST(RunTree, StaysFlat) {
  constexpr size_t kRuns = 1 << 14;
  std::vector<hak_run> runs(kRuns);
  std::set<Key> model;
  hak_run *root = nullptr;
  for (size_t i = 0; i < kRuns; i++) {
    runs[i] = MakeRun(i / 4 + 1, i);
    hak_run_tree_insert(&root, &runs[i]);
    model.insert(KeyOf(runs[i]));
  }
  // Twice the height of a perfect tree is usual; four times is practically impossible.
  EXPECT_LE(CheckTree(root, model), 4u * 14u);
  for (size_t i = 0; i < kRuns; i += 2) {
    hak_run_tree_remove(&root, &runs[i]);
    model.erase(KeyOf(runs[i]));
  }
  EXPECT_LE(CheckTree(root, model), 4u * 14u);
  for (size_t i = 1; i < kRuns; i += 2) hak_run_tree_remove(&root, &runs[i]);
  EXPECT_EQ(root, nullptr);
}

}  // namespace
