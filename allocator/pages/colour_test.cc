// SPDX-License-Identifier: Apache-2.0
#include "allocator/pages/colour.h"

#include <gtest/gtest.h>
#include <stdint.h>

#include <algorithm>
#include <map>
#include <vector>

#include "allocator/pages/page_heap.h"
#include "allocator/pages/unit_test.h"

namespace {

using hak_unit::Give;
using hak_unit::kMiB;
using hak_unit::kPage;
using hak_unit::Take;

class Colour : public hak_unit::PageHeap {};

uintptr_t PageOf(const char *block) { return reinterpret_cast<uintptr_t>(block) / kPage; }

// Every colour is a line of the smallest page but the first, and each of them is drawn.
TEST(Colours, AreLinesOfThePage) {
  for (uint32_t count = 1; count <= HAK_COLOURS; count++) {
    std::vector<bool> seen(count);
    for (uint32_t i = 0; i < 64 * HAK_COLOURS; i++) {
      const auto *start = reinterpret_cast<const char *>((uintptr_t{1} << 40) + i * HAK_PAGE_SIZE);
      const uint32_t colour = hak_colour_of(start, count, i);
      ASSERT_EQ(colour % HAK_CACHE_LINE, 0u);
      ASSERT_GE(colour, HAK_CACHE_LINE);
      ASSERT_LE(colour, count * HAK_CACHE_LINE);
      seen[colour / HAK_CACHE_LINE - 1] = true;
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), false), 0) << count;
  }
}

// Of a run that is used again: in FAST its first line may still be in the cache, otherwise a stale pointer is noticed.
TEST_F(Colour, OfARunThatIsUsedAgain) {
  char *first = Take(2 * kMiB, 0, HAK_COLOURS);
  ASSERT_TRUE(Give(first));
  char *second = Take(2 * kMiB, 0, HAK_COLOURS);
  EXPECT_EQ(PageOf(first), PageOf(second)) << "the same run";
  EXPECT_EQ(first == second, HAK_FAST != 0);
  EXPECT_EQ(Give(first), HAK_FAST != 0);
  EXPECT_EQ(Give(second), HAK_FAST == 0);
}

// Blocks of one size that are read in step do not all compete for the same cache sets.
TEST_F(Colour, BlocksOfOneSizeBeginAtDifferentLines) {
  for (const size_t size : {kMiB, kMiB + kPage, 2 * kMiB, 610 * kPage}) {
    std::map<uintptr_t, int> lines;
    std::vector<char *> blocks;
    int most = 0;
    for (int i = 0; i < 48; i++) {
      blocks.push_back(Take(size, 0, HAK_COLOURS));
      ASSERT_NE(blocks.back(), nullptr);
      most = std::max(most, ++lines[reinterpret_cast<uintptr_t>(blocks.back()) % HAK_PAGE_SIZE]);
    }
    EXPECT_LE(most, 8) << size << ": a set of a usual cache has eight lines";
    for (char *block : blocks) ASSERT_TRUE(Give(block));
  }
}

}  // namespace
