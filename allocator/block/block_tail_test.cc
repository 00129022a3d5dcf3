// SPDX-License-Identifier: Apache-2.0
//
// The canary itself works in every profile; only OBSERVE and HARDENED use it.
#include "allocator/block/block_tail.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>

#include "allocator/block/poison.h"
#include "allocator/block/tiny_nextptr.h"
#include "allocator/os/unit_test.h"

namespace {

class BlockTail : public testing::Test {
 protected:
  BlockTail() { hak_nextptr_secret = 0x5EC2E75EC2E75EC2; }
  void Seal(size_t usable, size_t size, hak_kind kind = HAK_KIND_MALLOC) {
    memset(block_, 0x41, sizeof block_);
    hak_tail_seal(block_, usable, size, kind);
  }
  alignas(16) unsigned char block_[4096] = {};
};

#if HAK_GUARDED

constexpr size_t kWord = 8;
constexpr hak_kind kKinds[] = {HAK_KIND_MALLOC, HAK_KIND_NEW, HAK_KIND_NEW_ARRAY, HAK_KIND_ALIGNED_NEW,
                               HAK_KIND_ALIGNED_NEW_ARRAY};
static_assert(sizeof kKinds / sizeof kKinds[0] == HAK_KIND_COUNT);

size_t TailSize(const void *block, size_t usable) {
  hak_kind kind;
  return hak_tail_size(block, usable, &kind);
}

// Whether the byte is checked: the whole canary in OBSERVE, its first and last eight bytes in HARDENED; the word in
// both.
bool IsWatched(size_t usable, size_t size, size_t at) {
  return at - size < HAK_TAIL_WATCHED || at + 2 * kWord >= usable;
}

TEST_F(BlockTail, TellsTheSizeAndLeavesTheRequestAlone) {
  static_assert(HAK_TAIL_BYTES == kWord);
  for (const size_t usable : {size_t{15}, size_t{16}, size_t{31}, size_t{1039}, sizeof block_}) {
    for (size_t size = 0; size + kWord <= usable; size++) {
      const hak_kind sealed = kKinds[size % HAK_KIND_COUNT];
      Seal(usable, size, sealed);
      hak_kind kind;
      EXPECT_EQ(hak_tail_size(block_, usable, &kind), size);
      EXPECT_EQ(kind, sealed);
      for (size_t i = 0; i < size; i++) ASSERT_EQ(block_[i], 0x41);
      if (usable < sizeof block_) {
        ASSERT_EQ(block_[usable], 0x41);
      }
    }
  }
}

TEST_F(BlockTail, EachWatchedByteIsWatched) {
  constexpr size_t kUsable = 127;
  for (size_t size = 0; size + kWord <= kUsable; size++) {
    for (size_t at = size; at < kUsable; at++) {
      if (size % 16 != 0 && at != size && at + kWord != kUsable && at + kWord + 1 != kUsable) continue;
      Seal(kUsable, size, kKinds[at % HAK_KIND_COUNT]);
      block_[at] ^= 0x10;
      if (IsWatched(kUsable, size, at)) {
        HAK_EXPECT_FATAL(TailSize(block_, kUsable), "overflow", block_);
      } else {
        EXPECT_EQ(TailSize(block_, kUsable), size);
      }
    }
  }
}

// The bytes that overflows write most: the zero of a string, text, and bytes that differ in one bit.
TEST_F(BlockTail, OneChangedByteAnywhereIsFound) {
  constexpr size_t kUsable = 31;
  for (const size_t size : {size_t{0}, size_t{7}, size_t{22}, size_t{23}}) {
    for (size_t at = size; at < kUsable; at++) {
      for (const char character : {'\0', '\n', ' ', 'A', '\x7F'}) {
        const auto wrong = static_cast<unsigned char>(character);
        Seal(kUsable, size);
        if (block_[at] == wrong) continue;  // Not in the first byte: see the next tests.
        if (!IsWatched(kUsable, size, at)) continue;
        // Two bits of the kind, which the word has only once: see the next test.
        if (size == 23 && at == 28 && (block_[at] ^ wrong) < 4) continue;
        block_[at] = wrong;
        HAK_EXPECT_FATAL(TailSize(block_, kUsable), "overflow", block_);
      }
    }
  }
}

// All other values of each byte of the word. Without a canary a byte of zeros stands in place of the second copy of two
// bits of the kind; each other change is found.
TEST_F(BlockTail, NoChangedByteChangesTheKind) {
  constexpr size_t kUsable = 31;
  for (const size_t size : {size_t{10}, size_t{21}, size_t{22}, size_t{23}}) {
    for (const hak_kind sealed : kKinds) {
      for (size_t at = kUsable - kWord; at < kUsable; at++) {
        for (int change = 1; change < 256; change++) {
          Seal(kUsable, size, sealed);
          block_[at] ^= static_cast<unsigned char>(change);
          size_t read;
          hak_kind kind;
          const bool intact = hak_tail_read(block_, kUsable, &read, &kind);
          EXPECT_EQ(hak_tail_end_is_intact(block_, kUsable, HAK_POISON_WORD), intact) << size << " " << at;
          if (!intact) continue;
          EXPECT_TRUE(size == 23 && at == 28 && change < 4) << size << " " << sealed << " " << at << " " << change;
          EXPECT_TRUE(read == size && kind != sealed && kind < HAK_KIND_COUNT);
        }
      }
    }
  }
}

TEST_F(BlockTail, TheFirstByteIsNoCharacterOfText) {
  for (uint64_t secret = 1; secret < 1000; secret++) {
    hak_nextptr_secret = secret * 0x9E3779B97F4A7C15;
    for (const size_t size : {size_t{3}, size_t{23}}) {
      Seal(31, size, kKinds[secret % HAK_KIND_COUNT]);
      ASSERT_GE(block_[size], 0x80);
    }
  }
}

TEST_F(BlockTail, TheSecondByteEndsAString) {
  for (uint64_t secret = 1; secret < 200; secret++) {
    hak_nextptr_secret = secret * 0x9E3779B97F4A7C15;
    for (size_t size = 0; size + kWord <= 47; size++) {
      Seal(47, size, kKinds[(secret + size) % HAK_KIND_COUNT]);
      ASSERT_GE(block_[size], 0x80) << size;
      ASSERT_EQ(block_[size + 1], 0) << size;
      ASSERT_EQ(TailSize(block_, 47), size);
    }
  }
}

// The bytes that the block behind checks: the word, and up to eight bytes of the canary.
TEST_F(BlockTail, ItsEndIsSeenFromBehind) {
  constexpr uint64_t kUnused = HAK_POISON_WORD;
  for (const size_t usable : {size_t{15}, size_t{31}, size_t{127}}) {
    for (size_t size = 0; size + kWord <= usable; size++) {
      const hak_kind kind = kKinds[size % HAK_KIND_COUNT];
      Seal(usable, size, kind);
      EXPECT_TRUE(hak_tail_end_is_intact(block_, usable, kUnused)) << usable << " " << size;
      if (size > 0) {
        block_[size - 1] ^= 0x10;
        EXPECT_TRUE(hak_tail_end_is_intact(block_, usable, kUnused)) << "the request is not looked at";
      }
      for (size_t at = std::max(size, usable - std::min(usable, 2 * kWord)); at < usable; at++) {
        Seal(usable, size, kind);
        block_[at] ^= 0x10;
        EXPECT_FALSE(hak_tail_end_is_intact(block_, usable, kUnused)) << usable << " " << size << " " << at;
      }
    }
    memcpy(block_ + usable - kWord, &kUnused, kWord);
    EXPECT_TRUE(hak_tail_end_is_intact(block_, usable, kUnused));
  }
}

TEST_F(BlockTail, OfALargerBlockItCoversWhatLiesInFrontOfTheNext) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4095}}) EXPECT_EQ(hak_tail_bytes(size), kWord);
  for (const size_t size : {size_t{4096}, size_t{30000}}) EXPECT_EQ(hak_tail_bytes(size) + 1, size_t{16});
}

TEST_F(BlockTail, DependsOnSecretAndAddress) {
  const auto tail_at = [](unsigned char *block) {
    hak_tail_seal(block, 32, 24, HAK_KIND_NEW);
    uint64_t word;
    memcpy(&word, block + 24, sizeof word);
    return word;
  };
  const uint64_t here = tail_at(block_);
  EXPECT_NE(tail_at(block_ + 64), here);
  hak_nextptr_secret ^= 1;
  EXPECT_NE(tail_at(block_), here);
}

TEST_F(BlockTail, ATailOfAnotherBlockIsNoTail) {
  Seal(32, 24);
  memcpy(block_ + 64, block_, 32);
  HAK_EXPECT_FATAL(TailSize(block_ + 64, 32), "overflow", block_ + 64);
}

#else

TEST_F(BlockTail, TakesNothing) { EXPECT_EQ(HAK_TAIL_BYTES, 0u); }

#endif

TEST_F(BlockTail, PatternIsFoundUnlessOneByteDiffers) {
  hak_tail_fill(block_, block_ + 100, 50);
  EXPECT_TRUE(hak_tail_is_intact(block_, block_ + 100, 50));
  EXPECT_TRUE(hak_tail_is_intact(block_, block_ + 100, 0));
  for (size_t at = 100; at < 150; at++) {
    block_[at] ^= 1;
    EXPECT_FALSE(hak_tail_is_intact(block_, block_ + 100, 50));
    block_[at] ^= 1;
  }
  EXPECT_FALSE(hak_tail_is_intact(block_, block_ + 100, 51));
}

TEST_F(BlockTail, BehindABlockAStringEndsAndBeforeItNoByteIsZero) {
  for (size_t bytes = 0; bytes < 20; bytes++) {
    hak_tail_fill(block_, block_ + 100, bytes);
    EXPECT_TRUE(hak_tail_is_intact(block_, block_ + 100, bytes));
    if (bytes > 0) {
      EXPECT_GE(block_[100], 0x80);
    }
    if (bytes > 1) {
      EXPECT_EQ(block_[101], 0);
    }
    hak_tail_fill_front(block_, block_ + 200, bytes);
    EXPECT_TRUE(hak_tail_front_is_intact(block_, block_ + 200, bytes));
    for (size_t i = 0; i < bytes; i++) EXPECT_GE(block_[200 + i], 0x80);
  }
}

}  // namespace
