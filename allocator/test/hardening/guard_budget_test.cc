// SPDX-License-Identifier: Apache-2.0
//
// Guard pages use mappings, whose number the kernel limits (vm.max_map_count), so they have a budget. However many
// blocks a program has, it still gets memory, threads and mappings of its own. Beyond the budget blocks get no guards,
// which is reported once. After blocks are freed, new ones get guards again.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr size_t kSize = 40000;
// A higher limit would take long to reach.
constexpr size_t kMostMappings = 150000;

size_t MappingLimit() {
  size_t limit = 0;
  FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
  if (file == nullptr) return 0;
  if (fscanf(file, "%zu", &limit) != 1) limit = 0;
  fclose(file);
  return limit;
}

size_t Mappings() {
  FILE *file = fopen("/proc/self/maps", "re");
  if (file == nullptr) return SIZE_MAX;
  size_t lines = 0;
  for (int c; (c = fgetc(file)) != EOF;) lines += c == '\n';
  fclose(file);
  return lines;
}

int g_wrong = 0;
void Expect(bool good, const char *what, size_t detail) {
  if (good) return;
  printf("%s (%zu)\n", what, detail);
  g_wrong = 1;
}

void *Nothing(void *) { return nullptr; }

// What the program itself needs mappings for.
void ExpectRoom(size_t limit) {
  Expect(Mappings() <= limit - limit / 4, "a quarter of the mappings is not left", Mappings());
  pthread_t thread;
  const int error = pthread_create(&thread, nullptr, Nothing, nullptr);
  Expect(error == 0, "no thread can be made", static_cast<size_t>(error));
  if (error == 0) pthread_join(thread, nullptr);
  void *small = hak_malloc(100);
  Expect(small != nullptr, "no small block", 0);
  hak_free(small);
}

struct Block {
  char *start;
  size_t size;
};

void Take(std::vector<Block> *blocks, size_t size, size_t align = 0) {
  char *start = static_cast<char *>(align == 0 ? hak_malloc(size) : hak_aligned_alloc(align, size));
  Expect(start != nullptr, "no block", blocks->size());
  if (start == nullptr) _exit(9);
  Expect(align == 0 || reinterpret_cast<uintptr_t>(start) % align == 0, "not aligned", align);
  Expect(hak_usable_size(start) == size, "another size", hak_usable_size(start));
  // The page with the canary has been touched already.
  start[size - 1] = static_cast<char>(blocks->size());
  blocks->push_back({start, size});
}

void FreeAll(std::vector<Block> *blocks) {
  for (const Block &block : *blocks) hak_free(block.start);
  blocks->clear();
}

bool HasGuards(const Block &block) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t end = (reinterpret_cast<uintptr_t>(block.start) + block.size + page - 1) & ~(page - 1);
  return !hak_unit::IsReadable(reinterpret_cast<char *>(end));
}

int ManyBlocks() {
  const size_t limit = MappingLimit();
  std::vector<Block> blocks;
  for (size_t i = 0; i < limit / 4; ++i) Take(&blocks, kSize);
  ExpectRoom(limit);
  Expect(HasGuards(blocks.front()), "the first block has no guards", 0);
  Expect(!HasGuards(blocks.back()), "the budget was not used up", 0);
  // Their neighbours are intact: the last byte is what was written.
  for (size_t i = 0; i < blocks.size(); ++i) {
    Expect(blocks[i].start[kSize - 1] == static_cast<char>(i), "a block overlaps another", i);
  }
  Expect(hak_heap_verify(), "the heap is damaged", 0);
  // Blocks of other sizes and alignments, without guards; zeroed if requested.
  std::vector<Block> others;
  for (const size_t size : {size_t{33000}, size_t{65536}, size_t{65537}, size_t{1} << 20, size_t{3} << 20}) {
    for (const size_t align : {size_t{0}, size_t{4096}, size_t{65536}, size_t{1} << 21}) Take(&others, size, align);
  }
  FreeAll(&others);
  char *zero = static_cast<char *>(hak_calloc(1, 900000));
  for (size_t i = 0; i < 900000; i += 512) Expect(zero[i] == 0, "calloc gave old bytes", i);
  hak_free(zero);
  char *moved = static_cast<char *>(hak_malloc(50000));
  memset(moved, 7, 50000);
  for (const size_t size : {size_t{50001}, size_t{200000}, size_t{2000000}, size_t{49000}}) {
    moved = static_cast<char *>(hak_realloc(moved, size));
    Expect(moved != nullptr && hak_usable_size(moved) == size && moved[0] == 7 && moved[48999] == 7, "realloc", size);
  }
  hak_free(moved);
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  hak_stats_get(&stats);
  Expect(stats.large_blocks == blocks.size(), "large blocks miscounted", stats.large_blocks);
  Expect(stats.large_bytes == blocks.size() * kSize, "large bytes miscounted", stats.large_bytes);
  FreeAll(&blocks);
  hak_trim(0);
  Take(&blocks, kSize);
  Expect(HasGuards(blocks.back()), "the budget did not come back", 0);
  FreeAll(&blocks);
  Expect(hak_heap_verify(), "the heap is damaged", 0);
  return g_wrong;
}

// Holes between blocks cost more mappings than blocks side by side.
int RandomFrees() {
  const size_t limit = MappingLimit();
  Random random(7);
  std::vector<Block> blocks;
  for (size_t round = 0; round < 4; ++round) {
    while (blocks.size() < limit * 3 / 10) Take(&blocks, kSize + random.Below(3) * 30000);
    ExpectRoom(limit);
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (random.Below(2) == 0) continue;
      hak_free(blocks[i].start);
      blocks[i] = blocks.back();
      blocks.pop_back();
    }
    ExpectRoom(limit);
  }
  FreeAll(&blocks);
  Expect(hak_heap_verify(), "the heap is damaged", 0);
  return g_wrong;
}

// An overflow of a block without guards is noticed when it is freed.
int Overflow() {
  std::vector<Block> blocks;
  for (size_t i = 0; i < MappingLimit() / 4; ++i) Take(&blocks, kSize);
  blocks.back().start[kSize] = static_cast<char>(blocks.back().start[kSize] ^ 1);
  hak_free(blocks.back().start);
  return 0;
}

class GuardBudget : public testing::Test {
 protected:
  void SetUp() override {
    limit_ = MappingLimit();
    if (limit_ == 0 || limit_ > kMostMappings) GTEST_SKIP() << "the limit on mappings is " << limit_;
    line_ = " of the " + std::to_string(limit_) +
            " mappings that vm.max_map_count allows: from now on blocks may go without them\n";
  }
  // The line appears once, and nothing else.
  void ExpectTold(const std::string &err) const {
    EXPECT_EQ(err.find("hakmem: guard pages take "), 0u) << err;
    EXPECT_EQ(err.find(line_) + line_.size(), err.size()) << err;
    EXPECT_EQ(err.find('\n') + 1, err.size()) << err;
  }
  size_t limit_ = 0;
  std::string line_;
};

TEST_F(GuardBudget, ManyLargeBlocks) {
  const Outcome outcome = RunForked(ManyBlocks, 60);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  ExpectTold(outcome.err);
}

TEST_F(GuardBudget, HolesBetweenBlocks) {
  const Outcome outcome = RunForked(RandomFrees, 60);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  ExpectTold(outcome.err);
}

TEST_F(GuardBudget, OverflowOfABlockWithoutGuards) {
  const Outcome outcome = RunForked(Overflow, 60);
  EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
  EXPECT_NE(outcome.err.find("hakmem: overflow: 0x"), std::string::npos) << outcome;
  // A program that has only large blocks is told of the budget all the same.
  EXPECT_EQ(outcome.err.find("hakmem: guard pages take "), 0u) << outcome;
}

}  // namespace
}  // namespace hak_test
