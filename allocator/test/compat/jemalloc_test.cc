// SPDX-License-Identifier: Apache-2.0
//
// <hakmem/compat/jemalloc.h>: what jemalloc's manual says of each function, and what the header says where the manual
// leaves it open.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/compat/jemalloc.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <string.h>

#include <vector>

#include "allocator/test/probe.h"

namespace {

using hak_test::IsHardenedBuild;
using hak_test::Stats;

constexpr size_t kMost = PTRDIFF_MAX;

// Small, about the largest size class, and large.
constexpr size_t kSizes[] = {1,    2,     15,    16,    17,    100,    255,    1000,    2048,
                             4097, 20000, 32767, 32768, 32769, 100000, 524288, 3u << 20};

// OBSERVE and HARDENED: the real size of a block is the requested one.
bool IsExact() { return nallocx(100, 0) == 100; }

// The offset of the first byte that is not `value`; `end` if there is none.
size_t FirstOther(const void *block, size_t begin, size_t end, unsigned char value) {
  const unsigned char *const bytes = static_cast<const unsigned char *>(block);
  for (size_t i = begin; i < end; i++) {
    if (bytes[i] != value) return i;
  }
  return end;
}

// Leaves freed blocks of that size whose bytes are not zero.
void MakeDirty(size_t size, int flags) {
  std::vector<void *> blocks;
  for (int i = size < 65536 ? 4 : 1; i > 0; i--) {
    void *const block = mallocx(size, flags);
    if (block == nullptr) break;
    memset(block, 0xd7, sallocx(block, 0));
    blocks.push_back(block);
  }
  for (void *block : blocks) dallocx(block, flags);
}

TEST(Flags, HaveTheirValues) {
  static_assert(MALLOCX_LG_ALIGN(12) == 12, "the exponent");
  static_assert(MALLOCX_ALIGN(1) == 0 && MALLOCX_ALIGN(4096) == 12 && MALLOCX_ALIGN(uint64_t{1} << 63) == 63,
                "the same");
  static_assert(MALLOCX_ZERO == 0x40, "the bit above the exponent");
  static_assert(MALLOCX_TCACHE(0) == 0x200 && MALLOCX_TCACHE_NONE == 0x100, "bits 8 to 19");
  static_assert(MALLOCX_ARENA(0) == 0x100000 && MALLOCX_ARENA(7) == 0x800000, "bits 20 and up");
}

TEST(Mallocx, SizesAndAlignments) {
  const uint64_t live = Stats().live_blocks;
  for (int lg = 0; lg <= 22; lg++) {
    for (const size_t size : kSizes) {
      for (const int zero : {0, MALLOCX_ZERO}) {
        const int flags = MALLOCX_LG_ALIGN(lg) | zero;
        void *const block = mallocx(size, flags);
        ASSERT_NE(block, nullptr) << size << " " << lg;
        const size_t real = sallocx(block, flags);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % (size_t{1} << (lg < 4 ? 4 : lg)), 0U) << size << " " << lg;
        EXPECT_GE(nallocx(size, flags), size) << lg;
        EXPECT_GE(real, nallocx(size, flags)) << size << " " << lg;
        EXPECT_EQ(real, hak_usable_size(block));
        memset(block, 0x5a, real);
        // Each size that sdallocx accepts, and the free without one.
        switch ((size + static_cast<size_t>(lg)) % 4) {
          case 0:
            sdallocx(block, size, flags);
            break;
          case 1:
            sdallocx(block, nallocx(size, flags), flags);
            break;
          case 2:
            sdallocx(block, real, flags);
            break;
          default:
            dallocx(block, flags);
        }
      }
    }
  }
  EXPECT_EQ(Stats().live_blocks, live);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(Mallocx, ZeroIsTheWholeRealSize) {
  for (int lg = 0; lg <= 22; lg += 2) {
    for (const size_t size : kSizes) {
      const int flags = MALLOCX_LG_ALIGN(lg);
      MakeDirty(size, flags);
      void *const block = mallocx(size, flags | MALLOCX_ZERO);
      ASSERT_NE(block, nullptr);
      const size_t real = sallocx(block, 0);
      EXPECT_EQ(FirstOther(block, 0, real, 0), real) << size << " " << lg;
      sdallocx(block, size, flags);
    }
  }
}

TEST(Mallocx, ArenasAndThreadCachesChangeNoResult) {
  const int others = MALLOCX_ARENA(5) | MALLOCX_TCACHE_NONE;
  const uint64_t live = Stats().live_blocks;
  MakeDirty(1000, MALLOCX_ALIGN(256));
  void *const block = mallocx(1000, MALLOCX_ALIGN(256) | MALLOCX_ZERO | others);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 256, 0U);
  EXPECT_EQ(FirstOther(block, 0, 1000, 0), 1000U);
  EXPECT_EQ(nallocx(1000, others), nallocx(1000, 0));
  EXPECT_EQ(sallocx(block, others), sallocx(block, 0));
  EXPECT_EQ(xallocx(block, 1000, 0, others), sallocx(block, 0));
  void *const moved = rallocx(block, 50000, MALLOCX_ARENA(0) | MALLOCX_TCACHE(3));
  ASSERT_NE(moved, nullptr);
  EXPECT_EQ(FirstOther(moved, 0, 1000, 0), 1000U);
  sdallocx(moved, 50000, others);
  dallocx(mallocx(10, others), others);
  EXPECT_EQ(Stats().live_blocks, live);
}

// How many freed small blocks the thread's cache holds. HARDENED takes a block from the cache in any case, and counts
// the freed ones that it holds back.
void ExpectCached(uint64_t blocks, size_t size) {
  if (!IsHardenedBuild()) {
    EXPECT_EQ(Stats().cached_blocks, blocks) << size;
  }
}

TEST(Mallocx, WithoutAThreadCacheNothingIsCached) {
  for (const int zero : {0, MALLOCX_ZERO}) {
    for (const size_t size : {size_t{0}, size_t{1}, size_t{100}, size_t{1000}, size_t{20000}, size_t{32000}}) {
      MakeDirty(size, 0);
      hak_thread_flush();
      ExpectCached(0, size);
      const int flags = MALLOCX_TCACHE_NONE | MALLOCX_ARENA(3) | zero;
      void *const block = mallocx(size, flags);
      ASSERT_NE(block, nullptr) << size;
      ExpectCached(0, size);
      const size_t real = sallocx(block, flags);
      EXPECT_TRUE(zero == 0 || FirstOther(block, 0, real, 0) == real) << size;
      memset(block, 0x5a, real);
      dallocx(block, flags);
      ExpectCached(0, size);
      // A block that came from the cache may go round it too, and the other way about.
      void *const cached = mallocx(size, MALLOCX_TCACHE(0) | zero);
      ASSERT_NE(cached, nullptr) << size;
      const uint64_t before = Stats().cached_blocks;
      sdallocx(cached, size, flags);
      ExpectCached(before, size);
      dallocx(mallocx(size, flags), zero);
      ExpectCached(before + 1, size);
    }
  }
  // An alignment is obeyed all the same, and so is NULL.
  void *const aligned = mallocx(1000, MALLOCX_ALIGN(512) | MALLOCX_TCACHE_NONE);
  ASSERT_NE(aligned, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % 512, 0U);
  sdallocx(aligned, 1000, MALLOCX_ALIGN(512) | MALLOCX_TCACHE_NONE);
  dallocx(nullptr, MALLOCX_TCACHE_NONE);
  sdallocx(nullptr, 10, MALLOCX_TCACHE_NONE);
  errno = 0;
  EXPECT_EQ(mallocx(kMost + size_t{1}, MALLOCX_TCACHE_NONE), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(Mallocx, ASizeOfZeroCountsAsOne) {
  const uint64_t live = Stats().live_blocks;
  for (const int flags : {0, MALLOCX_ZERO, MALLOCX_LG_ALIGN(8), MALLOCX_LG_ALIGN(8) | MALLOCX_ZERO}) {
    void *const block = mallocx(0, flags);
    ASSERT_NE(block, nullptr);
    EXPECT_GE(sallocx(block, 0), 1U);
    memset(block, 7, 1);
    void *const same = rallocx(block, 0, flags);
    ASSERT_NE(same, nullptr);
    EXPECT_EQ(FirstOther(same, 0, 1, 7), 1U);
    EXPECT_EQ(nallocx(0, flags), nallocx(1, flags));
    EXPECT_GE(xallocx(same, 0, 0, 0), 1U);
    sdallocx(same, 0, flags);
  }
  EXPECT_EQ(Stats().live_blocks, live);
}

TEST(Mallocx, WhatCannotBeHad) {
  const uint64_t live = Stats().live_blocks;
  for (const size_t size : {kMost - 8192, kMost, kMost + 1, SIZE_MAX - 15, SIZE_MAX}) {
    for (const int flags : {0, MALLOCX_ZERO, MALLOCX_LG_ALIGN(12), MALLOCX_LG_ALIGN(22) | MALLOCX_ZERO}) {
      errno = 0;
      EXPECT_EQ(mallocx(size, flags), nullptr) << size << " " << flags;
      EXPECT_EQ(errno, ENOMEM) << size << " " << flags;
    }
  }
  for (const int lg : {61, 62, 63}) {
    errno = 0;
    EXPECT_EQ(mallocx(100, MALLOCX_LG_ALIGN(lg)), nullptr) << lg;
    EXPECT_EQ(errno, ENOMEM) << lg;
  }
  EXPECT_EQ(Stats().live_blocks, live);
}

// A chain of growing sizes: the bytes that the block had stay, and those that are new are zero.
TEST(Rallocx, ZeroIsWhatIsBeyondThePreviousRealSize) {
  for (const int lg : {0, 6, 12, 21}) {
    const int flags = MALLOCX_LG_ALIGN(lg);
    for (const size_t first : kSizes) {
      for (const size_t growth : {size_t{1}, size_t{17}, first, size_t{40000}}) {
        MakeDirty(first + growth, flags);
        void *block = mallocx(first, flags);
        ASSERT_NE(block, nullptr);
        const size_t before = sallocx(block, 0);
        memset(block, 0xa5, before);
        block = rallocx(block, before + growth, flags | MALLOCX_ZERO);
        ASSERT_NE(block, nullptr);
        const size_t real = sallocx(block, 0);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % (size_t{1} << lg), 0U);
        EXPECT_GE(real, before + growth);
        EXPECT_EQ(FirstOther(block, 0, before, 0xa5), before) << first << " " << growth << " " << lg;
        EXPECT_EQ(FirstOther(block, before, real, 0), real) << first << " " << growth << " " << lg;
        sdallocx(block, before + growth, flags);
      }
    }
  }
}

// A block whose every request had MALLOCX_ZERO is zero wherever it was not written, even if the sizes fall between the
// real sizes.
TEST(Rallocx, ZeroFromTheBeginningIsZeroToTheEnd) {
  for (size_t step = 1; step <= 4096; step = step * 2 + 1) {
    void *block = mallocx(1, MALLOCX_ZERO);
    for (size_t size = 1; size < 70000 && block != nullptr; size += step + size / 4) {
      MakeDirty(size, 0);
      block = rallocx(block, size, MALLOCX_ZERO);
      ASSERT_NE(block, nullptr);
      ASSERT_EQ(FirstOther(block, 0, sallocx(block, 0), 0), sallocx(block, 0)) << size << " " << step;
    }
    dallocx(block, 0);
  }
}

TEST(Rallocx, ShrinksAndKeepsTheBytes) {
  for (const int flags : {0, MALLOCX_ZERO, MALLOCX_LG_ALIGN(7) | MALLOCX_ZERO}) {
    for (const size_t size : {size_t{33}, size_t{1000}, size_t{40000}, size_t{3} << 20}) {
      void *block = mallocx(size, flags);
      ASSERT_NE(block, nullptr);
      memset(block, 0x3c, sallocx(block, 0));
      const size_t less = size / 2 + 1;
      block = rallocx(block, less, flags);
      ASSERT_NE(block, nullptr);
      EXPECT_GE(sallocx(block, 0), less);
      EXPECT_EQ(FirstOther(block, 0, less, 0x3c), less);
      sdallocx(block, less, flags);
    }
  }
}

TEST(Rallocx, GivesABlockItsAlignment) {
  for (int lg = 5; lg <= 22; lg++) {
    for (const size_t size : {size_t{40}, size_t{5000}, size_t{200000}}) {
      void *block = mallocx(size, 0);
      ASSERT_NE(block, nullptr);
      memset(block, 0x77, size);
      block = rallocx(block, size, MALLOCX_LG_ALIGN(lg));
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % (size_t{1} << lg), 0U);
      EXPECT_EQ(FirstOther(block, 0, size, 0x77), size);
      sdallocx(block, size, MALLOCX_LG_ALIGN(lg));
    }
  }
}

TEST(Rallocx, AFailureLeavesTheBlock) {
  for (const size_t size : {size_t{100}, size_t{20000}, size_t{300000}}) {
    void *const block = mallocx(size, 0);
    ASSERT_NE(block, nullptr);
    const size_t real = sallocx(block, 0);
    memset(block, 0x42, real);
    const uint64_t live = Stats().live_blocks;
    for (const size_t most : {kMost - 8192, kMost, kMost + 1, SIZE_MAX}) {
      for (const int flags : {0, MALLOCX_ZERO, MALLOCX_LG_ALIGN(20) | MALLOCX_ZERO}) {
        errno = 0;
        EXPECT_EQ(rallocx(block, most, flags), nullptr) << most << " " << flags;
        EXPECT_EQ(errno, ENOMEM);
        EXPECT_EQ(sallocx(block, 0), real);
        EXPECT_EQ(FirstOther(block, 0, real, 0x42), real);
      }
    }
    EXPECT_EQ(Stats().live_blocks, live);
    sdallocx(block, size, 0);
  }
}

TEST(Rallocx, OfNullAllocates) {
  MakeDirty(500, 0);
  void *const block = rallocx(nullptr, 500, MALLOCX_ZERO | MALLOCX_LG_ALIGN(6));
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(FirstOther(block, 0, sallocx(block, 0), 0), sallocx(block, 0));
  sdallocx(block, 500, MALLOCX_LG_ALIGN(6));
}

// Whatever is asked: the result is the real size, the bytes stay, and new ones are zero if that was asked.
TEST(Xallocx, ReturnsTheRealSize) {
  int shrunk = 0;
  int refused = 0;
  for (const size_t first : kSizes) {
    for (const size_t wanted : {first / 2 + 1, first, first + 1, first * 2, first + 100000}) {
      for (const size_t extra : {size_t{0}, size_t{1}, first, size_t{1} << 40, SIZE_MAX}) {
        for (const int zero : {0, MALLOCX_ZERO}) {
          if (zero != 0) MakeDirty(wanted, 0);
          void *const block = mallocx(first, 0);
          ASSERT_NE(block, nullptr);
          const size_t before = sallocx(block, 0);
          memset(block, 0x99, before);
          errno = 1234;
          const size_t after = xallocx(block, wanted, extra, zero);
          EXPECT_EQ(errno, 1234);
          EXPECT_EQ(after, sallocx(block, 0)) << first << " " << wanted << " " << extra;
          // Less than what was asked: unchanged. A block that is large enough stays so.
          EXPECT_TRUE(after >= wanted || (after == before && before < wanted))
              << first << " " << wanted << " " << extra << ": " << after;
          const size_t kept = before < after ? before : after;
          EXPECT_EQ(FirstOther(block, 0, kept, 0x99), kept) << first << " " << wanted << " " << extra;
          if (zero != 0) {
            EXPECT_EQ(FirstOther(block, kept, after, 0), after) << first << " " << wanted << " " << extra;
          }
          shrunk += after < before;
          refused += after < wanted;
          sdallocx(block, after < wanted ? first : after, 0);
        }
      }
    }
  }
  EXPECT_GT(shrunk, 0);
  EXPECT_GT(refused, 0);
}

// A large block gives up its end and takes it back.
TEST(Xallocx, GrowsIntoWhatItGaveUp) {
  const size_t full = size_t{4} << 20;
  void *const block = mallocx(full, 0);
  ASSERT_NE(block, nullptr);
  const size_t real = sallocx(block, 0);
  memset(block, 0x61, real);
  const size_t half = xallocx(block, full / 2, 0, 0);
  EXPECT_GE(half, full / 2);
  EXPECT_LT(half, full);
  const size_t again = xallocx(block, half + 1, full - half - 1, MALLOCX_ZERO);
  if (again > half) {
    EXPECT_GE(again, half + 1);
    EXPECT_EQ(FirstOther(block, 0, half, 0x61), half);
    EXPECT_EQ(FirstOther(block, half, again, 0), again);
  }
  // Guards and a mapping of its own may stand behind a block only in builds with guards.
  if (!IsExact()) {
    EXPECT_GE(again, full);
  }
  sdallocx(block, again > half ? again : half, 0);
}

// Between `size` and `size` + `extra` a block stays as it is: it does not give up what it has.
TEST(Xallocx, DoesNotShrinkABlockThatCannotGetTheExtra) {
  const size_t full = size_t{4} << 20;
  void *const block = mallocx(full, 0);
  ASSERT_NE(block, nullptr);
  const size_t real = sallocx(block, 0);
  EXPECT_EQ(xallocx(block, full / 4, size_t{1} << 45, 0), real);
  EXPECT_EQ(xallocx(block, full / 4, SIZE_MAX, 0), real);
  EXPECT_EQ(sallocx(block, 0), real);
  sdallocx(block, full, 0);
}

TEST(Xallocx, OfASmallBlockSaysHowMuchFits) {
  void *const block = mallocx(100, 0);
  ASSERT_NE(block, nullptr);
  const size_t real = sallocx(block, 0);
  EXPECT_EQ(xallocx(block, 5000, 0, 0), real);
  EXPECT_EQ(xallocx(block, SIZE_MAX, 0, 0), real);
  EXPECT_EQ(xallocx(block, real, 0, 0), real);
  sdallocx(block, 100, 0);
}

TEST(Nallocx, IsZeroForWhatOverflows) {
  for (const int lg : {0, 4, 12, 22}) {
    for (const size_t size : {kMost, kMost + 1, SIZE_MAX - 15, SIZE_MAX}) {
      EXPECT_EQ(nallocx(size, MALLOCX_LG_ALIGN(lg)), 0U) << size << " " << lg;
    }
  }
  EXPECT_EQ(nallocx(kMost - (size_t{1} << 22) + 1, MALLOCX_LG_ALIGN(22)), 0U);
  EXPECT_GE(nallocx(kMost - (size_t{1} << 24), MALLOCX_LG_ALIGN(22)), kMost - (size_t{1} << 24));
  EXPECT_EQ(nallocx(100, MALLOCX_LG_ALIGN(63)), 0U);
}

TEST(Nallocx, IsTheSizeOfItself) {
  for (size_t size = 1; size < size_t{8} << 20; size += size / 7 + 1) {
    const size_t real = nallocx(size, 0);
    EXPECT_GE(real, size);
    EXPECT_EQ(nallocx(real, 0), real) << size;
    EXPECT_GE(nallocx(size + 1, 0), real) << size;
  }
}

TEST(Dallocx, PreservesErrnoAndAcceptsNull) {
  void *const a = mallocx(100, 0);
  void *const b = mallocx(size_t{3} << 20, MALLOCX_LG_ALIGN(12));
  errno = 1234;
  dallocx(a, 0);
  sdallocx(b, size_t{3} << 20, MALLOCX_LG_ALIGN(12));
  dallocx(nullptr, 0);
  sdallocx(nullptr, 100, 0);
  sdallocx(nullptr, 100, MALLOCX_LG_ALIGN(12));
  EXPECT_EQ(sallocx(nullptr, 0), 0U);
  EXPECT_EQ(xallocx(nullptr, 100, 100, MALLOCX_ZERO), 0U);
  EXPECT_EQ(errno, 1234);
}

// Blocks pass to hakmem's own functions and back.
TEST(Blocks, AreHakmems) {
  void *block = mallocx(100, MALLOCX_ZERO);
  EXPECT_TRUE(hak_owns(block));
  block = hak_realloc(block, 5000);
  ASSERT_NE(block, nullptr);
  block = rallocx(block, 9000, 0);
  hak_free_sized(block, 9000);
  dallocx(hak_aligned_alloc(64, 100), 0);
}

// Only builds that check sizes can tell.
TEST(Sdallocx, PassesSizeAndAlignmentOn) {
  if (!IsExact()) {  // any size in the range is accepted
    void *const block = mallocx(100, 0);
    const uint64_t live = Stats().live_blocks;
    sdallocx(block, sallocx(block, 0), 0);
    EXPECT_EQ(Stats().live_blocks, live - 1);
    return;
  }
  EXPECT_DEATH(sdallocx(mallocx(100, 0), 101, 0), "hakmem: free with a wrong size");
  EXPECT_DEATH(sdallocx(mallocx(100, MALLOCX_LG_ALIGN(6)), 101, MALLOCX_LG_ALIGN(6)), "hakmem: free with a wrong size");
  EXPECT_DEATH(sdallocx(mallocx(100, 0), 100, MALLOCX_LG_ALIGN(62)), "hakmem: free with a wrong alignment");
}

}  // namespace
