// SPDX-License-Identifier: Apache-2.0
//
// The headers that carving writes are tested for the mode of this build (tiny_region_id_test prints it).
#include "allocator/slab/slab.h"

#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <set>
#include <vector>

#include "allocator/block/tiny_region_id.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/slab/slab_purge.h"
#include "allocator/slab/slab_purged.h"

namespace {

using hak_unit::Random;

// Only arithmetic: no such address is touched.
const char *const kGranule = reinterpret_cast<const char *>(uintptr_t{0x7000'0000'0000});

TEST(SlabArithmetic, BlockStartsAndIndicesForEveryOffsetAndClass) {
  hak_slab slab = {};
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    const uint32_t stride = hak_class_info[id].stride;
    slab.reciprocal = hak_class_info[id].reciprocal;
    for (uint32_t distance = 1; distance <= HAK_SLAB_ROOM; distance++) {
      const char *address = kGranule + HAK_SLAB_ROOM - distance;
      const bool starts = distance % stride == 0;
      if (hak_slab_is_block_start(address, slab.reciprocal) != starts ||
          (starts && hak_slab_block_index(&slab, address) != distance / stride - 1)) {
        FAIL() << "class " << id << " distance " << distance;
      }
    }
  }
}

TEST(SlabArithmetic, NothingIsABlockStartOfWhatIsNoSmallClass) {
  for (uint32_t offset = 0; offset < HAK_SLAB_SIZE; offset++) {
    ASSERT_FALSE(hak_slab_is_block_start(kGranule + offset, hak_class_info[HAK_CLASS_NONE].reciprocal)) << offset;
  }
}

class Slab : public testing::Test {
 protected:
  Slab() {
    superslab_ = static_cast<hak_superslab *>(hak_os_map(HAK_SUPERSLAB_SIZE, HAK_SUPERSLAB_SIZE));
    // The tests below ask whether pages were touched, and a huge page counts as touched as a whole.
    madvise(superslab_, HAK_SUPERSLAB_SIZE, MADV_NOHUGEPAGE);
    for (uint32_t i = 0; i < HAK_SLABS_PER_SUPERSLAB; i++) superslab_->slabs[i].index = static_cast<uint8_t>(i);
  }
  ~Slab() override { hak_os_unmap(superslab_, HAK_SUPERSLAB_SIZE); }

  hak_slab *Format(uint32_t index, uint32_t class_id) {
    hak_slab *slab = &superslab_->slabs[index];
    hak_slab_format(slab, class_id, true);
    return slab;
  }

  hak_superslab *superslab_;
};

TEST_F(Slab, AddressesFindTheirSlab) {
  ASSERT_NE(superslab_, nullptr);
  const char *base = reinterpret_cast<const char *>(superslab_);
  for (uint32_t i = 0; i < HAK_SLABS_PER_SUPERSLAB; i++) {
    const hak_slab *slab = &superslab_->slabs[i];
    EXPECT_EQ(hak_slab_end(slab), base + (i + 1) * HAK_SLAB_SIZE - HAK_SLAB_GUARD);
    EXPECT_EQ(hak_slab_begin(slab), base + i * HAK_SLAB_SIZE + (i == 0 ? HAK_SUPERSLAB_HEAD : 0));
    for (const char *inside : {hak_slab_begin(slab), hak_slab_begin(slab) + 12345, hak_slab_end(slab) - 1}) {
      EXPECT_EQ(hak_slab_of(inside), slab);
      EXPECT_EQ(hak_superslab_of(inside), superslab_);
    }
  }
}

TEST_F(Slab, CapacityIsWhatFitsBehindTheHead) {
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    for (const uint32_t index : {0u, 1u, 31u}) {
      const hak_slab *slab = Format(index, id);
      const char *lowest = static_cast<const char *>(hak_slab_block(slab, slab->capacity - 1));
      ASSERT_GT(slab->capacity, 0u) << id;
      ASSERT_LE(slab->capacity, HAK_SLAB_BLOCKS_MAX) << id;
      EXPECT_GE(lowest - HAK_HEADER_BYTES, hak_slab_begin(slab)) << id;
      EXPECT_LT(lowest - HAK_HEADER_BYTES - slab->stride, hak_slab_begin(slab)) << id;
      EXPECT_EQ(hak_slab_carved(slab), 0u);
      EXPECT_EQ(hak_slab_free_count(slab), 0u);
      EXPECT_EQ(hak_slab_list_for(slab), HAK_LIST_CARVE);
    }
  }
}

TEST_F(Slab, EveryBlockIsAlignedToWhatDividesItsStride) {
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    const hak_slab *slab = Format(0, id);
    size_t align = slab->stride & -slab->stride;
    if (HAK_SLAB_GUARD != 0) align = std::min(align, HAK_SLAB_GUARD);
    for (uint32_t i = 0; i < slab->capacity; i++) {
      ASSERT_EQ(reinterpret_cast<uintptr_t>(hak_slab_block(slab, i)) % align, 0u) << id << ' ' << i;
    }
  }
}

TEST_F(Slab, CarvesFromTheLowestAddressUpTheLowestLast) {
  for (const uint32_t id : {1u, 7u, 40u, HAK_CLASS_COUNT - 1}) {
    hak_slab *slab = Format(3, id);
    std::vector<void *> out(slab->capacity + 10, nullptr);
    EXPECT_EQ(hak_slab_carve(slab, out.data(), 0), 0u);
    uint32_t carved = 0;
    char *expected = static_cast<char *>(hak_slab_block(slab, slab->capacity - 1));
    for (uint32_t want = 1; carved < slab->capacity; want = want * 2 + 1) {
      const uint32_t got = hak_slab_carve(slab, out.data(), want);
      ASSERT_EQ(got, std::min(want, slab->capacity - carved));
      for (uint32_t i = got; i-- > 0;) {
        ASSERT_EQ(out[i], expected);
        const uint32_t index = hak_slab_block_index(slab, out[i]);
        ASSERT_TRUE(hak_slab_was_carved(slab, index));
        ASSERT_FALSE(hak_slab_bit(slab, index));
        if (HAK_HEADER != HAK_HEADER_MODE_NONE) {
          ASSERT_NE(tiny_region_id_state(out[i], id), HAK_REGION_IS_BROKEN);
        }
        expected += slab->stride;
      }
      carved += got;
      ASSERT_EQ(hak_slab_carved(slab), carved);
      if (carved < slab->capacity) {
        ASSERT_FALSE(hak_slab_was_carved(slab, slab->capacity - 1 - carved));
        if (HAK_HEADER == HAK_HEADER_MODE_ALWAYS) {
          ASSERT_NE(tiny_region_id_state(expected, id), HAK_REGION_IS_BROKEN) << "header of the block to come";
        }
      }
    }
    EXPECT_EQ(hak_slab_carve(slab, out.data(), 1), 0u);
    EXPECT_EQ(hak_slab_list_for(slab), HAK_LIST_FULL);
    EXPECT_EQ(expected, hak_slab_end(slab));
  }
}

// Without headers carving writes nothing. With headers it touches only the pages of the blocks that it carves.
TEST_F(Slab, CarvingTouchesNoMemoryThatIsNotCarved) {
  hak_slab *slab = Format(5, hak_class_of(1000));
  void *out[8];
  ASSERT_EQ(hak_slab_carve(slab, out, 8), 8u);
  const size_t page = hak_os_page_size();
  const char *first_page = hak_slab_start(slab);
  const char *behind = static_cast<char *>(out[0]) + slab->stride;
  const char *untouched = reinterpret_cast<char *>(hak_round_up(reinterpret_cast<uintptr_t>(behind), page));
  if (untouched < hak_slab_end(slab)) {
    EXPECT_EQ(hak_unit::ResidentPages(untouched, static_cast<size_t>(hak_slab_end(slab) - untouched)), 0u);
  }
  if (HAK_HEADER == HAK_HEADER_MODE_NONE) {
    EXPECT_EQ(hak_unit::ResidentPages(first_page, HAK_SLAB_SIZE), 0u);
  }
}

// The list for the counts, computed from its definition.
hak_slab_list NaiveList(const hak_slab *slab, size_t free_count) {
  if (hak_slab_carved(slab) < slab->capacity) return HAK_LIST_CARVE;
  if (free_count == 0) return HAK_LIST_FULL;
  const double part = static_cast<double>(free_count) / slab->capacity;
  if (part <= 0.125) return HAK_LIST_SCARCE;
  if (part <= 0.25) return HAK_LIST_SOME;
  return part <= 0.5 ? HAK_LIST_MANY : HAK_LIST_MOST;
}

TEST_F(Slab, RandomTakesAndPutsAgreeWithASet) {
  Random random(7);
  for (const uint32_t id : {1u, 2u, 5u, 16u, 17u, 33u, 56u, 72u}) {
    for (const uint32_t index : {0u, 9u}) {
      hak_slab *slab = Format(index, id);
      std::set<uint32_t> live, free;
      std::vector<void *> out(slab->capacity);
      for (int op = 0; op < hak_unit::Operations(600); op++) {
        const uint32_t want = random.Below(random.OneIn(8) ? slab->capacity + 1 : 40);
        switch (random.Below(4)) {
          case 0: {
            const uint32_t carved = hak_slab_carved(slab);
            const uint32_t got = hak_slab_carve(slab, out.data(), std::min(want, slab->capacity));
            ASSERT_EQ(got, std::min(want, slab->capacity - carved));
            for (uint32_t i = 0; i < got; i++) {
              ASSERT_TRUE(live.insert(hak_slab_block_index(slab, out[i])).second);
            }
            break;
          }
          case 1: {
            const uint32_t got = hak_slab_take_free(slab, out.data(), std::min(want, slab->capacity));
            ASSERT_EQ(got, std::min<size_t>(want, free.size()));
            for (uint32_t i = 0; i < got; i++) {
              const uint32_t block = hak_slab_index_of_freed(slab, out[i]);
              ASSERT_EQ(hak_slab_block(slab, block), out[i]);
              ASSERT_EQ(free.erase(block), 1u);
              ASSERT_TRUE(live.insert(block).second);
            }
            break;
          }
          default:
            for (uint32_t i = 0; i < want && !live.empty(); i++) {
              auto at = live.lower_bound(random.Below(slab->capacity));
              if (at == live.end()) at = live.begin();
              ASSERT_TRUE(hak_slab_put(slab, *at));
              ASSERT_FALSE(hak_slab_put(slab, *at)) << "a block that is free already";
              free.insert(*at);
              live.erase(at);
            }
        }
        ASSERT_EQ(hak_slab_free_count(slab), free.size());
        ASSERT_EQ(hak_slab_carved(slab), free.size() + live.size());
        ASSERT_EQ(hak_slab_list_for(slab), NaiveList(slab, free.size()));
        for (uint32_t i = 0; i < slab->capacity; i++) ASSERT_EQ(hak_slab_bit(slab, i), free.count(i) == 1) << i;
        for (uint32_t word = 0; word < slab->first_word; word++) ASSERT_EQ(slab->free[word], 0u);
      }
    }
  }
}

TEST_F(Slab, FormattingForgetsTheClassBefore) {
  hak_slab *slab = Format(4, 1);
  std::vector<void *> out(slab->capacity);
  ASSERT_EQ(hak_slab_carve(slab, out.data(), slab->capacity), slab->capacity);
  for (uint32_t i = 0; i < slab->capacity; i++) ASSERT_TRUE(hak_slab_put(slab, i));
  slab = Format(4, 50);
  EXPECT_EQ(hak_slab_take_free(slab, out.data(), 100), 0u);
  for (uint32_t i = 0; i < slab->capacity; i++) EXPECT_FALSE(hak_slab_bit(slab, i));
}

// One block in use: the pages that it and its header touch keep their memory, and all others return theirs.
// Tried for both blocks at each border of two pages, in every class.
TEST_F(Slab, APurgeLeavesOutThePagesOfABlockInUse) {
  const size_t page = hak_os_page_size();
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    const size_t stride = hak_class_stride(id);
    std::set<uint32_t> in_use;
    for (size_t distance = 0; distance <= HAK_SLAB_SIZE; distance += page) {
      if (distance != 0) in_use.insert(static_cast<uint32_t>((distance - 1) / stride));
      in_use.insert(static_cast<uint32_t>(distance / stride));
    }
    for (const uint32_t used : in_use) {
      hak_slab *slab = Format(7, id);
      if (used >= slab->capacity) continue;
      std::vector<void *> out(slab->capacity);
      ASSERT_EQ(hak_slab_carve(slab, out.data(), slab->capacity), slab->capacity);
      for (uint32_t i = 0; i < slab->capacity; i++) {
        ASSERT_TRUE(i == used || hak_slab_put(slab, i));
      }
      const char *block = static_cast<char *>(hak_slab_block(slab, used));
      memset(hak_slab_block(slab, used), 0x5A, hak_class_usable(id));
      size_t expected = 0;
      const char *const lowest = static_cast<char *>(hak_slab_block(slab, slab->capacity - 1)) - HAK_HEADER_BYTES;
      for (const char *at = hak_slab_start(slab); at < hak_slab_end(slab); at += page) {
        const bool is_touched = at < block + stride && at + page > block - HAK_HEADER_BYTES;
        // A page in front of all blocks was never touched.
        if (at + page > lowest && !is_touched) expected += page;
      }
      uint32_t runs = HAK_SLAB_SIZE;
      ASSERT_EQ(hak_slab_purge(slab, &runs), expected) << "class " << id << ", block " << used;
      for (size_t i = 0; i < hak_class_usable(id); i++) ASSERT_EQ(block[i], 0x5A) << id << ' ' << used;
      ASSERT_TRUE(hak_slab_purge_holds(slab));
      hak_slab_unpurge(slab);
      hak_slab_unformat(slab);
    }
  }
}

TEST_F(Slab, FreeingWhatIsNoCarvedBlockEndsTheProcess) {
  hak_slab *slab = Format(6, hak_class_of(100));
  void *out[4];
  ASSERT_EQ(hak_slab_carve(slab, out, 4), 4u);
  char *block = static_cast<char *>(out[0]);
  EXPECT_EQ(hak_slab_index_of_freed(slab, block), slab->capacity - 4);
  HAK_EXPECT_FATAL(hak_slab_index_of_freed(slab, block + 16), "invalid free", block + 16);
  HAK_EXPECT_FATAL(hak_slab_index_of_freed(slab, block + 1), "invalid free", block + 1);
  HAK_EXPECT_FATAL(hak_slab_index_of_freed(slab, block + slab->stride), "invalid free", block + slab->stride);
  // Below the lowest block the slab has a tail that is not a block. In slab 0 its distance is a multiple of the stride,
  // and a block there would lie in the head.
  slab = Format(0, hak_class_of(100));
  const std::vector<void *> room(slab->capacity);
  std::vector<void *> all = room;
  ASSERT_EQ(hak_slab_carve(slab, all.data(), slab->capacity), slab->capacity);
  char *below = static_cast<char *>(all.back()) - slab->stride;
  HAK_EXPECT_FATAL(hak_slab_index_of_freed(slab, below), "invalid free", below);
}

}  // namespace
