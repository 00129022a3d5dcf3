// SPDX-License-Identifier: Apache-2.0
#include "allocator/pages/page_map.h"

#include <gtest/gtest.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/run.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::Random;
using hak_unit::ResidentPages;

// Most of the map never touches the memory that it describes. So its tests make addresses up, and each test uses other
// ones.
char *Address(uint64_t at) { return reinterpret_cast<char *>(static_cast<uintptr_t>(at)); }
constexpr uint64_t kLeaf = uint64_t{1} << HAK_LEAF_SHIFT;
constexpr uint64_t kBranch = uint64_t{1} << HAK_BRANCH_SHIFT;
constexpr size_t kChunk = HAK_CHUNK_SIZE;

// Returns the memory of all records that are not needed.
void ReturnAll() {
  while (hak_page_map_return_idle(0)) {
  }
}
size_t ResidentRecords(const char *address) {
  return ResidentPages(hak_page_records_of(address), sizeof(hak_page_records));
}

class PageMap : public testing::Test {
 protected:
  PageMap() {
    hak_mapping_lock();
    ReturnAll();
  }
  ~PageMap() override { hak_mapping_unlock(); }
};

TEST_F(PageMap, AddressesThatAreNotCoveredHaveNoRecord) {
  int local;
  for (const void *other : {static_cast<const void *>(nullptr), static_cast<const void *>(&local),
                            static_cast<const void *>(Address(UINTPTR_MAX)),
                            static_cast<const void *>(Address(uint64_t{1} << HAK_PAGE_MAP_BITS)),
                            static_cast<const void *>(Address(20 * kBranch))}) {
    EXPECT_EQ(hak_chunk_of(other), nullptr);
    EXPECT_EQ(hak_page_map_run(other), nullptr);
  }
}

TEST_F(PageMap, ALeafHasEachChunkOnceAndStays) {
  char *const start = Address(21 * kBranch + kLeaf);
  const uint64_t bytes = hak_page_map_bytes();
  ASSERT_TRUE(hak_page_map_cover(start, HAK_PAGE_SIZE));
  const uint64_t leaf = hak_page_map_bytes() - bytes;
  EXPECT_GE(leaf, sizeof(hak_page_records));
  hak_chunk *first = hak_chunk_of(start);
  ASSERT_NE(first, nullptr);
  for (size_t i = 0; i < HAK_LEAF_CHUNKS; i++) {
    ASSERT_EQ(hak_chunk_of(start + i * HAK_CHUNK_SIZE), first + i);
    ASSERT_EQ(hak_chunk_of(start + (i + 1) * HAK_CHUNK_SIZE - 1), first + i);
  }
  EXPECT_EQ(hak_chunk_of(start - 1), nullptr);
  EXPECT_EQ(hak_chunk_of(start + kLeaf), nullptr);
  ASSERT_TRUE(hak_page_map_cover(start, kLeaf));
  EXPECT_EQ(hak_page_map_bytes(), bytes + leaf) << "covered already";
  EXPECT_EQ(hak_chunk_of(start), first);
}

TEST_F(PageMap, ARangeOverBordersOfLeavesAndBranchesIsCoveredAsAWhole) {
  char *const border = Address(23 * kBranch);
  ASSERT_TRUE(hak_page_map_cover(border - kLeaf - HAK_PAGE_SIZE, 2 * kLeaf + 2 * HAK_PAGE_SIZE));
  for (char *at = border - 2 * kLeaf; at < border + 2 * kLeaf; at += HAK_CHUNK_SIZE) {
    ASSERT_NE(hak_chunk_of(at), nullptr);
  }
  EXPECT_EQ(hak_chunk_of(border - 2 * kLeaf - 1), nullptr);
  EXPECT_EQ(hak_chunk_of(border + 2 * kLeaf), nullptr);
}

TEST_F(PageMap, ARangeThatEndsAtABorderStopsThere) {
  char *const border = Address(24 * kBranch + 5 * kLeaf);
  ASSERT_TRUE(hak_page_map_cover(border - HAK_CHUNK_SIZE, HAK_CHUNK_SIZE));
  EXPECT_NE(hak_chunk_of(border - 1), nullptr);
  EXPECT_EQ(hak_chunk_of(border), nullptr);
}

TEST_F(PageMap, AddressesBeyondTheMapAreRefused) {
  const uint64_t end = uint64_t{1} << HAK_PAGE_MAP_BITS;
  EXPECT_FALSE(hak_page_map_cover(Address(end), HAK_PAGE_SIZE));
  EXPECT_FALSE(hak_page_map_cover(Address(end - HAK_PAGE_SIZE), 2 * HAK_PAGE_SIZE));
  EXPECT_TRUE(hak_page_map_cover(Address(end - HAK_PAGE_SIZE), HAK_PAGE_SIZE));
  EXPECT_NE(hak_chunk_of(Address(end - 1)), nullptr);
}

TEST_F(PageMap, ALeafThatCannotBeMappedIsNoLeaf) {
  char *const start = Address(25 * kBranch);
  const uint64_t bytes = hak_page_map_bytes();
  {
    const FaultPlan plan(HAK_FAULT_MAP | HAK_FAULT_COMMIT);
    EXPECT_FALSE(hak_page_map_cover(start, HAK_PAGE_SIZE));
  }
  EXPECT_EQ(hak_chunk_of(start), nullptr);
  EXPECT_EQ(hak_page_map_bytes(), bytes);
  EXPECT_TRUE(hak_page_map_cover(start, HAK_PAGE_SIZE));
  EXPECT_NE(hak_chunk_of(start), nullptr);
}

TEST_F(PageMap, ARunIsKnownAtItsFirstAndItsLastPage) {
  char *const start = Address(26 * kBranch + kLeaf - 3 * HAK_PAGE_SIZE);
  ASSERT_TRUE(hak_page_map_cover(start, 2 * kLeaf));
  hak_run run = {};
  hak_run other = {};
  const size_t size = 600 * HAK_PAGE_SIZE;
  hak_page_map_set_run(start, size, &run);
  for (size_t page = 0; page < 601; page++) {
    const bool edge = page == 0 || page == 599;
    ASSERT_EQ(hak_page_map_run(start + page * HAK_PAGE_SIZE), edge ? &run : nullptr) << page;
  }
  EXPECT_EQ(hak_page_map_run(start + HAK_PAGE_SIZE - 1), &run) << "any byte of the page";
  EXPECT_EQ(hak_page_map_run(start - 1), nullptr);
  hak_page_map_set_run(start + HAK_PAGE_SIZE, HAK_PAGE_SIZE, &other);
  EXPECT_EQ(hak_page_map_run(start), &run);
  EXPECT_EQ(hak_page_map_run(start + HAK_PAGE_SIZE), &other);
  EXPECT_EQ(hak_page_map_run(start + 2 * HAK_PAGE_SIZE), nullptr);
}

TEST_F(PageMap, BitsOfEachRangeOverWordsAndChunks) {
  // Two words on both sides of a border between chunks, and of a border between leaves.
  for (const uint64_t border : {27 * kBranch + HAK_CHUNK_SIZE, 27 * kBranch + kLeaf}) {
    constexpr size_t kPages = 256;
    char *const start = Address(border) - kPages / 2 * HAK_PAGE_SIZE;
    ASSERT_TRUE(hak_page_map_cover(start, kPages * HAK_PAGE_SIZE));
    for (size_t from = 0; from < kPages; from += from % 64 < 2 ? 1 : 31) {
      for (size_t to = from + 1; to <= kPages; to += to % 64 < 2 ? 1 : 31) {
        hak_page_map_set_dirty(start + from * HAK_PAGE_SIZE, (to - from) * HAK_PAGE_SIZE, true);
        ASSERT_EQ(hak_page_map_dirty(start, kPages * HAK_PAGE_SIZE), (to - from) * HAK_PAGE_SIZE);
        ASSERT_EQ(hak_page_map_dirty(start + from * HAK_PAGE_SIZE, (to - from) * HAK_PAGE_SIZE),
                  (to - from) * HAK_PAGE_SIZE);
        ASSERT_EQ(hak_page_map_last_dirty(start, kPages * HAK_PAGE_SIZE), start + to * HAK_PAGE_SIZE);
        if (to - from > 2) {
          hak_page_map_set_dirty(start + (from + 1) * HAK_PAGE_SIZE, (to - from - 2) * HAK_PAGE_SIZE, false);
          ASSERT_EQ(hak_page_map_dirty(start, kPages * HAK_PAGE_SIZE), 2 * HAK_PAGE_SIZE);
        }
        hak_page_map_set_dirty(start + from * HAK_PAGE_SIZE, (to - from) * HAK_PAGE_SIZE, false);
        ASSERT_EQ(hak_page_map_dirty(start, kPages * HAK_PAGE_SIZE), 0u);
        ASSERT_EQ(hak_page_map_last_dirty(start, kPages * HAK_PAGE_SIZE), start);
      }
    }
  }
}

TEST_F(PageMap, NoPagesHaveNoBits) {
  char *const start = Address(28 * kBranch);
  ASSERT_TRUE(hak_page_map_cover(start, HAK_CHUNK_SIZE));
  hak_page_map_set_dirty(start, HAK_CHUNK_SIZE, true);
  EXPECT_EQ(hak_page_map_dirty(start, 0), 0u);
  EXPECT_EQ(hak_page_map_last_dirty(start + HAK_PAGE_SIZE, 0), start + HAK_PAGE_SIZE);
  hak_page_map_set_dirty(start + HAK_PAGE_SIZE, 0, false);
  EXPECT_EQ(hak_page_map_dirty(start, HAK_CHUNK_SIZE), HAK_CHUNK_SIZE);
}

TEST_F(PageMap, BitsAgreeWithAModel) {
  constexpr size_t kPages = 3 * HAK_CHUNK_PAGES;
  char *const start = Address(29 * kBranch + kLeaf - HAK_CHUNK_SIZE);
  ASSERT_TRUE(hak_page_map_cover(start, kPages * HAK_PAGE_SIZE));
  std::vector<bool> model(kPages);
  Random random(1);
  for (int i = 0; i < hak_unit::Operations(8000); i++) {
    const size_t from = random.Below(kPages);
    // Short ranges and a few long ones, mostly cleared, so that there are long clean sequences too.
    const size_t count = 1 + random.Below(random.OneIn(8) ? kPages - from : std::min<size_t>(kPages - from, 20));
    char *const at = start + from * HAK_PAGE_SIZE;
    const size_t size = count * HAK_PAGE_SIZE;
    const auto begin = model.begin() + static_cast<std::ptrdiff_t>(from);
    const auto end = begin + static_cast<std::ptrdiff_t>(count);
    if (random.OneIn(2)) {
      const bool dirty = count <= 20 && !random.OneIn(3);
      hak_page_map_set_dirty(at, size, dirty);
      std::fill(begin, end, dirty);
    } else {
      ASSERT_EQ(hak_page_map_dirty(at, size), static_cast<size_t>(std::count(begin, end, true)) * HAK_PAGE_SIZE);
      const auto last = std::find(std::make_reverse_iterator(end), std::make_reverse_iterator(begin), true);
      ASSERT_EQ(hak_page_map_last_dirty(at, size),
                start + static_cast<size_t>(last.base() - model.begin()) * HAK_PAGE_SIZE);
    }
  }
}

// With real memory: dirty pages in the range are zero afterwards, and everything else is unchanged.
TEST_F(PageMap, ClearsTheDirtyPagesOfTheRangeOnly) {
  constexpr size_t kPages = HAK_CHUNK_PAGES + 160;
  constexpr size_t kBytes = kPages * HAK_PAGE_SIZE;
  auto *memory = static_cast<char *>(hak_os_map(hak_round_up(kBytes, hak_os_page_size()), HAK_CHUNK_SIZE));
  ASSERT_NE(memory, nullptr);
  // The range begins within a word and ends within a word of the next chunk.
  ASSERT_TRUE(hak_page_map_cover(memory, kBytes));
  Random random(2);
  for (int round = 0; round < 40; round++) {
    memset(memory, 0x5a, kBytes);
    hak_page_map_set_dirty(memory, kBytes, false);
    std::vector<bool> dirty(kPages);
    for (size_t page = 0; page < kPages; page++) {
      dirty[page] = round == 0 || (round > 1 && random.OneIn(static_cast<uint64_t>(round)));
      if (dirty[page]) hak_page_map_set_dirty(memory + page * HAK_PAGE_SIZE, HAK_PAGE_SIZE, true);
    }
    const size_t from = random.Below(kBytes / 2);
    const size_t size = round % 3 == 0 ? random.Below(3 * HAK_PAGE_SIZE) : random.Below(kBytes - from);
    hak_page_map_clear(memory + from, size);
    std::vector<char> expected(kBytes, 0x5a);
    for (size_t at = from; at < from + size; at++) {
      if (dirty[at / HAK_PAGE_SIZE]) expected[at] = 0;
    }
    ASSERT_EQ(memcmp(memory, expected.data(), kBytes), 0) << from << " + " << size;
  }
  hak_page_map_set_dirty(memory, kBytes, false);
  EXPECT_TRUE(hak_os_unmap(memory, hak_round_up(kBytes, hak_os_page_size())));
}

// ---- Memory of the records ------------------------------------------------------------------------

TEST_F(PageMap, ARangeTouchesFewRecords) {
  char *const start = Address(30 * kBranch);
  ASSERT_TRUE(hak_page_map_cover(start, 4 * kLeaf));
  hak_page_map_enter(start, 4 * kLeaf);
  EXPECT_EQ(hak_page_map_entered(), 4 * kLeaf);
  for (char *at = start; at < start + 4 * kLeaf; at += kChunk) hak_chunk_of(at)->huge = true;
  // What one does to pages that are clean, and stay so, reads no word of their bits.
  EXPECT_EQ(hak_page_map_dirty(start, 4 * kLeaf), 0u);
  EXPECT_EQ(hak_page_map_last_dirty(start, 4 * kLeaf), start);
  hak_page_map_set_dirty(start, 4 * kLeaf, false);
  hak_page_map_clear(start, 4 * kLeaf);
  EXPECT_LE(ResidentPages(hak_leaf_of(start), sizeof(hak_branch)), 4 * sizeof(hak_leaf) / hak_os_page_size() + 1);
  for (size_t leaf = 0; leaf < 4; leaf++) EXPECT_EQ(ResidentRecords(start + leaf * kLeaf), 0u);
  hak_page_map_leave(start, 4 * kLeaf);
  EXPECT_EQ(hak_page_map_entered(), 0u);
}

TEST_F(PageMap, AChunkCountsItsPages) {
  char *const start = Address(31 * kBranch + kLeaf);
  ASSERT_TRUE(hak_page_map_cover(start - kChunk, 2 * kChunk));
  // A range over a border of leaves, and one that touches it.
  hak_page_map_enter(start - 2 * HAK_PAGE_SIZE, 5 * HAK_PAGE_SIZE);
  EXPECT_EQ(hak_chunk_of(start - 1)->pages, 2u);
  EXPECT_EQ(hak_chunk_of(start)->pages, 3u);
  hak_page_map_enter(start + 3 * HAK_PAGE_SIZE, kChunk - 3 * HAK_PAGE_SIZE);
  EXPECT_EQ(hak_chunk_of(start)->pages, HAK_CHUNK_PAGES);
  EXPECT_EQ(hak_chunk_of(start + kChunk)->pages, 0u);
  EXPECT_EQ(hak_page_map_entered(), kChunk + 2 * HAK_PAGE_SIZE);
  hak_page_map_leave(start - HAK_PAGE_SIZE, kChunk + HAK_PAGE_SIZE);
  EXPECT_EQ(hak_chunk_of(start - 1)->pages, 1u);
  EXPECT_EQ(hak_chunk_of(start)->pages, 0u);
  hak_page_map_leave(start - 2 * HAK_PAGE_SIZE, HAK_PAGE_SIZE);
  EXPECT_EQ(hak_page_map_entered(), 0u);
}

TEST_F(PageMap, RecordsOfChunksInNoRunAreReturned) {
  char *const start = Address(32 * kBranch);
  ASSERT_TRUE(hak_page_map_cover(start, kLeaf));
  hak_page_map_enter(start, kLeaf);
  hak_run run = {};
  for (char *at = start; at < start + kLeaf; at += kChunk) {
    hak_page_map_set_run(at, kChunk, &run);
    hak_page_set_tag(hak_page_entry_at(at), 7);
  }
  hak_page_map_set_dirty(start, kLeaf, true);
  const size_t all = ResidentRecords(start);
  EXPECT_EQ(all, sizeof(hak_page_records) / hak_os_page_size());
  // A quarter stays, and its records with it.
  const size_t part = kLeaf / 4;
  hak_page_map_set_dirty(start + part, kLeaf - part, false);
  hak_page_map_leave(start + part, kLeaf - part);
  EXPECT_FALSE(hak_page_map_return_idle(HAK_LEAF_CHUNKS / 4 * 3)) << "no more than may stay";
  EXPECT_EQ(ResidentRecords(start), all);
  ReturnAll();
  EXPECT_LE(ResidentRecords(start), all / 4 + sizeof(hak_page_records::dirty) / hak_os_page_size() + 3);
  for (char *at = start; at < start + kLeaf; at += kChunk) {
    const bool stays = at < start + part;
    ASSERT_EQ(hak_page_map_run(at), stays ? &run : nullptr);
    ASSERT_EQ(hak_page_map_run(at + kChunk - 1), stays ? &run : nullptr);
    ASSERT_EQ(hak_page_tag(hak_page_entry_at(at)), stays ? 7u : 0u);
  }
  EXPECT_EQ(hak_page_map_dirty(start, kLeaf), part);
  // The rest leaves: nothing remains, and it can be used anew.
  hak_page_map_set_dirty(start, part, false);
  hak_page_map_leave(start, part);
  ReturnAll();
  EXPECT_EQ(ResidentRecords(start), 0u);
  hak_page_map_enter(start, kLeaf);
  hak_page_map_set_run(start, kLeaf, &run);
  hak_page_map_set_dirty(start + part, HAK_PAGE_SIZE, true);
  EXPECT_EQ(hak_page_map_run(start), &run);
  EXPECT_EQ(hak_page_map_run(start + kLeaf - 1), &run);
  EXPECT_EQ(hak_page_map_dirty(start, kLeaf), HAK_PAGE_SIZE);
  hak_page_map_set_dirty(start, kLeaf, false);
  hak_page_map_leave(start, kLeaf);
  ReturnAll();
  EXPECT_EQ(ResidentRecords(start), 0u);
}

// A leaf in which no run begins or ends has only bits.
TEST_F(PageMap, BitsOfALeafWithoutARunAreReturned) {
  char *const start = Address(33 * kBranch);
  ASSERT_TRUE(hak_page_map_cover(start, 3 * kLeaf));
  hak_page_map_enter(start, 3 * kLeaf);
  hak_page_map_set_dirty(start, 3 * kLeaf, true);
  hak_page_map_set_dirty(start, 3 * kLeaf, false);
  EXPECT_NE(ResidentRecords(start + kLeaf), 0u);
  ReturnAll();
  EXPECT_NE(ResidentRecords(start + kLeaf), 0u) << "in use";
  hak_page_map_leave(start, 3 * kLeaf);
  hak_page_map_enter(start, kLeaf);
  ReturnAll();
  EXPECT_NE(ResidentRecords(start), 0u) << "in use again";
  EXPECT_EQ(ResidentRecords(start + kLeaf), 0u);
  EXPECT_EQ(ResidentRecords(start + 2 * kLeaf), 0u);
  hak_page_map_leave(start, kLeaf);
  ReturnAll();
  EXPECT_EQ(ResidentRecords(start), 0u);
}

TEST_F(PageMap, RecordsThatTheKernelDoesNotTakeAreTriedAgain) {
  char *const start = Address(34 * kBranch);
  ASSERT_TRUE(hak_page_map_cover(start, kLeaf));
  hak_run run = {};
  for (const size_t rest : {size_t{0}, kChunk}) {
    hak_page_map_enter(start, kLeaf);
    hak_page_map_set_run(start, kLeaf, &run);
    hak_page_map_leave(start + rest, kLeaf - rest);
    {
      const FaultPlan plan(HAK_FAULT_DECOMMIT);
      EXPECT_FALSE(hak_page_map_return_idle(0));
      EXPECT_EQ(hak_page_map_run(start + kLeaf - 1), &run);
    }
    EXPECT_TRUE(hak_page_map_return_idle(0));
    EXPECT_EQ(hak_page_map_run(start + kLeaf - 1), nullptr);
    EXPECT_EQ(hak_page_map_run(start), rest != 0 ? &run : nullptr);
    if (rest != 0) hak_page_map_leave(start, rest);
    ReturnAll();
  }
}

// Ranges come and go in any order, and records are returned at any time. Those of ranges that are there stay.
TEST_F(PageMap, OnlyRecordsOfChunksInNoRunAreReturned) {
  constexpr size_t kSlots = 96;
  constexpr size_t kSlot = kChunk / 2;  // two slots share a chunk, and eight the page of their tags
  char *const start = Address(35 * kBranch + kLeaf) - kSlots / 2 * kSlot;
  ASSERT_TRUE(hak_page_map_cover(start, kSlots * kSlot));
  std::vector<hak_run> runs(kSlots);
  std::vector<size_t> sizes(kSlots);  // of the range that begins in the slot; 0: none does
  Random random(3);
  uint64_t entered = 0;
  for (int i = 0; i < hak_unit::Operations(4000); i++) {
    const size_t slot = random.Below(kSlots);
    char *const at = start + slot * kSlot;
    if (random.OneIn(16)) {
      hak_page_map_return_idle(random.Below(40));
    } else if (sizes[slot] != 0) {
      hak_page_set_tag(hak_page_entry_at(at), 0);
      hak_page_map_set_dirty(at, sizes[slot], false);
      hak_page_map_leave(at, sizes[slot]);
      entered -= sizes[slot];
      sizes[slot] = 0;
    } else {
      const size_t size = (1 + random.Below(kSlot / HAK_PAGE_SIZE)) * HAK_PAGE_SIZE;
      hak_page_map_enter(at, size);
      ASSERT_EQ(hak_page_map_dirty(at, size), 0u);
      hak_page_map_set_run(at, size, &runs[slot]);
      hak_page_map_set_dirty(at, size, true);
      hak_page_set_tag(hak_page_entry_at(at), static_cast<uint32_t>(slot + 1));
      entered += size;
      sizes[slot] = size;
    }
    ASSERT_EQ(hak_page_map_entered(), entered);
    if (i % 16 != 0) continue;
    for (size_t s = 0; s < kSlots; s++) {
      char *const here = start + s * kSlot;
      ASSERT_EQ(hak_page_map_dirty(here, kSlot), sizes[s]);
      ASSERT_EQ(hak_page_tag(hak_page_entry_at(here)), sizes[s] != 0 ? s + 1 : 0u);
      if (sizes[s] == 0) continue;
      ASSERT_EQ(hak_page_map_run(here), &runs[s]);
      ASSERT_EQ(hak_page_map_run(here + sizes[s] - 1), &runs[s]);
    }
  }
  for (size_t s = 0; s < kSlots; s++) {
    if (sizes[s] == 0) continue;
    hak_page_map_set_dirty(start + s * kSlot, sizes[s], false);
    hak_page_map_leave(start + s * kSlot, sizes[s]);
  }
  EXPECT_EQ(hak_page_map_entered(), 0u);
  ReturnAll();
  EXPECT_EQ(ResidentRecords(start) + ResidentRecords(start + kSlots * kSlot), 0u);
}

}  // namespace
