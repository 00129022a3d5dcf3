// SPDX-License-Identifier: Apache-2.0
#include "allocator/large/large.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "allocator/block/size_class.h"
#include "allocator/large/guarded.h"
#include "allocator/large/guarded_held.h"
#include "allocator/large/medium.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/config.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::IsZero;
using hak_unit::Random;

constexpr size_t kMebibyte = size_t{1} << 20;
constexpr size_t k64 = size_t{64} << 10;

class Large : public testing::Test {
 protected:
  Large() {
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.mapping_cache_bytes = size_t{32} << 20;
  }
  ~Large() override {
    EXPECT_EQ(hak_page_heap_totals().blocks, 0u);
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    hak_page_heap_trim();
  }
};

char *Alloc(size_t size, size_t align = 16, bool zero = false) {
  return static_cast<char *>(hak_large_alloc(size, align, zero, true));
}

#if !HAK_GUARDED

TEST_F(Large, BlocksOfEverySizeAndAlignment) {
  const size_t sizes[] = {0, 1, HAK_TINY_MAX + 1, k64, k64 + 1, kMebibyte - 1, kMebibyte, kMebibyte + 1, 5 * kMebibyte};
  for (const size_t size : sizes) {
    for (size_t align = 16; align <= size_t{4} << 20; align *= 4) {
      char *block = Alloc(size, align);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % align, 0u);
      EXPECT_EQ(hak_page_heap_totals().blocks, 1u) << size << ' ' << align;
      const size_t usable = hak_large_usable(block);
      EXPECT_GE(usable, std::max(size, size_t{1}));
      if (align == 16 && size > HAK_TINY_MAX) {
        EXPECT_EQ(usable, hak_large_good_size(size));
      }
      memset(block, 0xAB, usable);
      EXPECT_TRUE(hak_large_free(block));
      EXPECT_EQ(hak_large_usable(block), 0u);
      EXPECT_FALSE(hak_large_free(block));
    }
  }
}

TEST_F(Large, GoodSizeIsWhatARequestGets) {
  for (size_t size = HAK_TINY_MAX + 1; size < 3 * kMebibyte; size += 77777) {
    char *block = Alloc(size);
    EXPECT_EQ(hak_large_usable(block), hak_large_good_size(size)) << size;
    EXPECT_EQ(hak_large_good_size(hak_large_good_size(size)), hak_large_good_size(size));
    EXPECT_TRUE(hak_large_free(block));
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
  char *medium = Alloc(3 * k64);
  char *large = Alloc(2 * kMebibyte);
  int local;
  for (char *other : {static_cast<char *>(nullptr), medium + 16, medium + 64, medium + k64, large + 16, large + 65536,
                      reinterpret_cast<char *>(&local), reinterpret_cast<char *>(UINTPTR_MAX)}) {
    EXPECT_FALSE(hak_large_free(other));
    EXPECT_EQ(hak_large_usable(other), 0u);
    EXPECT_EQ(hak_large_resize(other, 3 * kMebibyte, true), nullptr);
  }
  EXPECT_EQ(hak_large_usable(medium), hak_large_good_size(3 * k64));
  EXPECT_TRUE(hak_large_free(medium));
  EXPECT_TRUE(hak_large_free(large));
}

TEST_F(Large, ZeroedBlocksAreZeroWhateverWasThereBefore) {
  Random random(2);
  for (int round = 0; round < 60; round++) {
    // Leaves dirty runs of different lengths side by side, and releases some of them.
    std::vector<char *> dirt;
    for (int i = 0; i < 5; i++) {
      dirt.push_back(Alloc(1 + random.Below(kMebibyte + kMebibyte / 4)));
      memset(dirt.back(), 0xD1, hak_large_usable(dirt.back()));
    }
    for (char *block : dirt) ASSERT_TRUE(hak_large_free(block));
    if (random.OneIn(3)) hak_page_heap_trim();
    const size_t size = random.Below(kMebibyte + kMebibyte / 4);
    char *block = Alloc(size, 16, true);
    ASSERT_NE(block, nullptr);
    ASSERT_TRUE(IsZero(block, size)) << size;
    ASSERT_TRUE(hak_large_free(block));
  }
}

TEST_F(Large, ZeroedFreshMemoryIsNotTouched) {
  hak_page_heap_trim();
  char *block = Alloc(8 * kMebibyte, 16, true);
  char *first_page = block - reinterpret_cast<uintptr_t>(block) % hak_os_page_size();
  EXPECT_EQ(hak_unit::ResidentPages(first_page, 8 * kMebibyte), 0u);
  EXPECT_TRUE(hak_large_free(block));
}

TEST_F(Large, BlocksGrowIntoFreePagesAndShrinkInPlace) {
  hak_page_heap_trim();
  char *block = Alloc(2 * k64);
  memset(block, 'a', 2 * k64);
  ASSERT_EQ(hak_large_resize(block, 6 * k64, false), block);
  EXPECT_EQ(hak_large_usable(block), hak_large_good_size(6 * k64));
  // A neighbour directly behind it prevents this.
  ASSERT_EQ(hak_large_resize(block, 3 * k64, false), block);
  std::vector<char *> neighbours;
  const size_t rest = hak_large_good_size(6 * k64) - hak_large_good_size(3 * k64);
  while (neighbours.empty() || neighbours.back() < block || neighbours.back() > block + 5 * k64) {
    neighbours.push_back(Alloc(rest / 2));
    ASSERT_LT(neighbours.size(), 200u);
  }
  EXPECT_EQ(hak_large_resize(block, 6 * k64, true), nullptr);
  EXPECT_EQ(hak_large_usable(block), hak_large_good_size(3 * k64));
  EXPECT_EQ(hak_large_resize(block, k64 - 1, false), block);
  EXPECT_EQ(hak_large_usable(block), hak_large_good_size(k64 - 1));
  for (size_t i = 0; i < k64 - 1; i++) ASSERT_EQ(block[i], 'a');
  EXPECT_EQ(hak_large_resize(block, SIZE_MAX, true), nullptr);
  for (char *neighbour : neighbours) EXPECT_TRUE(hak_large_free(neighbour));
  EXPECT_TRUE(hak_large_free(block));
}

// Whatever a block's past: the usable size, its class's and what statistics count are the same. Blocks of nearly 1 MiB
// are the largest medium ones, and pages move from this size on.
TEST_F(Large, BlocksThatGrowAgainHaveTheRunOfTheirClass) {
  int moves = 0;
  for (size_t room = k64; room <= 4 * k64; room += k64 / 2) {
    for (size_t next = 15 * k64; next <= 20 * k64; next += k64 / 4) {
      hak_page_heap_trim();
      char *block = Alloc(14 * k64);
      char *behind = Alloc(room);
      char *wall = Alloc(k64);
      ASSERT_TRUE(block < behind && behind < wall);
      ASSERT_TRUE(hak_large_free(behind));
      ASSERT_EQ(hak_large_resize(block, hak_large_usable(block) + k64 / 2, false), block) << "into the free pages";
      char *resized = static_cast<char *>(hak_large_resize(block, next, true));
      moves += resized != nullptr && resized != block;
      if (resized != nullptr) block = resized;
      ASSERT_STREQ(hak_large_verify(), nullptr) << room << ", " << next;
      if (resized != nullptr && hak_medium_is(next)) {
        ASSERT_EQ(hak_large_usable(block), hak_large_good_size(next)) << room;
      }
      for (char *taken : {block, wall}) ASSERT_TRUE(hak_large_free(taken));
    }
  }
  EXPECT_GE(moves, 20);
}

TEST_F(Large, VerifyNoticesARunThatIsNotOfItsClass) {
  char *block = Alloc(2 * k64);
  const size_t run = hak_page_heap_look(block).size;
  EXPECT_STREQ(hak_large_verify(), nullptr);
  ASSERT_EQ(hak_page_heap_resize(block, run, hak_medium_tag(hak_medium_class(4 * k64)), false), block);
  EXPECT_STREQ(hak_large_verify(), "run of another size than its tag stands for");
  ASSERT_EQ(hak_page_heap_resize(block, run, hak_medium_tag(hak_medium_class(2 * k64)), false), block);
  EXPECT_STREQ(hak_large_verify(), nullptr);
  EXPECT_TRUE(hak_large_free(block));
}

// A program may request one byte more, and must not get a smaller usable size; malloc gives what good_size says.
TEST_F(Large, UsableSizesDoNotFall) {
  size_t last = 0;
  for (size_t page = HAK_TINY_MAX; page <= 2 * kMebibyte; page += 4096) {
    for (const size_t size : {page - 64, page - 63, page - 1, page, page + 1, page + 64}) {
      if (size <= HAK_TINY_MAX) continue;
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

// malloc(32769): with pages of 4 KiB, nine of them.
TEST_F(Large, TheSmallestTakesLittle) {
  char *block = Alloc(HAK_TINY_MAX + 1);
  EXPECT_LE(hak_page_heap_look(block).size, hak_round_up(36864, hak_os_page_size()));
  EXPECT_TRUE(hak_large_free(block));
}

// The end that a shrunk block gives up is used for other blocks, and is returned to the system with the rest.
TEST_F(Large, TheEndOfAShrunkBlockIsFree) {
  char *block = Alloc(8 * kMebibyte);
  memset(block, 'a', 8 * kMebibyte);
  const uint64_t before = hak_page_heap_free_memory();
  ASSERT_EQ(hak_large_resize(block, kMebibyte, false), block);
  EXPECT_GE(hak_page_heap_free_memory(), before + 6 * kMebibyte);
  EXPECT_GE(hak_page_heap_trim(), 6 * kMebibyte);
  char *start = block - reinterpret_cast<uintptr_t>(block) % hak_os_page_size();
  const size_t resident = hak_unit::ResidentPages(start + 3 * kMebibyte, 4 * kMebibyte);
  EXPECT_TRUE(resident == 0 || resident == SIZE_MAX) << "SIZE_MAX: no longer mapped";
  for (size_t at = 0; at < kMebibyte; at++) ASSERT_EQ(block[at], 'a');
  EXPECT_TRUE(hak_large_free(block));
}

TEST_F(Large, BlocksResizedToNothingKeepAPage) {
  for (const size_t align : {size_t{16}, k64, kMebibyte}) {
    char *block = Alloc(kMebibyte, align);
    ASSERT_NE(block, nullptr);
    block[0] = 7;
    ASSERT_EQ(hak_large_resize(block, 0, false), block);
    EXPECT_GT(hak_large_usable(block), 0u);
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    EXPECT_EQ(block[0], 7);
    EXPECT_TRUE(hak_large_free(block));
  }
}

TEST_F(Large, FailsWithoutMemoryAndRecovers) {
  hak_page_heap_trim();
  std::vector<char *> held;
  {
    const FaultPlan plan(HAK_FAULT_MAP);
    EXPECT_EQ(Alloc(64 * kMebibyte), nullptr);
    // Mapped memory is used until it is used up.
    for (char *block; held.size() < 100 && (block = Alloc(kMebibyte)) != nullptr;) held.push_back(block);
    EXPECT_EQ(Alloc(kMebibyte), nullptr);
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
  }
  held.push_back(Alloc(kMebibyte));
  held.push_back(Alloc(64 * kMebibyte));
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
    const size_t size = random.Below(random.OneIn(4) ? 3 * kMebibyte : kMebibyte / 3);
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
      ASSERT_STREQ(hak_page_heap_verify(), nullptr);
    }
  }
  for (const Block &block : blocks) {
    EXPECT_TRUE(check(block));
    EXPECT_TRUE(hak_large_free(block.start));
  }
}

#else

TEST_F(Large, AreGuardedBlocks) {
  for (const size_t size : {HAK_TINY_MAX + 1, k64, kMebibyte, 5 * kMebibyte + 3}) {
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
