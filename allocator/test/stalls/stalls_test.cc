// SPDX-License-Identifier: Apache-2.0
//
// The work of a single call does not grow with what other threads left. Work is counted, not timed.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>

#include <thread>
#include <vector>

#include "allocator/test/probe.h"

namespace hak_test {
namespace {

// Another thread frees all blocks of a thread. Each call of the owner collects a few of them, so the slabs become free
// in small steps. No block is lost.
TEST(Stalls, OneCallTakesInFewOfTheBlocksThatOthersFreed) {
  constexpr size_t kBlocks = 100000;
  constexpr size_t kSize = 64;
  constexpr size_t kCalls = 200;
  hak_free(hak_malloc(kSize));
  const uint64_t live = Stats().live_blocks;
  std::vector<void *> blocks(kBlocks);
  for (void *&block : blocks) block = hak_malloc(kSize);
  std::thread([&] {
    for (void *block : blocks) hak_free(block);
  }).join();
  std::vector<void *> mine;
  mine.reserve(kCalls * 512);
  const uint64_t begin = Stats().slabs_free;
  uint64_t most = 0;
  uint64_t refills = 0;
  while (refills < kCalls) {
    const hak_stats before = Stats();
    mine.push_back(hak_malloc(kSize));
    const hak_stats after = Stats();
    refills += after.cached_blocks > before.cached_blocks;
    const uint64_t given = after.slabs_free > before.slabs_free ? after.slabs_free - before.slabs_free : 0;
    if (given > most) most = given;
    ASSERT_EQ(after.live_blocks, live + mine.size());
    if (mine.size() == kBlocks / 4) break;
  }
  EXPECT_LE(most, 48U) << "slabs that one call took in, of " << kBlocks * kSize / 65536;
  for (void *block : mine) hak_free(block);
  hak_thread_flush();
  EXPECT_GT(Stats().slabs_free, begin + 48) << "all of them came in";
  EXPECT_EQ(Stats().live_blocks, live);
  EXPECT_TRUE(hak_heap_verify());
}

// A buffer over 1 MiB that a free run serves takes nothing from the free slabs, which are used in each round.
TEST(Stalls, ABufferFromAFreedMappingLeavesTheFreeSlabsAlone) {
  constexpr size_t kSpans = 64;
  constexpr int kRounds = 50;
  void *spans[kSpans];
  hak_stats before = {};
  for (int round = 0; round < kRounds; ++round) {
    if (round == 5) before = Stats();
    for (void *&span : spans) {
      span = hak_malloc(60000);
      for (size_t at = 0; at < 60000; at += 4096) static_cast<volatile char *>(span)[at] = 1;
    }
    for (void *span : spans) hak_free(span);
    auto *big = static_cast<volatile char *>(hak_malloc(1500000));
    big[0] = 1;
    hak_free(const_cast<char *>(big));
  }
  EXPECT_LE(Stats().decommitted_bytes - before.decommitted_bytes, uint64_t{4} << 20)
      << "memory that each round uses was returned";
}

}  // namespace
}  // namespace hak_test
