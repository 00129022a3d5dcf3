// SPDX-License-Identifier: Apache-2.0
#include "allocator/slab/slab_pool.h"

#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/slab/slab_release.h"
#include "allocator/slab/superslab_records.h"
#include "allocator/slab/unit_test.h"
#include "allocator/test/kernel_support.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::GiveAll;
using hak_unit::IsMapped;
using hak_unit::IsZero;
using hak_unit::kHour;
using hak_unit::kSmall;
using hak_unit::Pool;
using hak_unit::Random;
using hak_unit::SomeOwner;
using hak_unit::TakeManyUsed;
using hak_unit::TakeUsed;

// Whether slab 0 holds fewer blocks of the class than other slabs do.
bool IsShortInSlab0(uint32_t class_id) {
  const size_t room = HAK_SLAB_ROOM - HAK_HEADER_BYTES;
  const size_t stride = hak_class_stride(class_id);
  return room / stride != (room - HAK_SUPERSLAB_HEAD) / stride;
}

// The class of the largest blocks that are never in slab 0.
uint32_t FindBig() {
  uint32_t class_id = HAK_CLASS_COUNT - 1;
  while (!IsShortInSlab0(class_id)) class_id--;
  return class_id;
}
const uint32_t kBig = FindBig();

// The free slabs of every superslab, as bits, found by visiting all slabs.
using FreeSlabs = std::map<hak_superslab *, uint32_t>;
FreeSlabs LookAtFreeSlabs() {
  FreeSlabs found;
  hak_pool_visit(
      [](hak_slab *slab, void *context) {
        hak_superslab *superslab = hak_superslab_of_slab(slab);
        const uint32_t index = static_cast<uint32_t>(slab - superslab->slabs);
        uint32_t &mask = (*static_cast<FreeSlabs *>(context))[superslab];
        if (slab->class_id == HAK_CLASS_NONE) mask |= 1u << index;
        return true;
      },
      &found);
  return found;
}

// A child that was created without fork handlers may inherit lists that a thread which does not exist there was
// changing: the superslabs are lost, and slabs in use can be given back.
TEST_F(Pool, StartsAnewWhereTheLocksHolderDoesNotExist) {
  std::vector<hak_slab *> slabs = TakeManyUsed(200);
  std::vector<hak_slab *> given;
  for (size_t i = 0; i < slabs.size(); i += 2) given.push_back(slabs[i]);
  GiveAll(given);
  const int result = hak_unit::ResultInChild([&slabs] {
    for (const hak_slab *slab : slabs) {
      hak_superslab *ss = hak_superslab_of_slab(slab);
      ss->next = ss->prev = ss->purge_next = ss->purge_prev = reinterpret_cast<hak_superslab *>(8);
    }
    hak_unit::LoseHolder(&hak_pool_mutex);
    std::vector<hak_slab *> more = TakeManyUsed(100);
    for (hak_slab *slab : more) {
      if (slab == nullptr || std::count(slabs.begin(), slabs.end(), slab) != 0) return 1;
    }
    if (hak_pool_verify() != nullptr || hak_pool_totals().slabs_used != 100) return 2;
    for (size_t i = 1; i < slabs.size(); i += 2) hak_pool_give(slabs[i]);
    if (hak_pool_verify() != nullptr || hak_pool_totals().slabs_used != 100) return 3;
    GiveAll(more);
    hak_pool_trim(0);
    return hak_pool_verify() == nullptr && hak_pool_totals().superslabs == 0 ? 0 : 4;
  });
  EXPECT_EQ(result, 0);
  for (size_t i = 1; i < slabs.size(); i += 2) hak_pool_give(slabs[i]);
}

// The free memory of a prewarmed superslab is returned while neighbouring slabs are in use; their memory stays.
TEST_F(Pool, PrewarmedMemoryGoesBackAroundWhatIsInUse) {
  hak_pool_prewarm(2);
  if (!hak_test::FillsOnDemand()) GTEST_SKIP() << "this kernel does not fill memory on demand";
  EXPECT_GT(hak_pool_totals().slabs_free_dirty, 0u);
  for (const uint32_t class_id : {kSmall, kBig}) {
    hak_slab *slab = hak_pool_take(class_id, SomeOwner(), true);
    ASSERT_NE(slab, nullptr);
    const uint32_t capacity = slab->capacity;
    std::vector<void *> blocks(capacity);
    ASSERT_EQ(hak_slab_carve(slab, blocks.data(), capacity), capacity);
    for (void *block : blocks) memset(block, 0xEE, hak_class_usable(class_id));
    EXPECT_GT(hak_pool_trim(0), size_t{0});
    for (void *block : blocks) {
      const auto *bytes = static_cast<unsigned char *>(block);
      for (size_t i = 0; i < hak_class_usable(class_id); i++) ASSERT_EQ(bytes[i], 0xEE) << class_id;
    }
    hak_pool_give(slab);
    hak_pool_prewarm(1);
  }
}

TEST_F(Pool, ASlabComesFormattedOwnedAndOnTheMap) {
  hak_slab *slab = hak_pool_take(kSmall, SomeOwner(), true);
  ASSERT_NE(slab, nullptr);
  EXPECT_EQ(slab->class_id, kSmall);
  EXPECT_EQ(slab->stride, hak_class_stride(kSmall));
  EXPECT_EQ(atomic_load_explicit(&slab->owner, memory_order_relaxed), SomeOwner());
  for (const char *inside : {hak_slab_begin(slab), hak_slab_end(slab) - 1}) {
    EXPECT_EQ(hak_slab_map_find(inside), kSmall);
  }
  EXPECT_EQ(hak_pool_totals().slabs_used, 1u);
  hak_pool_give(slab);
  EXPECT_EQ(hak_slab_map_find(hak_slab_begin(slab)), HAK_CLASS_NONE);
  EXPECT_EQ(hak_pool_totals().slabs_used, 0u);
}

// A large stride that fits into slab 0 as often as into another slab uses it; one that would lose a block does not.
TEST_F(Pool, Slab0ServesLargeStridesThatLoseNoBlock) {
  int served = 0;
  int spared = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    if (hak_class_stride(class_id) <= 4096) continue;
    std::vector<hak_slab *> slabs = TakeManyUsed(HAK_SLABS_PER_SUPERSLAB, class_id);
    bool is_used = false;
    for (const hak_slab *slab : slabs) {
      ASSERT_NE(slab, nullptr);
      EXPECT_EQ(slab->capacity, (HAK_SLAB_ROOM - HAK_HEADER_BYTES) / hak_class_stride(class_id)) << class_id;
      is_used = is_used || slab->index == 0;
    }
    EXPECT_EQ(is_used, !IsShortInSlab0(class_id)) << class_id;
    (is_used ? served : spared)++;
    GiveAll(slabs);
    hak_pool_trim(0);
  }
  EXPECT_GT(served, 4);
  EXPECT_GT(spared, 4);
}

TEST_F(Pool, TotalsCountWhatIsThere) {
  hak_slab *slab = TakeUsed(kSmall);
  ASSERT_NE(slab, nullptr);
  std::vector<void *> out(10);
  ASSERT_EQ(hak_slab_carve(slab, out.data(), 10), 10u);
  ASSERT_TRUE(hak_slab_put(slab, hak_slab_block_index(slab, out[3])));
  const struct hak_pool_totals totals = hak_pool_totals();
  EXPECT_EQ(totals.slabs_used, 1u);
  EXPECT_EQ(totals.slabs_free, totals.superslabs * 32 - 1);
  EXPECT_EQ(totals.slabs_free_dirty, 0u);
  EXPECT_EQ(totals.tiny_blocks, 10u);
  EXPECT_EQ(totals.tiny_bytes, 10 * hak_class_usable(kSmall));
  EXPECT_EQ(totals.remote_blocks, 0u);
  hak_pool_give(slab);
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 1u);
}

TEST_F(Pool, LargeStridesStayOutOfTheShortSlab) {
  std::vector<hak_slab *> slabs = TakeManyUsed(100, kBig);
  for (hak_slab *slab : slabs) {
    ASSERT_NE(slab, nullptr);
    EXPECT_NE(slab->index, 0);
  }
  // Small strides fill the gaps first.
  const uint64_t superslabs = hak_pool_totals().superslabs;
  std::vector<hak_slab *> small = TakeManyUsed(4);
  for (hak_slab *slab : small) {
    if (superslabs * 32 - 100 >= 4) {
      EXPECT_EQ(hak_pool_totals().superslabs, superslabs);
    }
    ASSERT_NE(slab, nullptr);
  }
  GiveAll(small);
  GiveAll(slabs);
}

// Random calls against a model: nothing overlaps, contents stay, memory that is called zero is zero, slabs are taken
// from the fullest superslab that has one, and no superslab is mapped while a present one has a suitable slab.
TEST_F(Pool, RandomCallsAgreeWithAModel) {
  Random random(5);
  std::vector<hak_slab *> slabs;
  std::map<uintptr_t, unsigned char> granules;  // in use, and the byte that fills them
  unsigned char next_fill = 1;
  const auto claim = [&](char *start, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
      const bool is_new = granules.emplace(reinterpret_cast<uintptr_t>(start) / HAK_SLAB_SIZE + i, next_fill).second;
      EXPECT_TRUE(is_new) << "handed out twice";
      char *granule = start + i * HAK_SLAB_SIZE;
      granule[0] = granule[HAK_SLAB_ROOM - 1] = static_cast<char>(next_fill);
      next_fill = static_cast<unsigned char>(next_fill % 255 + 1);
    }
  };
  const auto disclaim = [&](char *start, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
      const auto at = granules.find(reinterpret_cast<uintptr_t>(start) / HAK_SLAB_SIZE + i);
      ASSERT_NE(at, granules.end());
      const unsigned char *granule = reinterpret_cast<unsigned char *>(start) + i * HAK_SLAB_SIZE;
      EXPECT_EQ(granule[0], at->second);
      EXPECT_EQ(granule[HAK_SLAB_ROOM - 1], at->second);
      granules.erase(at);
    }
  };
  // The whole granule of a small block's slab may be used, except the head in slab 0; the model uses slabs 1 and up.
  for (int op = 0; op < hak_unit::Operations(3000); op++) {
    if (random.OneIn(50)) hak_config.decommit_deadline_ms = random.OneIn(2) ? 0 : kHour;
    if (random.OneIn(50)) hak_config.keep_superslabs = random.Below(4);
    const bool grow = slabs.size() < (op / 300 % 2 == 0 ? 300 : 30);
    switch (random.Below(5)) {
      case 0:
      case 1:
        if (grow) {
          const uint32_t class_id = 1 + random.Below(HAK_CLASS_COUNT - 1);
          const bool needs_whole = hak_class_stride(class_id) > 4096 && IsShortInSlab0(class_id);
          const FreeSlabs before = LookAtFreeSlabs();
          int fewest = 100;
          for (const auto &[superslab, mask] : before) {
            if ((needs_whole ? mask & ~1u : mask) != 0) fewest = std::min(fewest, __builtin_popcount(mask >> 1));
          }
          hak_slab *slab = hak_pool_take(class_id, SomeOwner(), true);
          ASSERT_NE(slab, nullptr);
          const auto at = before.find(hak_superslab_of_slab(slab));
          if (fewest == 100) {
            ASSERT_EQ(at, before.end());
          } else {
            ASSERT_NE(at, before.end()) << "mapped a superslab without need";
            ASSERT_EQ(__builtin_popcount(at->second >> 1), fewest) << "not the fullest";
            ASSERT_NE(at->second & (1u << slab->index), 0u);
          }
          if (slab->zeroed) {
            ASSERT_TRUE(IsZero(hak_slab_begin(slab), static_cast<size_t>(hak_slab_end(slab) - hak_slab_begin(slab))));
          }
          // Some slabs are given back unused.
          if (slab->index != 0 && !random.OneIn(4)) {
            void *block;
            ASSERT_EQ(hak_slab_carve(slab, &block, 1), 1u);
            claim(hak_slab_begin(slab), 1);
          }
          slabs.push_back(slab);
        }
        break;
      case 2:
      case 3:
        if (!slabs.empty()) {
          const size_t at = random.Below(slabs.size());
          if (hak_slab_carved(slabs[at]) != 0) disclaim(hak_slab_begin(slabs[at]), 1);
          hak_pool_give(slabs[at]);
          slabs[at] = slabs.back();
          slabs.pop_back();
        }
        break;
      default:
        if (random.OneIn(20)) {
          hak_pool_trim(random.OneIn(2) ? 0 : random.Below(20) * HAK_SLAB_SIZE);
        } else {
          hak_pool_tick(hak_os_now_ms());
        }
    }
    const char *fault = hak_pool_verify();
    ASSERT_EQ(fault, nullptr) << fault << " after " << op;
    ASSERT_EQ(hak_pool_totals().slabs_used, slabs.size());
  }
  for (hak_slab *slab : slabs) hak_pool_give(slab);
}

TEST_F(Pool, ADeadlineOfZeroReturnsEverythingAtOnce) {
  const uint64_t mapped = hak_os_totals().mapped;
  const uint64_t superslabs = hak_pool_totals().superslabs;
  hak_config.decommit_deadline_ms = 0;
  std::vector<hak_slab *> slabs = TakeManyUsed(32 * 3);
  EXPECT_GE(hak_pool_totals().superslabs, 3u);
  for (hak_slab *slab : slabs) {
    const char *begin = hak_slab_begin(slab);
    hak_pool_give(slab);
    ASSERT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
    // Slab 0 shares a page with the head.
    if (IsMapped(begin, 1) && reinterpret_cast<uintptr_t>(begin) % hak_os_page_size() == 0) {
      // One page is the zero page.
      ASSERT_LE(hak_unit::ResidentPages(begin, static_cast<size_t>(hak_slab_end(slab) - begin)), 1u);
    }
  }
  EXPECT_LE(hak_pool_totals().superslabs, superslabs);
  EXPECT_LE(hak_os_totals().mapped, mapped);
}

TEST_F(Pool, SomeEmptySuperslabsStayMappedWithoutMemory) {
  hak_config.decommit_deadline_ms = 0;
  hak_config.keep_superslabs = 2;
  std::vector<hak_slab *> slabs = TakeManyUsed(32 * 6);
  GiveAll(slabs);
  EXPECT_EQ(hak_pool_totals().superslabs, 2u);
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
}

TEST_F(Pool, MemoryStaysUntilTheDeadlineAndThenGoesASliceAtATime) {
  // So far away that the machine cannot stop the test for that long; the time is given to the tick.
  hak_config.decommit_deadline_ms = kHour;
  std::vector<hak_slab *> slabs = TakeManyUsed(32 * 5);
  const uint64_t before = hak_os_now_ms();
  GiveAll(slabs);
  const uint64_t after = hak_os_now_ms();
  const uint64_t dirty = hak_pool_totals().slabs_free_dirty;
  EXPECT_EQ(dirty, 32u * 5);
  EXPECT_FALSE(hak_pool_tick(before + kHour - 1));
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, dirty) << "before the deadline";
  for (uint64_t left = dirty; left > 0;) {
    EXPECT_TRUE(hak_pool_tick(after + kHour));
    const uint64_t now = hak_pool_totals().slabs_free_dirty;
    ASSERT_LT(now, left);
    ASSERT_LE(left - now, 32u) << "more than one superslab in a call";
    left = now;
  }
}

// Before a large block grows the heap, free slabs whose memory is due go back, no more than are asked for.
TEST_F(Pool, MakesWayWithMemoryThatIsDue) {
  hak_config.decommit_deadline_ms = kHour;
  std::vector<hak_slab *> slabs = TakeManyUsed(32 * 5);
  GiveAll(slabs);
  const uint64_t dirty = hak_pool_totals().slabs_free_dirty;
  EXPECT_EQ(hak_pool_make_way(HAK_SUPERSLAB_SIZE), 0u);
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, dirty) << "before the deadline";
  hak_config.decommit_deadline_ms = 1;
  // The clock moves at the kernel's ticks, which may be late.
  for (const uint64_t given = hak_os_now_ms(); hak_os_now_ms() <= given;) usleep(1000);
  EXPECT_GT(hak_pool_make_way(1), 0u);
  const uint64_t now = hak_pool_totals().slabs_free_dirty;
  EXPECT_LT(now, dirty);
  EXPECT_GE(now, dirty - 32) << "more than one superslab";
}

TEST_F(Pool, TrimReturnsEverythingAboveWhatItMayKeep) {
  std::vector<hak_slab *> slabs = TakeManyUsed(32 * 4);
  std::vector<hak_slab *> half(slabs.begin() + 64, slabs.end());
  slabs.resize(64);
  GiveAll(half);
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 64u);
  EXPECT_EQ(hak_pool_trim(SIZE_MAX), 0u);
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 64u);
  const size_t keep = 40 * HAK_SLAB_SIZE;
  const size_t bytes = hak_pool_trim(keep);
  const uint64_t left = hak_pool_totals().slabs_free_dirty;
  EXPECT_LE(left * HAK_SLAB_SIZE, keep);
  EXPECT_EQ(bytes, (64 - left) * HAK_SLAB_SIZE);
  EXPECT_STREQ(hak_pool_verify(), nullptr);
  EXPECT_NE(left, 0u);
  EXPECT_EQ(hak_pool_trim(left * HAK_SLAB_SIZE), 0u) << "to the byte what may stay";
  EXPECT_EQ(hak_pool_trim(0), left * HAK_SLAB_SIZE);
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
  EXPECT_EQ(hak_pool_trim(0), 0u);
  GiveAll(slabs);
}

// Slab 0 shares its first page with the superslab's head, so the kernel cannot clear that page.
TEST_F(Pool, WhatWasGivenBackReadsAsZeroInTheShortSlabToo) {
  std::vector<hak_slab *> slabs = TakeManyUsed(2);
  hak_slab *const first = slabs[0];
  ASSERT_EQ(first->index, 0u);
  const size_t bytes = static_cast<size_t>(hak_slab_end(first) - hak_slab_begin(first));
  memset(hak_slab_begin(first), 0xEE, bytes);
  hak_pool_give(first);
  EXPECT_EQ(hak_pool_trim(0), (bytes + HAK_SLAB_GUARD) / hak_os_page_size() * hak_os_page_size());
  EXPECT_TRUE(IsZero(hak_slab_begin(first), bytes));
  hak_pool_give(slabs[1]);
}

TEST_F(Pool, ASlabThatGetsNoBitmapIsFreeAgain) {
  constexpr int kSlabs = 32 * 40;
  hak_config.decommit_deadline_ms = 0;
  hak_config.keep_superslabs = 64;
  GiveAll(TakeManyUsed(kSlabs, kBig));
  ASSERT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
  hak_config.decommit_deadline_ms = kHour;
  const uint64_t all = hak_pool_totals().slabs_free;
  std::vector<hak_slab *> slabs;
  {
    // Bitmaps of the smallest class are records. Some records exist already, but not that many.
    const FaultPlan plan(HAK_FAULT_MAP);
    while (hak_slab *slab = hak_pool_take(1, SomeOwner(), true)) slabs.push_back(slab);
  }
  EXPECT_LT(slabs.size(), all);
  EXPECT_STREQ(hak_pool_verify(), nullptr);
  EXPECT_EQ(hak_pool_totals().slabs_used, slabs.size());
  EXPECT_EQ(hak_pool_totals().slabs_free, all - slabs.size());
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 0u) << "nobody touched the slab";
  GiveAll(slabs);
}

TEST_F(Pool, ADecommitThatFailsIsTriedAgain) {
  hak_config.decommit_deadline_ms = 0;
  std::vector<hak_slab *> slabs = TakeManyUsed(4);
  char *block = hak_slab_start(slabs[1]);
  hak_slab *const returned = slabs[1];
  slabs.erase(slabs.begin() + 1);
  {
    const FaultPlan plan(HAK_FAULT_DECOMMIT | HAK_FAULT_UNMAP);
    hak_pool_give(returned);
    EXPECT_GE(hak_fault_hits(), 1u);
    EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 1u);
    EXPECT_TRUE(IsMapped(block, HAK_SLAB_SIZE));
    EXPECT_STREQ(hak_pool_verify(), nullptr);
    // A slab that may hold data is not called zero.
    hak_slab *again = hak_pool_take(kSmall, SomeOwner(), true);
    EXPECT_EQ(again, returned) << "memory that is there comes first";
    EXPECT_FALSE(again->zeroed);
    hak_pool_give(again);
    EXPECT_EQ(hak_pool_trim(0), 0u) << "a trim that cannot return anything ends";
  }
  hak_pool_tick(hak_os_now_ms());
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
  GiveAll(slabs);
}

// The limit on mappings: a superslab that cannot be unmapped stays in the pool, without memory, and can be used.
TEST_F(Pool, AnUnmapThatFailsKeepsTheSuperslab) {
  hak_config.decommit_deadline_ms = 0;
  hak_slab *slab = TakeUsed(kSmall);
  const uint64_t superslabs = hak_pool_totals().superslabs;
  const uint64_t mapped = hak_os_totals().mapped;
  hak_superslab *superslab = hak_superslab_of_slab(slab);
  char *const memory = hak_superslab_memory(superslab);
  {
    const FaultPlan plan(HAK_FAULT_UNMAP);
    hak_pool_give(slab);
    EXPECT_EQ(hak_fault_hits(), 1u);
  }
  EXPECT_EQ(hak_pool_totals().superslabs, superslabs);
  EXPECT_EQ(hak_os_totals().mapped, mapped);
  EXPECT_TRUE(IsMapped(memory, HAK_SUPERSLAB_SIZE));
  EXPECT_EQ(hak_pool_totals().slabs_free_dirty, 0u);
  EXPECT_STREQ(hak_pool_verify(), nullptr);
  slab = TakeUsed(kSmall);
  EXPECT_EQ(hak_superslab_of_slab(slab), superslab);
  EXPECT_TRUE(slab->zeroed);
  hak_pool_give(slab);
  EXPECT_EQ(hak_pool_totals().superslabs, superslabs - 1);
  EXPECT_FALSE(IsMapped(memory, HAK_SUPERSLAB_SIZE));
}

TEST_F(Pool, AnUnmapThatFailedIsTriedAgainByTrim) {
  hak_config.decommit_deadline_ms = 0;
  hak_slab *slab = TakeUsed(kSmall);
  hak_superslab *superslab = hak_superslab_of_slab(slab);
  char *const memory = hak_superslab_memory(superslab);
  {
    const FaultPlan plan(HAK_FAULT_UNMAP);
    hak_pool_give(slab);
  }
  hak_pool_trim(0);
  EXPECT_FALSE(IsMapped(memory, HAK_SUPERSLAB_SIZE));
}

// Addresses next to all that is mapped: the kernel maps what comes next in another 4 GiB, where the slab map has no
// room yet.
class NextMappingsAreFar {
 public:
  NextMappingsAreFar() { EXPECT_NE(start_, MAP_FAILED); }
  ~NextMappingsAreFar() { munmap(start_, kSize); }
  NextMappingsAreFar(const NextMappingsAreFar &) = delete;
  NextMappingsAreFar &operator=(const NextMappingsAreFar &) = delete;

 private:
  static constexpr size_t kSize = size_t{5} << 30;
  void *const start_ = mmap(nullptr, kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
};

// The slab map has no room for a superslab's memory, and the kernel does not take it back either.
TEST_F(Pool, MemoryThatTheSlabMapHasNoRoomForIsReturnedByTrim) {
  std::vector<hak_slab *> held;
  const auto hold_all = [&held] {
    while (hak_pool_totals().slabs_free != 0) held.push_back(hak_pool_take(kSmall, SomeOwner(), true));
  };
  hold_all();
  const NextMappingsAreFar far;
  uint64_t mapped = hak_os_totals().mapped;
  // How many mappings the superslab takes before its leaf of the slab map is up to the kernel. It also fills holes
  // between mappings first, where the slab map has room.
  for (uint64_t nth = 2; nth < 100 && hak_os_totals().mapped == mapped; nth++) {
    hak_slab *slab;
    {
      const FaultPlan plan(HAK_FAULT_UNMAP | HAK_FAULT_COMMIT);
      hak_fault_also(HAK_FAULT_MAP, 2 + nth % 3, UINT64_MAX);
      slab = hak_pool_take(kSmall, SomeOwner(), true);
      if (slab == nullptr) hak_pool_trim(0);
    }
    EXPECT_STREQ(hak_pool_verify(), nullptr);
    if (slab == nullptr) continue;
    held.push_back(slab);
    hold_all();
    mapped = hak_os_totals().mapped;
  }
  EXPECT_EQ(hak_os_totals().mapped, mapped + HAK_SUPERSLAB_SIZE) << "a trim that cannot return it keeps it";
  hak_pool_trim(0);
  EXPECT_EQ(hak_os_totals().mapped, mapped);
  // And only once.
  hak_slab *slab = TakeUsed(kSmall);
  ASSERT_NE(slab, nullptr);
  hak_pool_trim(0);
  EXPECT_TRUE(IsMapped(hak_slab_start(slab), HAK_SLAB_SIZE));
  hak_pool_give(slab);
  GiveAll(held);
}

TEST_F(Pool, WithoutMemoryTakesFailAndLaterSucceed) {
  // So that each take needs a system call.
  std::vector<hak_slab *> held;
  while (hak_pool_totals().slabs_free != 0) held.push_back(hak_pool_take(kSmall, SomeOwner(), true));
  const uint64_t mapped = hak_os_totals().mapped;
  {
    const FaultPlan plan(HAK_FAULT_MAP);
    EXPECT_EQ(hak_pool_take(kSmall, SomeOwner(), true), nullptr);
    EXPECT_STREQ(hak_pool_verify(), nullptr);
  }
  EXPECT_EQ(hak_os_totals().mapped, mapped);
  hak_slab *slab = hak_pool_take(kSmall, SomeOwner(), true);
  EXPECT_NE(slab, nullptr);
  hak_pool_give(slab);
  GiveAll(held);
}

// A short script with its k-th system call failing, for every k.
TEST_F(Pool, EveryCallToTheKernelMayFail) {
  hak_config.decommit_deadline_ms = 0;
  for (uint64_t k = 1;; k++) {
    const FaultPlan plan(HAK_FAULT_ALL, k, 1);
    std::vector<hak_slab *> slabs;
    for (int i = 0; i < 40; i++) {
      hak_slab *slab = TakeUsed(kSmall);
      if (slab != nullptr) slabs.push_back(slab);
    }
    EXPECT_GE(slabs.size(), 39u);
    ASSERT_STREQ(hak_pool_verify(), nullptr) << k;
    GiveAll(slabs);
    ASSERT_STREQ(hak_pool_verify(), nullptr) << k;
    hak_pool_trim(0);
    ASSERT_STREQ(hak_pool_verify(), nullptr) << k;
    if (hak_fault_hits() == 0) break;  // The script makes fewer than k calls.
    ASSERT_LT(k, 1000u);
  }
}

TEST_F(Pool, ThreadsShareIt) {
  hak_config.decommit_deadline_ms = 1;
  hak_config.keep_superslabs = 1;
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([t, &failures] {
      Random random(static_cast<uint64_t>(t));
      std::vector<hak_slab *> slabs;
      for (int i = 0; i < hak_unit::Operations(2000); i++) {
        if (slabs.size() < 40 && random.OneIn(2)) {
          hak_slab *slab = TakeUsed(1 + random.Below(HAK_CLASS_COUNT - 1));
          if (slab == nullptr) {
            failures++;
          } else {
            slabs.push_back(slab);
          }
        } else if (!slabs.empty()) {
          hak_pool_give(slabs.back());
          slabs.pop_back();
        }
        if (i % 64 == 0) hak_pool_tick(hak_os_now_ms());
      }
      GiveAll(slabs);
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
  EXPECT_STREQ(hak_pool_verify(), nullptr);
}

}  // namespace
