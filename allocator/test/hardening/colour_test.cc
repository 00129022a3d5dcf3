// SPDX-License-Identifier: Apache-2.0
//
// Large blocks of one size begin at varying cache lines if that costs no page of memory. All else must be correct:
// size, contents, growth, zeroed memory, requested alignment, and which pointers are valid.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <vector>

#include "allocator/os/base.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr size_t kPage = 4096;
// Sizes that leave room for at least six lines in the last page.
const size_t kSizes[] = {40000, 66000, 100000, 150000, 345000, 700001, 2 << 20, (3 << 20) + 5, 20000000};

char *New(size_t size) { return static_cast<char *>(hak_malloc(size)); }
uintptr_t Line(const char *block) { return reinterpret_cast<uintptr_t>(block) % kPage / HAK_CACHE_LINE; }

TEST(Colour, FewBlocksOfASizeBeginAtTheSameLine) {
  if (HAK_GUARDED) GTEST_SKIP() << "blocks end at a guard page";
  for (const size_t size : kSizes) {
    constexpr size_t kBlocks = 32;
    std::vector<char *> blocks;
    int lines[64] = {};
    for (size_t i = 0; i < kBlocks; ++i) {
      blocks.push_back(New(size));
      ASSERT_NE(blocks.back(), nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(blocks.back()) % HAK_CACHE_LINE, 0u);
      lines[Line(blocks.back())]++;
      if (size <= 1 << 20) {
        const uintptr_t first = reinterpret_cast<uintptr_t>(blocks.back()) / kPage;
        const uintptr_t last = (reinterpret_cast<uintptr_t>(blocks.back()) + size - 1) / kPage;
        EXPECT_EQ(last - first + 1, (size + kPage - 1) / kPage) << "the colour costs a page: " << size;
      }
    }
    // In FAST the address decides. Of 32 addresses, more than 20 have the same of six colours once in 10^7 times.
    EXPECT_LE(*std::max_element(lines, lines + 64), HAK_FAST ? 20 : 8) << size;
    for (char *block : blocks) hak_free(block);
  }
}

TEST(Colour, UsableSizesAreGoodSizes) {
  for (size_t size = 33000; size < 5000000; size += size / 37 + 1) {
    for (const size_t exact : {size, size / kPage * kPage, size / 65536 * 65536 + 1}) {
      if (exact <= 33000) continue;
      char *block = New(exact);
      ASSERT_NE(block, nullptr);
      // A reused run may be a little larger.
      if (exact <= 1 << 20) {
        EXPECT_EQ(hak_usable_size(block), hak_good_size(exact)) << exact;
      }
      EXPECT_GE(hak_usable_size(block), hak_good_size(exact)) << exact;
      EXPECT_GE(hak_usable_size(block), exact);
      memset(block, 0x5A, std::min(hak_usable_size(block), size_t{200000}));
      block[hak_usable_size(block) - 1] = 1;
      hak_free(block);
    }
  }
  EXPECT_TRUE(hak_heap_verify());
}

struct Block {
  char *start;
  size_t size;
  unsigned char mark;
};

// Marks at both ends and in each page, so that an overlap or a lost page is noticed.
void Mark(Block *block) {
  for (size_t i = 0; i < block->size; i += kPage - 1) block->start[i] = static_cast<char>(block->mark);
  block->start[block->size - 1] = static_cast<char>(block->mark);
}
bool Holds(const Block &block, size_t size) {
  for (size_t i = 0; i < size; i += kPage - 1) {
    if (block.start[i] != static_cast<char>(block.mark)) return false;
  }
  return true;
}

TEST(Colour, BlocksKeepTheirContentsAsTheyGrowAndShrinkAndZeroesAreZero) {
  Random random(31);
  std::vector<Block> blocks;
  const auto size_of = [&] { return 33000 + random.Below(random.OneIn(4) ? 4000000 : 700000); };
  for (int step = 0; step < 1500; ++step) {
    if (blocks.size() < 24) {
      const size_t size = size_of();
      const bool zero = random.OneIn(2);
      char *start = zero ? static_cast<char *>(hak_calloc(1, size)) : New(size);
      ASSERT_NE(start, nullptr);
      for (size_t i = 0; zero && i < size; i += 61) ASSERT_EQ(start[i], 0) << i << " of " << size;
      if (zero) {
        ASSERT_EQ(start[size - 1], 0);
      }
      blocks.push_back({start, size, static_cast<unsigned char>(1 + step % 255)});
      Mark(&blocks.back());
      continue;
    }
    Block &block = blocks[random.Index(blocks.size())];
    ASSERT_TRUE(Holds(block, block.size)) << block.size;
    if (random.OneIn(2)) {
      const size_t size = random.OneIn(3) ? block.size + random.Below(9000) : size_of();
      char *moved = static_cast<char *>(hak_realloc(block.start, size));
      ASSERT_NE(moved, nullptr);
      block.start = moved;
      EXPECT_GE(hak_usable_size(moved), size);
      ASSERT_TRUE(Holds(block, std::min(block.size, size))) << block.size << " to " << size;
      block.size = size;
      Mark(&block);
    } else {
      hak_free(block.start);
      block = blocks.back();
      blocks.pop_back();
    }
    if (step % 100 == 0) {
      ASSERT_TRUE(hak_heap_verify());
    }
  }
  for (const Block &block : blocks) hak_free(block.start);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(Colour, WhoAsksForAnAlignmentGetsIt) {
  for (size_t align = 32; align <= size_t{1} << 22; align *= 2) {
    for (const size_t size : kSizes) {
      void *block = hak_aligned_alloc(align, size);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % align, 0u);
      EXPECT_GE(hak_usable_size(block), size);
      hak_free(block);
    }
  }
}

TEST(Colour, OnlyABlocksOwnStartIsIt) {
  for (const size_t size : {size_t{40000}, size_t{345000}, size_t{2} << 20}) {
    for (const ptrdiff_t off : {-64, 64, 16, 4096, 65536}) {
      if (static_cast<size_t>(off < 0 ? 0 : off) >= size) continue;
      const Outcome outcome = RunForked([&] {
        char *block = New(size);
        hak_free(block + off);
        return 0;
      });
      EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
      EXPECT_EQ(outcome.err.find("hakmem: invalid free: 0x"), 0u) << size << ' ' << off << ' ' << outcome;
    }
    // The start of the page in which the block begins is not a valid pointer.
    const Outcome outcome = RunForked([&] {
      char *block = New(size);
      char *page = reinterpret_cast<char *>(reinterpret_cast<uintptr_t>(block) & ~(kPage - 1));
      if (page == block) return 7;
      return hak_usable_size(page) != 0 ? 1 : 2;
    });
    if (outcome.exit_code == 7) continue;
    EXPECT_EQ(outcome.err.find("hakmem: invalid pointer: 0x"), 0u) << outcome;
  }
}

}  // namespace
}  // namespace hak_test
