// SPDX-License-Identifier: Apache-2.0
//
// What large blocks cost beside the memory that the program touches: of blocks that are never touched, and of those
// that are freed. Measured from outside, by the process's anonymous memory, page tables and addresses. Each case is a
// process of its own.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>
#include <string.h>

#include <fstream>
#include <string>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/test/probe.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr uint64_t kKiB = uint64_t{1} << 10;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

// A line of a file below /proc/self, in bytes.
uint64_t Line(const char *path, const char *name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name, 0) == 0) return strtoull(line.c_str() + strlen(name), nullptr, 10) * 1024;
  }
  return 0;
}

struct Cost {
  uint64_t memory = Line("/proc/self/smaps_rollup", "Anonymous:");
  uint64_t tables = Line("/proc/self/status", "VmPTE:");
  uint64_t addresses = Line("/proc/self/status", "VmSize:");
};

void ExpectAtMost(const Cost &base, uint64_t memory, uint64_t tables, const char *when) {
  const Cost now;
  EXPECT_LE(now.memory, base.memory + memory) << when;
  EXPECT_LE(now.tables, base.tables + tables) << when;
}

// The first large block, and everything that a trim needs, do not count.
Cost Begin() {
  hak_free(hak_malloc(100));
  hak_free(hak_malloc(3 * kMiB));
  hak_trim(0);
  return Cost();
}

void Untouched(bool zeroed) {
  const Cost base = Begin();
  for (int round = 0; round < 3; round++) {
    void *block = zeroed ? hak_calloc(1, 2 * kGiB) : hak_malloc(2 * kGiB);
    ASSERT_NE(block, nullptr);
    ExpectAtMost(base, 64 * kKiB, 64 * kKiB, "in use");
    hak_free(block);
    ExpectAtMost(base, 128 * kKiB, 64 * kKiB, "freed");
    hak_trim(0);
    ExpectAtMost(base, 32 * kKiB, 32 * kKiB, "trimmed");
  }
  EXPECT_TRUE(hak_heap_verify());
}

TEST(Untouched, ABlockCostsNothing) { HAK_EXPECT_PASSES_IN_CHILD(Untouched(false)); }
TEST(Untouched, AZeroedBlockCostsNothing) { HAK_EXPECT_PASSES_IN_CHILD(Untouched(true)); }

// Half a GiB to one and a half, of which two bytes are touched. `beside`: smaller blocks that stay are allocated
// meanwhile, between the large ones.
void ComeAndGo(bool beside) {
  const Cost base = Begin();
  Random random(11);
  constexpr size_t kStays = 40000;
  size_t stay = 0;
  for (int round = 0; round < 300; round++) {
    const size_t size = kGiB / 2 + random.Index(kGiB);
    char *block = static_cast<char *>(hak_malloc(size));
    ASSERT_NE(block, nullptr);
    block[0] = 1;
    block[random.Index(size)] = 1;
    if (beside && round % 10 == 0) {
      memset(hak_malloc(kStays), 1, kStays);
      stay++;
    }
    hak_free(block);
  }
  hak_trim(0);
  ExpectAtMost(base, 64 * kKiB + stay * 96 * kKiB, 128 * kKiB + stay * 32 * kKiB, "trimmed");
  EXPECT_LE(Cost().addresses, base.addresses + 16 * kMiB + stay * 8 * kMiB);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(Untouched, BlocksThatComeAndGoLeaveNothing) { HAK_EXPECT_PASSES_IN_CHILD(ComeAndGo(false)); }
TEST(Untouched, BlocksThatComeAndGoBesideOthersLeaveLittle) { HAK_EXPECT_PASSES_IN_CHILD(ComeAndGo(true)); }

// Many blocks that the program does not touch: what is in memory are records, and in builds with guards canaries.
void Many() {
  const Cost base = Begin();
  constexpr size_t kCount = 16384;
  std::vector<void *> blocks(kCount);
  const Cost with_list;
  for (void *&block : blocks) block = hak_malloc(60000);
  const Cost full;
  for (void *block : blocks) hak_free(block);
  hak_trim(0);
  const Cost left;
  EXPECT_LE(left.memory, with_list.memory + (full.memory - with_list.memory) / 2);
  EXPECT_LE(left.addresses, base.addresses + 64 * kMiB);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(Untouched, ManyBlocksLeaveFewRecords) { HAK_EXPECT_PASSES_IN_CHILD(Many()); }

}  // namespace
}  // namespace hak_test
