// SPDX-License-Identifier: Apache-2.0
//
// hak_owns at every kind of address: blocks of all sizes and what lies in them, freed blocks, the allocator's records,
// memory of others, and addresses where nothing is mapped.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/test_random.h"

namespace {

using hak_test::Random;

constexpr size_t kSmallMax = size_t{32} << 10;
constexpr uintptr_t kSlab = uintptr_t{64} << 10;
constexpr uintptr_t kSuperslab = uintptr_t{2} << 20;
// No part of the head of a superslab is a block. In HARDENED a guard page follows the records.
constexpr uintptr_t kHead = 6400;

const void *At(uintptr_t address) { return reinterpret_cast<const void *>(address); }
uintptr_t AddressOf(const volatile void *p) { return reinterpret_cast<uintptr_t>(p); }

// The bytes at which hak_owns wrongly sees a block, in the block at `p`.
std::string BlocksWithin(const void *p, size_t usable) {
  std::string found;
  const size_t step = usable <= kSmallMax ? 1 : 61;
  for (size_t at = 1; at < usable && found.size() < 100; at += step) {
    if (hak_owns(At(AddressOf(p) + at))) found += " " + std::to_string(at);
  }
  return found;
}

TEST(Owns, TheStartOfEachBlockAndNothingInIt) {
  std::vector<void *> blocks;
  for (size_t size = 0; size <= size_t{4} << 20; size += size < 600 ? 1 : size / 7) {
    void *p = hak_malloc(size);
    ASSERT_NE(p, nullptr);
    blocks.push_back(p);
    EXPECT_TRUE(hak_owns(p)) << size;
    EXPECT_EQ(BlocksWithin(p, hak_usable_size(p)), "") << size;
  }
  for (size_t alignment = 1; alignment <= size_t{4} << 20; alignment *= 2) {
    for (const size_t size : {size_t{1}, size_t{200}, size_t{50000}}) {
      void *p = hak_aligned_alloc(alignment, size);
      ASSERT_NE(p, nullptr);
      blocks.push_back(p);
      EXPECT_TRUE(hak_owns(p)) << alignment;
      EXPECT_EQ(BlocksWithin(p, hak_usable_size(p)), "") << alignment;
    }
  }
  for (void *p : blocks) EXPECT_TRUE(hak_owns(p));
  for (void *p : blocks) hak_free(p);
}

// Blocks of other threads, and those of ended ones.
TEST(Owns, BlocksOfOtherThreads) {
  std::vector<void *> blocks;
  std::thread([&] {
    for (const size_t size : {size_t{0}, size_t{1}, size_t{100}, size_t{5000}, size_t{40000}, size_t{3000000}})
      blocks.push_back(hak_malloc(size));
  }).join();
  for (void *p : blocks) {
    EXPECT_TRUE(hak_owns(p));
    hak_free(p);
  }
}

// On a thread that has just begun to allocate, and with little free memory, so that its cache keeps the block.
TEST(Owns, ALargeBlockUntilItIsFreed) {
  hak_trim(0);
  for (const size_t size : {kSmallMax + 1, size_t{100000}, size_t{900000}, size_t{1} << 20, size_t{5} << 20}) {
    std::thread([size] {
      void *small = hak_malloc(1);
      void *p = hak_malloc(size);
      const uintptr_t address = AddressOf(p);
      EXPECT_TRUE(hak_owns(p));
      hak_free(p);
      EXPECT_FALSE(hak_owns(At(address))) << "cached by the thread, " << size;
      hak_thread_flush();
      EXPECT_FALSE(hak_owns(At(address))) << "free pages, " << size;
      hak_free(small);
    }).join();
  }
}

// A block that moves is at its new address only.
TEST(Owns, ALargeBlockThatMoves) {
  void *p = hak_malloc(size_t{2} << 20);
  void *wall = hak_malloc(size_t{2} << 20);
  const uintptr_t before = AddressOf(p);
  p = hak_realloc(p, size_t{64} << 20);
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(hak_owns(p));
  EXPECT_EQ(hak_owns(At(before)), AddressOf(p) == before);
  hak_free(p);
  hak_free(wall);
}

TEST(Owns, ABlockOfSizeZeroThatIsFreed) {
  if (!hak_test::IsHardenedBuild()) return;  // elsewhere it is a small block as any other
  void *p = hak_malloc(0);
  const uintptr_t address = AddressOf(p);
  EXPECT_TRUE(hak_owns(p));
  EXPECT_FALSE(hak_owns(At(address + 1)));
  hak_free(p);
  EXPECT_FALSE(hak_owns(At(address)));
}

// Every address of the 64 KiB around small blocks is one of a block, or not; none of the records in front of the first
// block is, and no two blocks overlap.
TEST(Owns, PlacesInSlabsDoNotOverlap) {
  std::vector<void *> blocks;
  for (const size_t size :
       {size_t{1}, size_t{40}, size_t{100}, size_t{500}, size_t{3000}, size_t{9000}, size_t{20000}}) {
    for (int i = 0; i < 40; ++i) blocks.push_back(hak_malloc(size));
  }
  size_t heads = 0;
  for (void *p : blocks) {
    const uintptr_t slab = AddressOf(p) & ~(kSlab - 1);
    const size_t usable = hak_usable_size(p);
    uintptr_t last = 0;
    for (uintptr_t at = slab; at < slab + kSlab; at += 8) {
      if (!hak_owns(At(at))) continue;
      EXPECT_EQ(at % 16, 0U);
      EXPECT_TRUE(last == 0 || at - last >= usable);
      last = at;
    }
    EXPECT_GE(last, AddressOf(p));
    if (slab % kSuperslab != 0) continue;
    ++heads;
    for (uintptr_t at = slab; at < slab + kHead; ++at) ASSERT_FALSE(hak_owns(At(at))) << at - slab;
  }
  EXPECT_NE(heads, 0U) << "no block lay in a superslab's first slab, so its head was not tested";
  for (void *p : blocks) hak_free(p);
}

TEST(Owns, MemoryOfOthers) {
  static int variable;
  int local = 0;
  EXPECT_FALSE(hak_owns(nullptr));
  EXPECT_FALSE(hak_owns(&variable));
  EXPECT_FALSE(hak_owns(&local));
  EXPECT_FALSE(hak_owns("text"));
  EXPECT_FALSE(hak_owns(reinterpret_cast<const void *>(reinterpret_cast<uintptr_t>(&hak_malloc))));
  for (const size_t size : {size_t{16}, size_t{1000}, size_t{100000}, size_t{3000000}}) {
    void *other = malloc(size);  // not hakmem's in this program
    EXPECT_FALSE(hak_owns(other));
    free(other);
  }
  // Beside blocks of hakmem, and at multiples of every alignment that it uses.
  void *large = hak_malloc(size_t{3} << 20);
  constexpr size_t kBytes = size_t{8} << 20;
  void *pages = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  for (uintptr_t at = 0; at < kBytes; at += 4096 - 16) EXPECT_FALSE(hak_owns(At(AddressOf(pages) + at)));
  munmap(pages, kBytes);
  for (uintptr_t at = 0; at < kBytes; at += 4096) EXPECT_FALSE(hak_owns(At(AddressOf(pages) + at)));
  hak_free(large);
}

// All of the address space, whether anything is mapped there or not, and beyond it.
TEST(Owns, AnyAddress) {
  std::vector<void *> blocks;
  for (const size_t size : {size_t{1}, size_t{30000}, size_t{50000}, size_t{3000000}})
    blocks.push_back(hak_malloc(size));
  size_t seen = 0;
  const auto look = [&](uintptr_t address) {
    bool known = false;
    for (void *p : blocks) known |= AddressOf(p) == address;
    if (known) {
      EXPECT_TRUE(hak_owns(At(address)));
    } else {
      seen += hak_owns(At(address));
    }
  };
  for (unsigned bit = 0; bit < 64; ++bit) {
    for (const uintptr_t base : {uintptr_t{0}, AddressOf(blocks[0]), AddressOf(blocks[3])}) {
      for (uintptr_t add = 0; add < 3; ++add) look((base ^ uintptr_t{1} << bit) + add - 1);
    }
  }
  EXPECT_LE(seen, 24U) << "more than the neighbours of a small block in its slab and its superslab";
  seen = 0;
  Random random(hak_test::TestSeed(0x05eed));
  for (int i = 0; i < 200000; ++i) look(random.Next() >> random.Index(48));
  EXPECT_LE(seen, 2U) << "random addresses hit a slab more often than chance allows";
  for (uintptr_t address = 0; address < uintptr_t{1} << 48; address += uintptr_t{1} << 32) look(address);
  look(UINTPTR_MAX);
  for (void *p : blocks) hak_free(p);
}

// While others map and unmap what is looked at.
TEST(Owns, WhileOthersAllocateAndFree) {
  std::atomic<unsigned> ended{0};
  std::atomic<uintptr_t> seen[8] = {};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      Random random(hak_test::TestSeed(0x0a11) + t);
      for (int round = 0; round < (hak_test::kSlowBuild ? 100 : 1000); ++round) {
        void *blocks[64];
        for (void *&p : blocks) {
          p = hak_malloc(random.Index(4) == 0 ? random.Index(3000000) : random.Index(40000));
          seen[random.Index(8)].store(AddressOf(p), std::memory_order_relaxed);
        }
        for (void *p : blocks) hak_free(p);
        if (random.Index(8) == 0) hak_trim(0);
      }
      ended.fetch_add(1, std::memory_order_relaxed);
    });
  }
  Random random(hak_test::TestSeed(0x1ee));
  void *mine = hak_malloc(777);
  void *large = hak_malloc(777777);
  for (int i = 0; ended.load(std::memory_order_relaxed) < threads.size(); ++i) {
    (void)hak_owns(At(seen[random.Index(8)].load(std::memory_order_relaxed)));
    if (i % 16 != 0) continue;
    ASSERT_TRUE(hak_owns(mine));
    ASSERT_TRUE(hak_owns(large));
    ASSERT_FALSE(hak_owns(At(AddressOf(large) + 4096)));
  }
  for (std::thread &thread : threads) thread.join();
  hak_free(mine);
  hak_free(large);
}

}  // namespace
