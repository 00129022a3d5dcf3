// SPDX-License-Identifier: Apache-2.0
//
// Blocks that a program fills and then shrinks by realloc: the resident memory must be close to the last requested
// size.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <string.h>
#include <sys/prctl.h>

#include <ostream>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace {

using hak_test::ResidentBytes;
using hak_test::RunForked;
using hak_test::Stats;

constexpr size_t kMiB = size_t{1} << 20;

struct Cut {
  size_t from, to;
};
std::ostream &operator<<(std::ostream &stream, const Cut &cut) { return stream << cut.from << " to " << cut.to; }

// Fills and cuts `bytes` bytes of blocks; what they hold may be `more` beyond 1.3 times their last sizes.
void ExpectLittleMore(const Cut &cut, size_t bytes, size_t more, bool huge_pages) {
  const size_t count = bytes / cut.to;
  const hak_test::Outcome outcome = RunForked([&] {
    if (!huge_pages) prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    std::vector<char *> blocks(count);
    const uint64_t before = ResidentBytes();
    for (size_t i = 0; i < count; i++) {
      char *block = static_cast<char *>(hak_malloc(cut.from));
      if (block == nullptr) return 1;
      memset(block, static_cast<int>(i), cut.from);
      blocks[i] = static_cast<char *>(hak_realloc(block, cut.to));
      if (blocks[i] == nullptr || hak_usable_size(blocks[i]) < cut.to) return 2;
    }
    const uint64_t held = ResidentBytes() - before;
    const uint64_t asked = count * cut.to;
    fprintf(stderr, "%.2f of what is asked for\n", static_cast<double>(held) / static_cast<double>(asked));
    for (size_t i = 0; i < count; i++) {
      for (size_t at = 0; at < cut.to; at++) {
        if (blocks[i][at] != static_cast<char>(i)) return 3;
      }
      hak_free(blocks[i]);
    }
    if (before == 0 || held < asked / 2) return 4;  // The measurement is wrong.
    return held <= asked * 13 / 10 + more ? 0 : 5;
  });
  EXPECT_EQ(outcome.exit_code, 0) << cut << ' ' << outcome;
}

class Shrink : public testing::TestWithParam<Cut> {};

TEST_P(Shrink, HoldsLittleMoreThanIsAskedFor) { ExpectLittleMore(GetParam(), 24 * kMiB, kMiB, false); }

INSTANTIATE_TEST_SUITE_P(Sizes, Shrink,
                         testing::Values(Cut{1280, 700}, Cut{2048, 1040}, Cut{3000, 2200}, Cut{8192, 4200},
                                         Cut{8192, 6200}, Cut{32768, 17000}, Cut{32768, 25000}, Cut{60000, 33000},
                                         Cut{65536, 44000}, Cut{250000, 140000}, Cut{250000, 33000},
                                         Cut{900000, 500000}, Cut{1000000, 700000}, Cut{4000000, 2100000},
                                         Cut{4000000, 600000}, Cut{100000, 2000}));

// With huge pages, for each class from 4 KiB on: the last size is the least that the class serves. The unused rests of
// the last superslabs count beside the blocks.
TEST(ShrinkWithHugePages, HoldsLittleMoreThanIsAskedFor) {
  for (size_t eighths = 8; eighths < 64; eighths += eighths / 8) {
    const size_t size = 512 * eighths + 1;
    ExpectLittleMore({2 * size + size / 2, size}, 64 * kMiB, 2 * kMiB, true);
  }
}

TEST(ShrinkAndGrow, ABlockOfManyStepsDown) {
  for (const size_t step : {size_t{500}, size_t{4096}, size_t{20000}}) {
    const hak_test::Outcome outcome = RunForked([&] {
      constexpr size_t kBlocks = 40;
      const size_t last = 500000;
      const uint64_t before = ResidentBytes();
      for (size_t i = 0; i < kBlocks; i++) {
        char *block = static_cast<char *>(hak_malloc(900000));
        memset(block, 1, 900000);
        for (size_t size = 900000 - step; size > last; size -= step) {
          block = static_cast<char *>(hak_realloc(block, size));
        }
        block = static_cast<char *>(hak_realloc(block, last));
        if (block == nullptr || block[last - 1] != 1) return 1;
      }
      const uint64_t held = ResidentBytes() - before;
      return held <= kBlocks * last * 13 / 10 + kMiB ? 0 : 2;
    });
    EXPECT_EQ(outcome.exit_code, 0) << step << ' ' << outcome;
  }
}

// A buffer that grows and shrinks again and again does not make a system call each time.
TEST(ShrinkAndGrow, ABufferThatGoesUpAndDownSoonMakesNoSystemCalls) {
  for (const Cut cut : {Cut{60000, 33000}, Cut{190000, 140000}, Cut{30000, 17000}, Cut{2000, 1100}}) {
    char *block = static_cast<char *>(hak_malloc(cut.from));
    const auto swing = [&] {
      block = static_cast<char *>(hak_realloc(block, cut.to));
      block = static_cast<char *>(hak_realloc(block, cut.from));
      memset(block, 1, cut.from);
    };
    for (int i = 0; i < 50; i++) swing();
    const uint64_t before = Stats().decommits;
    for (int i = 0; i < 300; i++) swing();
    EXPECT_LE(Stats().decommits - before, 3u) << cut;
    hak_free(block);
  }
}

// Growth in steps to many times the size: the block is not shrunk meanwhile.
TEST(ShrinkAndGrow, GrowthGivesNothingBack) {
  const uint64_t before = Stats().decommits;
  char *block = static_cast<char *>(hak_malloc(33000));
  for (size_t size = 33000; size < 900000; size += 3000) {
    block = static_cast<char *>(hak_realloc(block, size));
    ASSERT_NE(block, nullptr);
    memset(block + size - 3000, 1, 3000);
  }
  hak_free(block);
  EXPECT_LE(Stats().decommits - before, 3u);
}

}  // namespace
