// SPDX-License-Identifier: Apache-2.0
//
// OBSERVE and HARDENED without headers: only the slab knows that a block is free. A freed block whose page went back to
// the system has lost its canary, which is not an overflow.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <vector>

namespace {

constexpr size_t kSize = 2000;
constexpr uintptr_t kSlab = 65536;

char *Bytes(size_t size) { return static_cast<char *>(memset(hak_malloc(size), 1, size)); }

// A freed block. Of its slab only the lowest block is live, so the pages of the others went back.
char *FreedAndPurged() {
  std::vector<char *> blocks(400);
  for (char *&block : blocks) block = Bytes(kSize);
  std::sort(blocks.begin(), blocks.end());
  const uintptr_t slab = reinterpret_cast<uintptr_t>(blocks[200]) / kSlab;
  std::vector<char *> same;
  for (char *block : blocks) {
    if (reinterpret_cast<uintptr_t>(block) / kSlab == slab) same.push_back(block);
  }
  if (same.size() < 10) return nullptr;
  for (size_t i = 1; i < same.size(); i++) hak_free(same[i]);
  hak_thread_flush();
  hak_trim(0);
  return same.back();
}

TEST(NoHeader, IsMeant) {
  EXPECT_NE(strstr(hak_version(), " header=none"), nullptr) << hak_version();
  EXPECT_EQ(hak_usable_size(Bytes(100)), 100u) << "OBSERVE or HARDENED";
}

TEST(NoHeader, ALostCanaryOfAFreedBlockIsNoOverflow) {
  EXPECT_DEATH(static_cast<void>(hak_usable_size(FreedAndPurged())), "invalid pointer");
  EXPECT_DEATH(static_cast<void>(!hak_realloc(FreedAndPurged(), 100)), "invalid pointer");
  EXPECT_DEATH(hak_free(FreedAndPurged()), "double free");
}

TEST(NoHeader, AnOverflowOfALiveBlockIsOne) {
  for (const size_t size : {size_t{20}, size_t{100}, kSize}) {
    EXPECT_DEATH(
        {
          char *block = Bytes(size);
          block[size] = 0;
          hak_free(block);
        },
        "overflow")
        << size;
  }
}

}  // namespace
