// SPDX-License-Identifier: Apache-2.0
//
// Positive controls: each test breaks one invariant that hak_verify checks, and hak_verify must report it in these
// words.
#include "allocator/observe/verify.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "allocator/heap/give_back.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/meta/meta.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/free_runs.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_pool_stats.h"

namespace {

constexpr uint32_t kClass = 4;

// Changes a value for the duration of a scope.
template <typename T>
class Changed {
 public:
  Changed(T *place, T value) : place_(place), old_(*place) { *place = value; }
  Changed(const Changed &) = delete;
  Changed &operator=(const Changed &) = delete;
  ~Changed() { *place_ = old_; }

 private:
  T *place_;
  T old_;
};

class Verify : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  Verify() {
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.mapping_cache_bytes = size_t{32} << 20;
    hak_config.thread_cache_bytes = size_t{4} << 20;
    heap_ = hak_heap_open();
    void *out[64];
    EXPECT_EQ(hak_heap_take(heap_, kClass, out, 64, nullptr), 64u);
    blocks_.assign(out, out + 64);
    slab_ = hak_slab_of(out[0]);
    for (size_t i = 32; i < 64; i++) hak_heap_put(heap_, slab_, out[i]);
    // And some in the cache.
    for (size_t i = 0; i < 8; i++) hak_thread_cache_overflow(heap_, kClass, blocks_[i]);
    bin_ = &heap_->cache.bins[kClass];
    base_ = atomic_load_explicit(&bin_->base, memory_order_relaxed);
    superslab_ = hak_superslab_of_slab(slab_);
    Expect(nullptr);
  }
  ~Verify() override {
    Expect(nullptr);
    hak_give_back(heap_, blocks_.data() + 8, 24);
    hak_heap_close(heap_);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
  }

  void Expect(const char *fault) { EXPECT_STREQ(hak_verify(heap_), fault); }
  uint32_t Index(size_t block) { return hak_slab_block_index(slab_, blocks_[block]); }

  template <typename T>
  class ChangedAtomic {
   public:
    ChangedAtomic(HAK_ATOMIC(T) * place, T value) : place_(place), old_(place->exchange(value)) {}
    ChangedAtomic(const ChangedAtomic &) = delete;
    ChangedAtomic &operator=(const ChangedAtomic &) = delete;
    ~ChangedAtomic() { place_->store(old_); }

   private:
    HAK_ATOMIC(T) * place_;
    T old_;
  };

  hak_heap *heap_;
  std::vector<void *> blocks_;  // 0..7 cached, 8..31 live, 32..63 free in the slab
  hak_slab *slab_;
  hak_superslab *superslab_;
  hak_bin *bin_;
  void **base_;
};

TEST_F(Verify, WithoutAHeapTheSharedRecordsAreChecked) {
  EXPECT_STREQ(hak_verify(nullptr), nullptr);
  const Changed<uint32_t> changed(&superslab_->free_mask, superslab_->free_mask ^ (1u << 20));
  EXPECT_NE(hak_verify(nullptr), nullptr);
}

TEST_F(Verify, AFlippedBitOfALiveBlock) {
  const uint32_t index = Index(10);
  const Changed<uint64_t> changed(&slab_->free[index / 64], slab_->free[index / 64] ^ uint64_t{1} << index % 64);
  Expect("free blocks of a slab miscounted");
}

TEST_F(Verify, AFlippedBitOfAFreeBlock) {
  const uint32_t index = Index(40);
  const Changed<uint64_t> changed(&slab_->free[index / 64], slab_->free[index / 64] ^ uint64_t{1} << index % 64);
  Expect("free blocks of a slab miscounted");
}

TEST_F(Verify, ABitThatMovedToABlockNeverCarved) {
  const uint32_t index = Index(40);
  const Changed<uint64_t> gone(&slab_->free[index / 64], slab_->free[index / 64] ^ uint64_t{1} << index % 64);
  const Changed<uint64_t> came(&slab_->free[2], slab_->free[2] | 2);
  const Changed<uint32_t> first(&slab_->first_word, 0);
  Expect("free block that was never carved");
}

TEST_F(Verify, ABitThatMovedToACachedBlock) {
  const uint32_t from = Index(40), to = Index(3);
  const Changed<uint64_t> gone(&slab_->free[from / 64], slab_->free[from / 64] ^ uint64_t{1} << from % 64);
  const Changed<uint64_t> came(&slab_->free[to / 64], slab_->free[to / 64] ^ uint64_t{1} << to % 64);
  Expect("cached block that is free in its slab, or cached twice");
}

TEST_F(Verify, AFreeBlockBelowTheFirstWord) {
  const Changed<uint32_t> changed(&slab_->first_word, (slab_->capacity + 63) / 64);
  Expect("free block below the first word");
}

TEST_F(Verify, WrongCounts) {
  {
    const ChangedAtomic<uint32_t> changed(&slab_->free_count, 31);
    Expect("free blocks of a slab miscounted");
  }
  {
    const ChangedAtomic<uint32_t> changed(&slab_->carved, slab_->capacity + 1);
    EXPECT_NE(hak_verify(heap_), nullptr);
  }
  {
    const ChangedAtomic<uint32_t> changed(&slab_->carved, 8);
    Expect("free block that was never carved");
  }
  {
    HAK_ATOMIC(uint32_t) *with_room = &heap_->classes[kClass].with_room;
    const ChangedAtomic<uint32_t> changed(with_room, with_room->load() + 1);
    Expect("slabs miscounted");
  }
  {
    HAK_ATOMIC(uint32_t) *free_blocks = &heap_->classes[kClass].free_blocks;
    const ChangedAtomic<uint32_t> changed(free_blocks, free_blocks->load() - 1);
    Expect("free blocks of a class miscounted");
  }
  {
    const Changed<uint64_t> changed(&heap_->slabs, heap_->slabs + 1);
    Expect("slabs of a heap miscounted");
  }
}

TEST_F(Verify, TheWrongList) {
  {
    const Changed<uint8_t> changed(&slab_->list, static_cast<uint8_t>(HAK_LIST_FULL));
    Expect("slab on the wrong list");
  }
  hak_slab **lists = heap_->classes[kClass].lists;
  const Changed<hak_slab *> from(&lists[HAK_LIST_CARVE], nullptr);
  const Changed<hak_slab *> to(&lists[HAK_LIST_MANY], slab_);
  Expect("slab on the wrong list");
}

TEST_F(Verify, AListWithABrokenLink) {
  // More full slabs of the class.
  std::vector<void *> more(4 * HAK_SLAB_SIZE / hak_class_stride(kClass));
  for (uint32_t got = 0; got < more.size();) {
    got += hak_heap_take(heap_, kClass, more.data() + got, static_cast<uint32_t>(more.size()) - got, nullptr);
  }
  hak_slab *head = heap_->classes[kClass].lists[HAK_LIST_FULL];
  ASSERT_NE(head, nullptr);
  ASSERT_NE(head->next, nullptr);
  Expect(nullptr);
  {
    const Changed<hak_slab *> changed(&head->next->prev, nullptr);
    Expect("slab list with a broken link");
  }
  hak_give_back(heap_, more.data(), static_cast<uint32_t>(more.size()));
  hak_heap_release_empty(heap_);
}

TEST_F(Verify, TheWrongClassOrOwner) {
  {
    const Changed<uint8_t> changed(&slab_->class_id, static_cast<uint8_t>(kClass + 1));
    EXPECT_NE(hak_verify(heap_), nullptr);
    EXPECT_STREQ(hak_heap_check(heap_), "slab of another class on a class's list");
  }
  const ChangedAtomic<hak_heap *> changed(&slab_->owner, &hak_orphanage);
  Expect("slab of another owner on a heap's list");
}

TEST_F(Verify, TheOrphanageIsCheckedToo) {
  hak_heap *other = hak_heap_open();
  void *out[4];
  ASSERT_EQ(hak_heap_take(other, 9, out, 4, nullptr), 4u);
  hak_slab *orphan = hak_slab_of(out[0]);
  hak_heap_close(other);
  Expect(nullptr);
  {
    const ChangedAtomic<uint32_t> changed(&orphan->free_count, 1);
    EXPECT_STREQ(hak_verify(nullptr), "free blocks of a slab miscounted");
  }
  hak_give_back(heap_, out, 4);
}

TEST_F(Verify, TheSlabMap) {
  hak_slab_map_set(hak_slab_begin(slab_), 1, kClass + 1);
  Expect("slab map and slab disagree");
  hak_slab_map_set(hak_slab_begin(slab_), 1, HAK_CLASS_NONE);
  Expect("slab map and slab disagree");
  hak_slab_map_set(hak_slab_begin(slab_), 1, kClass);
}

TEST_F(Verify, ThePoolsRecords) {
  const uint32_t bit = 1u << slab_->index;
  {
    const Changed<uint32_t> changed(&superslab_->free_mask, superslab_->free_mask | bit);
    EXPECT_NE(hak_verify(heap_), nullptr);
  }
  {
    // Exchanges one bit for another, so that the superslab is still on the right list.
    const uint32_t free_bit = superslab_->free_mask & ~(superslab_->free_mask - 1) & ~1u;
    ASSERT_NE(free_bit, 0u);
    ASSERT_NE(bit, 1u << 31);
    const Changed<uint32_t> changed(&superslab_->free_mask, superslab_->free_mask ^ free_bit ^ bit);
    Expect(slab_->index == 0 ? "superslab on the wrong list" : "free mask and slab disagree");
  }
  {
    const Changed<uint32_t> changed(&superslab_->dirty_mask, superslab_->dirty_mask | 1u << 30);
    const Changed<bool> unwatched(&superslab_->queued, false);
    Expect("free memory that no deadline watches");
  }
  const Changed<uint8_t> changed(&slab_->index, static_cast<uint8_t>(slab_->index ^ 1));
  Expect("slab with a wrong number");
}

TEST_F(Verify, TheThreadCache) {
  int foreign;
  {
    const Changed<void *> changed(&base_[3], &foreign);
    Expect("cached block of another class");
  }
  {
    const Changed<void *> changed(&base_[3], static_cast<char *>(base_[3]) + 16);
    Expect("cached pointer inside a block");
  }
  {
    const Changed<void *> changed(&base_[3], hak_slab_block(slab_, 0));
    Expect("cached block that was never carved");
  }
  {
    const Changed<void *> changed(&base_[3], blocks_[40]);
    Expect("cached block that is free in its slab, or cached twice");
  }
  {
    const Changed<void *> changed(&base_[1], blocks_[10]);
    Expect("thread cache without its end marks");
  }
  {
    const ChangedAtomic<void **> changed(&bin_->top, base_);
    Expect("thread cache beyond its bounds");
  }
  const ChangedAtomic<void **> changed(&bin_->top, bin_->limit + 1);
  Expect("thread cache beyond its bounds");
}

// The result of a double free: the same block is in the cache twice.
TEST_F(Verify, ABlockThatIsCachedTwice) {
  const Changed<void *> changed(&base_[3], base_[6]);
  EXPECT_NE(hak_verify(heap_), nullptr);
}

TEST_F(Verify, ThePageHeap) {
  const size_t page = hak_os_page_size();
  const auto take = [page](size_t size) {
    struct hak_page_request request = {};
    request.size = size;
    request.align = page;
    request.grow = true;
    return hak_page_heap_take(&request);
  };
  void *first = take(size_t{1} << 20);
  void *second = take(size_t{1} << 20);
  ASSERT_TRUE(first != nullptr && second != nullptr);
  hak_mapping_lock();
  hak_run *live = hak_page_map_run(first);
  hak_mapping_unlock();
  ASSERT_EQ(live->start, first);
  Expect(nullptr);
  {
    const Changed<size_t> changed(&live->size, live->size + 1);
    Expect("run off page boundaries");
  }
  {
    const Changed<char *> changed(&live->start, live->start + page);
    Expect("run that the page map does not know");
  }
  {
    const Changed<uint32_t> changed(&live->front, 64);
    Expect("blocks of pages miscounted");
  }
  ASSERT_TRUE(hak_page_heap_give(first));
  hak_mapping_lock();
  hak_run *free = hak_run_oldest_dirty();
  hak_mapping_unlock();
  ASSERT_NE(free, nullptr);
  Expect(nullptr);
  {
    const Changed<size_t> changed(&free->dirty, free->dirty - page);
    Expect("free run miscounted");
  }
  {
    const Changed<uint64_t> changed(&free->freed_ms, free->freed_ms);
    const Changed<hak_run *> unqueued(&free->newer, free);
    const Changed<uint8_t> taken(&free->state, HAK_RUN_LIVE);
    EXPECT_NE(hak_verify(heap_), nullptr);
  }
  EXPECT_TRUE(hak_page_heap_give(second));
  Expect(nullptr);
  hak_page_heap_trim();
}

}  // namespace
