// SPDX-License-Identifier: Apache-2.0
#include "allocator/large/large.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "allocator/large/guarded.h"
#include "allocator/large/guarded_held.h"
#include "allocator/large/mapping.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_pool_look.h"
#include "allocator/slab/slab_release.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::IsZero;
using hak_unit::Random;

constexpr size_t kSpanMax = HAK_SPAN_SLABS_MAX * HAK_SLAB_SIZE;

class Large : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  Large() {
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.mapping_cache_bytes = size_t{32} << 20;
    hak_config.keep_superslabs = 1;
  }
  ~Large() override {
    EXPECT_EQ(hak_pool_totals().spans, 0u);
    EXPECT_EQ(hak_mapping_totals().blocks, 0u);
    EXPECT_EQ(hak_pool_verify(), nullptr);
    EXPECT_EQ(hak_mapping_verify(), nullptr);
    hak_pool_trim(0);
    hak_mapping_trim();
  }
};

char *Alloc(size_t size, size_t align = 16, bool zero = false) {
  return static_cast<char *>(hak_large_alloc(size, align, zero, true));
}

#if !HAK_GUARDED

TEST_F(Large, SpansUpToAMebibyteMappingsAbove) {
  const size_t sizes[] = {
      0, 1, HAK_TINY_MAX + 1, HAK_SLAB_SIZE, HAK_SLAB_SIZE + 1, kSpanMax - 1, kSpanMax, kSpanMax + 1, 5 * kSpanMax};
  for (const size_t size : sizes) {
    for (size_t align = 16; align <= size_t{4} << 20; align *= 4) {
      char *block = Alloc(size, align);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % align, 0u);
      const bool span = size <= kSpanMax && align <= HAK_SLAB_SIZE;
      EXPECT_EQ(hak_pool_totals().spans, span ? 1u : 0u) << size << ' ' << align;
      EXPECT_EQ(hak_mapping_totals().blocks, span ? 0u : 1u) << size << ' ' << align;
      const size_t usable = hak_large_usable(block);
      EXPECT_GE(usable, std::max(size, size_t{1}));
      if (align == 16 && size > HAK_TINY_MAX) {
        EXPECT_GE(usable, hak_large_good_size(size));
        EXPECT_LE(usable, hak_large_good_size(size) * 9 / 8);
      }
      memset(block, 0xAB, usable);
      EXPECT_TRUE(hak_large_free(block));
      EXPECT_EQ(hak_large_usable(block), 0u);
      EXPECT_FALSE(hak_large_free(block));
    }
  }
}

TEST_F(Large, GoodSizeIsWhatARequestGets) {
  for (size_t size = HAK_TINY_MAX + 1; size < 3 * kSpanMax; size += 77777) {
    char *block = Alloc(size);
    EXPECT_EQ(hak_large_usable(block), hak_large_good_size(size)) << size;
    EXPECT_EQ(hak_large_good_size(hak_large_good_size(size)), hak_large_good_size(size));
    EXPECT_TRUE(hak_large_free(block));
    hak_mapping_trim();  // or the next request may reuse a mapping that is a little larger
  }
}

TEST_F(Large, RefusesImpossibleRequests) {
  EXPECT_EQ(Alloc(SIZE_MAX), nullptr);
  EXPECT_EQ(Alloc(size_t{PTRDIFF_MAX} + 1), nullptr);
  EXPECT_EQ(Alloc(PTRDIFF_MAX), nullptr);
  EXPECT_EQ(Alloc(1, size_t{1} << 63), nullptr);
  EXPECT_EQ(Alloc(1, size_t{1} << 62), nullptr);
}

TEST_F(Large, KnowsOnlyItsOwnBlocks) {
  char *span = Alloc(3 * HAK_SLAB_SIZE);
  char *mapping = Alloc(2 * kSpanMax);
  int local;
  for (char *other : {static_cast<char *>(nullptr), span + 16, span + HAK_SLAB_SIZE, mapping + 16, mapping + 65536,
                      reinterpret_cast<char *>(&local), reinterpret_cast<char *>(UINTPTR_MAX)}) {
    EXPECT_FALSE(hak_large_free(other));
    EXPECT_EQ(hak_large_usable(other), 0u);
    EXPECT_EQ(hak_large_resize(other, 3 * kSpanMax, true), nullptr);
  }
  EXPECT_EQ(hak_large_usable(span), 3 * HAK_SLAB_SIZE);
  EXPECT_TRUE(hak_large_free(span));
  EXPECT_TRUE(hak_large_free(mapping));
}

TEST_F(Large, ZeroedBlocksAreZeroWhateverWasThereBefore) {
  Random random(2);
  for (int round = 0; round < 60; round++) {
    // Leave dirt of different lengths side by side, some of it released.
    std::vector<char *> dirt;
    for (int i = 0; i < 5; i++) {
      dirt.push_back(Alloc(1 + random.Below(kSpanMax + kSpanMax / 4)));
      memset(dirt.back(), 0xD1, hak_large_usable(dirt.back()));
    }
    for (char *block : dirt) ASSERT_TRUE(hak_large_free(block));
    if (random.OneIn(3)) hak_pool_trim(0);
    const size_t size = random.Below(kSpanMax + kSpanMax / 4);
    char *block = Alloc(size, 16, true);
    ASSERT_NE(block, nullptr);
    ASSERT_TRUE(IsZero(block, size)) << size;
    ASSERT_TRUE(hak_large_free(block));
  }
}

TEST_F(Large, ZeroedFreshMemoryIsNotTouched) {
  hak_pool_trim(0);
  hak_mapping_trim();
  char *block = Alloc(8 * kSpanMax, 16, true);
  char *first_page = block - reinterpret_cast<uintptr_t>(block) % hak_os_page_size();
  EXPECT_EQ(hak_unit::ResidentPages(first_page, 8 * kSpanMax), 0u);
  EXPECT_TRUE(hak_large_free(block));
}

TEST_F(Large, SpansGrowIntoFreeSlabsAndShrinkInPlace) {
  char *block = Alloc(2 * HAK_SLAB_SIZE);
  memset(block, 'a', 2 * HAK_SLAB_SIZE);
  ASSERT_EQ(hak_large_resize(block, 6 * HAK_SLAB_SIZE, false), block);
  EXPECT_EQ(hak_large_usable(block), 6 * HAK_SLAB_SIZE);
  // A neighbour right behind stops it.
  ASSERT_EQ(hak_large_resize(block, 3 * HAK_SLAB_SIZE, false), block);
  std::vector<char *> neighbours;
  while (neighbours.empty() || neighbours.back() != block + 3 * HAK_SLAB_SIZE) {
    neighbours.push_back(Alloc(HAK_SLAB_SIZE));
    ASSERT_LT(neighbours.size(), 200u);
  }
  EXPECT_EQ(hak_large_resize(block, 4 * HAK_SLAB_SIZE, true), nullptr);
  EXPECT_EQ(hak_large_usable(block), 3 * HAK_SLAB_SIZE);
  EXPECT_EQ(hak_large_resize(block, HAK_SLAB_SIZE - 1, false), block);
  EXPECT_EQ(hak_large_usable(block), HAK_SLAB_SIZE);
  for (size_t i = 0; i < HAK_SLAB_SIZE - 1; i++) ASSERT_EQ(block[i], 'a');
  EXPECT_EQ(hak_large_resize(block, kSpanMax + 1, true), nullptr) << "becomes a mapping: the caller copies";
  EXPECT_EQ(hak_large_resize(block, SIZE_MAX, true), nullptr);
  for (char *neighbour : neighbours) EXPECT_TRUE(hak_large_free(neighbour));
  EXPECT_TRUE(hak_large_free(block));
}

// A program may ask for a byte more and must not be told that it gets less; malloc gives what good_size says.
TEST_F(Large, UsableSizesDoNotFall) {
  size_t last = 0;
  for (size_t page = HAK_TINY_MAX; page <= kSpanMax; page += 4096) {
    for (const size_t size : {page - 64, page - 63, page - 1, page, page + 1, page + 64}) {
      if (size <= HAK_TINY_MAX || size > kSpanMax) continue;
      const size_t good = hak_large_good_size(size);
      ASSERT_GE(good, size);
      ASSERT_GE(good, last) << size;
      last = good;
      char *block = Alloc(size);
      ASSERT_EQ(hak_large_usable(block), good) << size;
      ASSERT_TRUE(hak_large_free(block));
    }
  }
}

TEST_F(Large, PagesBehindAShrunkSpanGoBackAFewTimes) {
  const auto give_back = [] { return hak_os_totals().decommits; };
  char *block = Alloc(HAK_SLAB_SIZE);
  const size_t small = 33000;
  uint64_t before = give_back();
  for (int i = 0; i < 20; i++) {
    memset(block, 'a', HAK_SLAB_SIZE);
    ASSERT_EQ(hak_large_resize(block, small, false), block);
    EXPECT_EQ(hak_large_usable(block), HAK_SLAB_SIZE);
    for (size_t at = 0; at < small; at++) ASSERT_EQ(block[at], 'a');
    ASSERT_EQ(hak_large_resize(block, HAK_SLAB_SIZE, false), block);
  }
  if (hak_os_page_size() <= HAK_SLAB_SIZE / 4) {
    EXPECT_GE(give_back() - before, 1u);
  }
  EXPECT_LE(give_back() - before, 4u);
  // What the program cannot have touched is left alone, and so is what the kernel does not take.
  EXPECT_TRUE(hak_large_free(block));
  block = Alloc(small);
  before = give_back();
  ASSERT_EQ(hak_large_resize(block, small + 100, false), block);
  ASSERT_EQ(hak_large_resize(block, small - 100, false), block);
  EXPECT_EQ(give_back(), before);
  ASSERT_EQ(hak_large_resize(block, HAK_SLAB_SIZE, false), block);
  memset(block, 'b', HAK_SLAB_SIZE);
  {
    const FaultPlan plan(HAK_FAULT_DECOMMIT);
    ASSERT_EQ(hak_large_resize(block, small, false), block);
    EXPECT_EQ(block[HAK_SLAB_SIZE - 1], 'b');
  }
  EXPECT_TRUE(hak_large_free(block));
}

TEST_F(Large, MappingsDoNotBecomeSpans) {
  char *block = Alloc(3 * kSpanMax);
  EXPECT_EQ(hak_large_resize(block, kSpanMax, true), nullptr);
  EXPECT_EQ(hak_large_usable(block), hak_large_good_size(3 * kSpanMax));
  EXPECT_EQ(hak_large_resize(block, 2 * kSpanMax, false), block);
  EXPECT_TRUE(hak_large_free(block));
}

TEST_F(Large, FailsWithoutMemoryAndRecovers) {
  hak_pool_trim(0);
  hak_mapping_trim();
  std::vector<char *> held;
  {
    const FaultPlan plan(HAK_FAULT_MAP);
    EXPECT_EQ(Alloc(2 * kSpanMax), nullptr);
    // Superslabs that are kept serve until they are full.
    for (char *block; held.size() < 100 && (block = Alloc(kSpanMax)) != nullptr;) held.push_back(block);
    EXPECT_EQ(Alloc(kSpanMax), nullptr);
  }
  held.push_back(Alloc(kSpanMax));
  held.push_back(Alloc(2 * kSpanMax));
  for (char *block : held) EXPECT_TRUE(hak_large_free(block));
}

TEST_F(Large, RandomCallsKeepContents) {
  struct Block {
    char *start;
    size_t size;
    char fill;
  };
  Random random(8);
  std::vector<Block> blocks;
  const auto check = [](const Block &block) {
    return block.size == 0 || (block.start[0] == block.fill && block.start[block.size / 2] == block.fill &&
                               block.start[block.size - 1] == block.fill);
  };
  const auto fill = [&](Block *block) {
    block->fill = static_cast<char>(1 + random.Below(120));
    if (block->size == 0) return;
    block->start[0] = block->start[block->size / 2] = block->start[block->size - 1] = block->fill;
  };
  for (int op = 0; op < hak_unit::Operations(4000); op++) {
    const size_t size = random.Below(random.OneIn(4) ? 3 * kSpanMax : kSpanMax / 3);
    if (blocks.size() < 40 && random.OneIn(2)) {
      Block block = {Alloc(size, size_t{16} << random.Below(15), random.OneIn(3)), size, 0};
      ASSERT_NE(block.start, nullptr);
      fill(&block);
      blocks.push_back(block);
    } else if (!blocks.empty()) {
      const size_t at = random.Below(blocks.size());
      ASSERT_TRUE(check(blocks[at]));
      if (random.OneIn(2)) {
        char *resized = static_cast<char *>(hak_large_resize(blocks[at].start, size, random.OneIn(2)));
        if (resized == nullptr) continue;
        if (size > 0 && blocks[at].size > 0) {
          ASSERT_EQ(resized[0], blocks[at].fill);
        }
        ASSERT_GE(hak_large_usable(resized), size);
        blocks[at].start = resized;
        blocks[at].size = size;
        fill(&blocks[at]);
      } else {
        ASSERT_TRUE(hak_large_free(blocks[at].start));
        blocks[at] = blocks.back();
        blocks.pop_back();
      }
    }
    if (op % 64 == 0) {
      ASSERT_EQ(hak_pool_verify(), nullptr);
      ASSERT_EQ(hak_mapping_verify(), nullptr);
    }
  }
  for (const Block &block : blocks) {
    EXPECT_TRUE(check(block));
    EXPECT_TRUE(hak_large_free(block.start));
  }
}

#else

TEST_F(Large, AreGuardedBlocks) {
  for (const size_t size : {HAK_TINY_MAX + 1, HAK_SLAB_SIZE, kSpanMax, 5 * kSpanMax + 3}) {
    for (size_t align = 16; align <= size_t{4} << 20; align *= 4) {
      char *block = Alloc(size, align, true);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % align, 0u);
      EXPECT_EQ(hak_guarded_totals().blocks, 1u);
      EXPECT_EQ(hak_large_usable(block), size);
      EXPECT_EQ(hak_large_good_size(size), size);
      EXPECT_TRUE(IsZero(block, size));
      EXPECT_EQ(hak_large_resize(block, size + 1, true), size % hak_os_page_size() == 0 ? nullptr : block);
      EXPECT_TRUE(hak_large_free(block));
      EXPECT_EQ(hak_large_usable(block), 0u);
    }
  }
  EXPECT_FALSE(hak_large_free(this));
  EXPECT_NE(hak_held_trim(), 0u);
}

#endif

}  // namespace
