// SPDX-License-Identifier: Apache-2.0
//
// hak_aligned_calloc and hak_aligned_realloc where a random test seldom comes: pages that move, memory that runs out,
// and blocks whose alignment comes or goes. The model of heap_model.h checks the rest.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <string.h>

#include <vector>

#include "allocator/os/fault.h"

namespace {

constexpr size_t kMiB = size_t{1} << 20;

bool IsAt(const void *p, size_t alignment) { return reinterpret_cast<uintptr_t>(p) % alignment == 0; }

// Whether all bytes have the value.
bool Holds(const void *p, size_t bytes, int value) {
  const auto *at = static_cast<const unsigned char *>(p);
  for (size_t i = 0; i < bytes; ++i) {
    if (at[i] != value) return false;
  }
  return true;
}

// The kernel may move the pages of a growing block anywhere. Walls of an odd size behind the block keep it from growing
// in place, and the free pages behind them have no alignment but their own.
TEST(AlignedRealloc, LargeBlocksThatMoveKeepTheirAlignment) {
  for (const size_t alignment : {size_t{16}, size_t{64}, size_t{4096}, size_t{65536}, 2 * kMiB}) {
    void *p = hak_aligned_realloc(nullptr, alignment, 2 * kMiB);
    ASSERT_NE(p, nullptr);
    memset(p, 7, 2 * kMiB);
    std::vector<void *> walls;
    for (size_t size = 3 * kMiB; size < 40 * kMiB; size += 5 * kMiB + 4096) {
      for (int i = 0; i < 3; ++i) walls.push_back(hak_malloc(kMiB + 69632));
      p = hak_aligned_realloc(p, alignment, size);
      ASSERT_NE(p, nullptr);
      EXPECT_TRUE(IsAt(p, alignment)) << alignment << ", " << size;
      EXPECT_GE(hak_usable_size(p), size);
      EXPECT_TRUE(Holds(p, 2 * kMiB, 7));
    }
    for (void *wall : walls) hak_free(wall);
    hak_free(p);
  }
}

TEST(AlignedRealloc, TheAlignmentComesAndGoes) {
  for (const size_t size : {size_t{1}, size_t{100}, size_t{3000}, size_t{20000}, size_t{100000}, 3 * kMiB}) {
    auto *p = static_cast<char *>(hak_malloc(size));
    memset(p, 5, size);
    for (const size_t alignment : {size_t{1}, size_t{4096}, size_t{32}, size_t{65536}, size_t{8}}) {
      p = static_cast<char *>(hak_aligned_realloc(p, alignment, size));
      ASSERT_NE(p, nullptr);
      EXPECT_TRUE(IsAt(p, alignment));
      EXPECT_TRUE(Holds(p, size, 5)) << size << ", " << alignment;
    }
    hak_free(p);
  }
}

// A block that is aligned and large enough stays where it is.
TEST(AlignedRealloc, StaysIfItCan) {
  for (const size_t size : {size_t{600}, size_t{3000}, size_t{100000}, 3 * kMiB}) {
    void *p = hak_aligned_alloc(64, size);
    void *const before = p;
    EXPECT_EQ(p = hak_aligned_realloc(p, 64, size - 1), before) << size;
    EXPECT_EQ(p = hak_aligned_realloc(p, 64, size), before) << size;
    hak_free_aligned_sized(p, 64, size);
  }
}

TEST(AlignedRealloc, ASizeOfZeroFrees) {
  void *p = hak_aligned_alloc(256, 100);
  errno = 0;
  EXPECT_EQ(hak_aligned_realloc(p, 256, 0), nullptr);
  EXPECT_EQ(errno, 0);
  p = hak_malloc(100);
  memset(p, 3, 100);
  const volatile size_t wrong = 48;
  EXPECT_EQ(hak_aligned_realloc(p, wrong, 0), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_TRUE(Holds(p, 100, 3)) << "a wrong alignment frees nothing";
  hak_free(p);
}

// When there is no memory, a block that still serves is returned; one that does not is left as it was.
TEST(AlignedRealloc, WithoutMemory) {
  hak_trim(0);
  void *p = hak_aligned_alloc(4096, 8 * kMiB);
  ASSERT_NE(p, nullptr);
  memset(p, 9, 8 * kMiB);
  hak_fault_set(HAK_FAULT_MAP | HAK_FAULT_COMMIT | HAK_FAULT_REMAP, 1, UINT32_MAX);
  errno = 0;
  EXPECT_EQ(hak_aligned_realloc(p, 4096, 900 * kMiB), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  errno = 0;
  void *shrunk = hak_aligned_realloc(p, 4096, 5 * kMiB);
  EXPECT_EQ(shrunk, p);
  EXPECT_EQ(errno, 0);
  hak_fault_clear();
  EXPECT_TRUE(Holds(p, 5 * kMiB, 9));
  hak_free(p);
}

TEST(AlignedCalloc, ClearsUsedMemory) {
  for (const size_t alignment : {size_t{1}, size_t{16}, size_t{64}, size_t{4096}, size_t{65536}}) {
    for (const size_t size : {size_t{0}, size_t{64}, size_t{3000}, size_t{20000}, size_t{200000}, 2 * kMiB}) {
      void *dirty = hak_aligned_alloc(alignment, size);
      memset(dirty, 0xA5, size);
      hak_free(dirty);
      void *p = hak_aligned_calloc(alignment, 4, size / 4);
      ASSERT_NE(p, nullptr);
      EXPECT_TRUE(IsAt(p, alignment));
      EXPECT_TRUE(Holds(p, size / 4 * 4, 0)) << alignment << ", " << size;
      hak_free_aligned_sized(p, alignment, size / 4 * 4);
    }
  }
}

}  // namespace
