// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/move_hint.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "allocator/heap/heap_life.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"

namespace {

using hak_unit::Random;

constexpr uint32_t kClass = 8;  // 128 bytes

// Several heaps may belong to one thread as long as it is the only thread.
class MoveHint : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  MoveHint() {
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    heap_ = hak_heap_open();
  }
  ~MoveHint() override {
    for (auto &[slab, live] : slabs_) {
      for (void *block : live) hak_heap_put(OwnerOf(slab), slab, block);
    }
    EXPECT_EQ(hak_heap_check(heap_), nullptr);
    hak_heap_close(heap_);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
    EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
  }

  static hak_heap *OwnerOf(const hak_slab *slab) { return atomic_load_explicit(&slab->owner, memory_order_relaxed); }

  // Takes `count` slabs from the heap, all of whose blocks are live, and all of which have the same number of blocks.
  std::vector<hak_slab *> FullSlabs(hak_heap *heap, size_t count, uint32_t class_id = kClass) {
    std::vector<hak_slab *> full;
    void *block;
    while ((full.size() < count || heap->classes[class_id].lists[HAK_LIST_CARVE] != nullptr) &&
           hak_heap_take(heap, class_id, &block, 1, nullptr) == 1) {
      hak_slab *slab = hak_slab_of(block);
      slabs_[slab].push_back(block);
      // A superslab's first slab has less room.
      if (slabs_[slab].size() == slab->capacity && slab->index != 0) full.push_back(slab);
    }
    EXPECT_EQ(full.size(), count);
    return full;
  }
  // Frees so many of a hundred blocks of the slab.
  void FreeShare(hak_slab *slab, unsigned percent) {
    for (size_t count = (slab->capacity * percent + 50) / 100; count > 0; count--) {
      hak_heap_put(OwnerOf(slab), slab, slabs_[slab].back());
      slabs_[slab].pop_back();
    }
  }
  bool Helps(hak_slab *slab) { return hak_move_helps(heap_, slabs_[slab].front()); }

  hak_heap *heap_;
  std::map<hak_slab *, std::vector<void *>> slabs_;  // the live blocks of each
};

TEST_F(MoveHint, FullSlabsStay) {
  for (hak_slab *slab : FullSlabs(heap_, 3)) EXPECT_FALSE(Helps(slab));
}

TEST_F(MoveHint, AnEighthOfASlabIsNotWorthIt) {
  const std::vector<hak_slab *> slabs = FullSlabs(heap_, 20);
  for (hak_slab *slab : slabs) FreeShare(slab, 12);
  for (hak_slab *slab : slabs) EXPECT_FALSE(Helps(slab));
  // One that is sparser is worth it.
  FreeShare(slabs[7], 2);
  for (hak_slab *slab : slabs) EXPECT_EQ(Helps(slab), slab == slabs[7]);
}

TEST_F(MoveHint, OnlySlabsSparserThanTheAverageOfTheOthersButTheSource) {
  const std::vector<hak_slab *> slabs = FullSlabs(heap_, 6);
  FreeShare(slabs[0], 20);  // the fullest: the source
  FreeShare(slabs[1], 40);
  FreeShare(slabs[2], 80);
  EXPECT_FALSE(Helps(slabs[0]));
  EXPECT_FALSE(Helps(slabs[1])) << "60 in 100 are free in the average slab";
  EXPECT_TRUE(Helps(slabs[2]));
  for (size_t i = 3; i < 6; i++) EXPECT_FALSE(Helps(slabs[i]));
}

// All slabs are alike: all but one can be moved.
TEST_F(MoveHint, AlikeSlabsAllMoveButTheSource) {
  const std::vector<hak_slab *> slabs = FullSlabs(heap_, 5);
  for (hak_slab *slab : slabs) FreeShare(slab, 30);
  size_t moving = 0;
  for (hak_slab *slab : slabs) moving += Helps(slab);
  EXPECT_EQ(moving, 4u);
}

// The source is the sparsest slab, which it may be among slabs of which more than a half is free.
TEST_F(MoveHint, ASparseSourceDoesNotKeepTheOthers) {
  const std::vector<hak_slab *> slabs = FullSlabs(heap_, 4);
  for (size_t i = 0; i < 3; i++) FreeShare(slabs[i], 55);
  FreeShare(slabs[3], 95);  // put on the list last, so it is the first one there
  EXPECT_EQ(heap_->classes[kClass].lists[HAK_LIST_MOST], slabs[3]);
  EXPECT_FALSE(Helps(slabs[3]));
  for (size_t i = 0; i < 3; i++) EXPECT_TRUE(Helps(slabs[i]));
}

TEST_F(MoveHint, NotUnlessASlabCanBecomeFree) {
  const std::vector<hak_slab *> slabs = FullSlabs(heap_, 4);
  FreeShare(slabs[0], 30);
  FreeShare(slabs[1], 60);
  EXPECT_FALSE(Helps(slabs[1])) << "nine tenths of a slab are free";
  FreeShare(slabs[2], 20);
  EXPECT_TRUE(Helps(slabs[1]));
}

TEST_F(MoveHint, OtherClassesDoNotCount) {
  constexpr uint32_t kOther = 12;
  const std::vector<hak_slab *> slabs = FullSlabs(heap_, 2);
  const std::vector<hak_slab *> others = FullSlabs(heap_, 4, kOther);
  FreeShare(slabs[0], 20);
  FreeShare(slabs[1], 60);
  for (hak_slab *slab : others) FreeShare(slab, 70);
  EXPECT_FALSE(Helps(slabs[1]));
}

TEST_F(MoveHint, SlabsOfAnotherHeap) {
  hak_heap *other = hak_heap_open();
  const std::vector<hak_slab *> slabs = FullSlabs(other, 4);
  FreeShare(slabs[0], 45);
  FreeShare(slabs[1], 20);
  EXPECT_FALSE(Helps(slabs[0])) << "no slab of the other heap can become free";
  FreeShare(slabs[2], 45);
  EXPECT_FALSE(Helps(slabs[0])) << "it is not worth a new slab";
  EXPECT_FALSE(Helps(slabs[1])) << "it is fuller than the average";
  FreeShare(slabs[0], 15);
  EXPECT_TRUE(Helps(slabs[0])) << "it is worth a new slab";
  // The heap has a slab with room.
  const std::vector<hak_slab *> mine = FullSlabs(heap_, 1);
  FreeShare(mine[0], 10);
  EXPECT_TRUE(Helps(slabs[0]));
  EXPECT_TRUE(Helps(slabs[2]));
  EXPECT_FALSE(Helps(slabs[1]));
  hak_heap_close(other);
  EXPECT_EQ(OwnerOf(slabs[0]), &hak_orphanage);
  EXPECT_TRUE(Helps(slabs[0])) << "its thread has ended";
  EXPECT_FALSE(Helps(slabs[1]));
}

// Moves all that helps, over and over: this ends, and nearly no free blocks remain.
TEST_F(MoveHint, MovesComeToAnEnd) {
  Random random(7);
  for (const uint32_t class_id : {1u, 5u, 16u, 30u, 49u}) {
    FullSlabs(heap_, 12, class_id);
    std::vector<void *> blocks;
    for (auto &[slab, of_slab] : slabs_) {
      const uint32_t keep = random.Below(100);
      for (void *block : of_slab) {
        if (random.Below(100) < keep) {
          blocks.push_back(block);
        } else {
          hak_heap_put(heap_, slab, block);
        }
      }
    }
    slabs_.clear();
    const size_t live = blocks.size();
    size_t moves = 0;
    for (size_t before = 1; moves != before;) {
      before = moves;
      for (void *&block : blocks) {
        if (!hak_move_helps(heap_, block)) continue;
        void *now = hak_thread_cache_take_past(heap_, class_id);
        ASSERT_NE(now, nullptr);
        ASSERT_NE(hak_slab_of(now), hak_slab_of(block));
        hak_thread_cache_give_past(heap_, block);
        block = now;
        moves++;
      }
      ASSERT_EQ(hak_heap_check(heap_), nullptr);
      ASSERT_LE(moves, live) << "a block moved twice";
    }
    hak_heap_release_empty(heap_);
    const size_t capacity = (HAK_SLAB_SIZE - HAK_HEADER_BYTES) / hak_class_stride(class_id);
    // What is left: less than a slab, or at most an eighth of each.
    EXPECT_LE(heap_->slabs, live * 8 / 7 / capacity + 3) << class_id;
    for (void *block : blocks) hak_heap_put(heap_, hak_slab_of(block), block);
    hak_heap_release_empty(heap_);
  }
}

}  // namespace
