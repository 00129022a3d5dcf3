// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/page_purge.h"

#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <vector>

#include "allocator/block/block_check.h"
#include "allocator/block/block_tail.h"
#include "allocator/heap/freed_check.h"
#include "allocator/heap/heap_life.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/slab/slab_purged.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::Random;

constexpr uint64_t kDeadline = 1000;

// The tests pass the time to the code: nothing here sleeps.
class PagePurge : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  PagePurge() {
    hak_config = {};
    hak_config.decommit_deadline_ms = kDeadline;
    hak_config.keep_superslabs = 1;
    hak_config.thread_cache_bytes = size_t{4} << 20;
    hak_config.page_purge = true;
    heap_ = hak_heap_open();
  }
  ~PagePurge() override {
    Check();
    for (const auto &[block, byte] : live_) Put(block);
    hak_heap_close(heap_);
    EXPECT_EQ(hak_slab_purged_bytes(), 0u) << "slabs in the pool count as a whole";
    EXPECT_STREQ(hak_pool_verify(), nullptr);
    hak_config = {};
  }

  void Put(void *block) {
    hak_slab *slab = hak_slab_of(block);
    if (HAK_BLOCK_CHECKS) hak_block_check_in(block, slab->class_id);
    hak_heap_put(heap_, slab, block);
  }
  // The bytes of a block in front of its canary.
  static size_t Contents(uint32_t class_id) { return hak_class_usable(class_id) - HAK_TAIL_WIDE_BYTES; }
  // Takes `count` blocks and fills each with its own byte.
  void Grow(uint32_t class_id, uint32_t count) {
    while (count > 0) {
      void *out[64];
      const uint32_t got = hak_heap_take(heap_, class_id, out, std::min(count, 64u), nullptr);
      ASSERT_GT(got, 0u);
      for (uint32_t i = 0; i < got; i++) {
        const unsigned char byte = static_cast<unsigned char>(1 + live_.size() % 255);
        if (HAK_BLOCK_CHECKS) hak_block_require_unused(out[i], class_id);
        memset(out[i], byte, Contents(class_id));
        if (HAK_GUARDED) hak_tail_seal(out[i], hak_class_usable(class_id), Contents(class_id), HAK_KIND_MALLOC);
        if (HAK_BLOCK_CHECKS) tiny_region_id_set_live(out[i], class_id);
        live_[static_cast<unsigned char *>(out[i])] = byte;
      }
      count -= got;
    }
  }
  // Frees all blocks except every `keep`th.
  void Thin(size_t keep) {
    size_t number = 0;
    for (auto entry = live_.begin(); entry != live_.end();) {
      if (number++ % keep == 0) {
        ++entry;
        continue;
      }
      Put(entry->first);
      entry = live_.erase(entry);
    }
  }
  void Check() {
    EXPECT_STREQ(hak_heap_check(heap_), nullptr);
    hak_freed_require_untouched(heap_);
    for (const auto &[block, byte] : live_) {
      const size_t contents = Contents(hak_slab_of(block)->class_id);
      for (size_t i = 0; i < contents; i++) ASSERT_EQ(block[i], byte);
    }
  }
  // Does slices until one finds nothing, all at one time.
  size_t PurgeAt(uint64_t now) {
    const uint64_t before = hak_slab_purged_bytes();
    for (int idle = 0; idle < 200; idle++) {
      if (hak_page_purge(heap_, now)) idle = 0;
    }
    return hak_slab_purged_bytes() - before;
  }
  // Whether the page, in a superslab of live blocks, has memory.
  static bool Resident(const void *page) {
    unsigned char flag = 0;
    EXPECT_EQ(mincore(const_cast<void *>(page), 1, &flag), 0);
    return (flag & 1) != 0;
  }

  hak_heap *heap_;
  std::map<unsigned char *, unsigned char> live_;
};

uint32_t ClassOf(size_t stride) { return hak_class_of(stride - HAK_HEADER_BYTES); }

TEST_F(PagePurge, GivesFreePagesBackAfterTheDeadlineAndNotBefore) {
  const uint32_t class_id = ClassOf(512);
  Grow(class_id, 20000);
  Thin(100);
  EXPECT_EQ(PurgeAt(5000), 0u) << "the first pass";
  EXPECT_EQ(PurgeAt(5000 + kDeadline - 1), 0u);
  const size_t bytes = PurgeAt(5000 + kDeadline + kDeadline / 2);
  // A hundredth of the blocks is live, and each of these keeps one or two pages.
  EXPECT_GT(bytes, size_t{20000} * 512 / 2);
  const size_t page = hak_os_page_size();
  size_t without = 0;
  for (const auto &[block, byte] : live_) {
    const uintptr_t next = (reinterpret_cast<uintptr_t>(block) & ~(page - 1)) + 2 * page;
    if (hak_superslab_of(reinterpret_cast<void *>(next)) != hak_superslab_of(block)) continue;
    without += !Resident(reinterpret_cast<void *>(next));
  }
  EXPECT_GT(without, live_.size() / 2);
  Check();  // Only now: it reads returned pages.
  EXPECT_EQ(PurgeAt(5000 + 3 * kDeadline), 0u) << "returned pages are not returned again";
}

TEST_F(PagePurge, MemoryThatIsUsedAgainCountsAgain) {
  const uint32_t class_id = ClassOf(1024);
  Grow(class_id, 10000);
  Thin(50);
  EXPECT_GT(hak_page_purge_all(heap_), 0u);
  const uint64_t purged = hak_slab_purged_bytes();
  Grow(class_id, 3000);
  EXPECT_LT(hak_slab_purged_bytes(), purged);
  Check();
  Thin(70);
  EXPECT_GT(hak_page_purge_all(heap_), 0u);
  Check();
}

// Of a slab with some live blocks every page goes back that holds none of their bytes and no header of theirs.
TEST_F(PagePurge, ExactlyThePagesWithoutALiveBlockGoBack) {
  const size_t page = hak_os_page_size();
  for (const size_t stride : {size_t{16}, size_t{48}, size_t{512}, size_t{528}, size_t{3072}, size_t{12288}}) {
    const uint32_t class_id = ClassOf(stride);
    Grow(class_id, static_cast<uint32_t>(40 * HAK_SLAB_SIZE / stride));
    Thin(2 * HAK_SLAB_SIZE / stride / 3);
    hak_page_purge_all(heap_);
    std::map<const hak_slab *, uint32_t> kept;
    for (const auto &[block, byte] : live_) {
      const hak_slab *slab = hak_slab_of(block);
      if (slab->class_id != class_id) continue;
      const size_t at = static_cast<size_t>(reinterpret_cast<char *>(block) - hak_slab_start(slab));
      for (size_t number = (at - HAK_HEADER_BYTES) / page; number <= (at + slab->stride - 1) / page; number++) {
        kept[slab] |= 1u << number;
      }
    }
    ASSERT_GT(kept.size(), 10u) << stride;
    for (const auto &[slab, pages] : kept) {
      // The lowest page may belong to the superslab's head in part; a slab that was not carved to the end has fresh
      // ones.
      if (slab->index == 0 || hak_slab_carved(slab) < slab->capacity) continue;
      EXPECT_EQ(slab->purged, ((1u << hak_slab_pages()) - 1) & ~pages) << stride;
    }
  }
}

// The headers and the poison of free blocks are lost with their page. Any part of the page may be used again, while
// the rest of it stays away.
TEST_F(PagePurge, BlocksOfPurgedPagesAreUsedAgainOneByOne) {
  Random random(3);
  for (const size_t stride : {size_t{16}, size_t{48}, size_t{1024}, size_t{5120}}) {
    const uint32_t class_id = ClassOf(stride);
    Grow(class_id, static_cast<uint32_t>(4 * HAK_SLAB_SIZE / stride));
    Thin(1 + HAK_SLAB_SIZE / stride / 2);
    ASSERT_GT(hak_page_purge_all(heap_), 0u) << stride;
    Check();
    for (int step = 0; step < 200; step++) {
      const uint64_t purged = hak_slab_purged_bytes();
      Grow(class_id, 1);
      // What a single block of a slab needs: its pages, and with headers the page with its own one.
      if (HAK_BLOCK_CHECKS) {
        EXPECT_LE(purged - hak_slab_purged_bytes(), hak_class_stride(class_id) + 2 * hak_os_page_size());
      }
      if (random.OneIn(8)) Check();
    }
    Check();
  }
}

// Freed blocks are checked when their page was not purged, however close it is to one that was.
TEST_F(PagePurge, ChecksGoOnBesidePurgedPages) {
  if (!HAK_POISON_ON) return;
  const uint32_t class_id = ClassOf(512);
  Grow(class_id, 1000);
  Thin(40);
  ASSERT_GT(hak_page_purge_all(heap_), 0u);
  size_t checked = 0;
  for (const auto &[block, byte] : live_) {
    unsigned char *const freed = block + 512;
    const hak_slab *slab = hak_slab_of(block);
    if (reinterpret_cast<uintptr_t>(freed) % hak_os_page_size() + 512 > hak_os_page_size()) continue;
    if (hak_slab_of(freed) != slab || hak_slab_block_index(slab, freed) >= slab->capacity) continue;
    if (tiny_region_id_state(freed, class_id) != HAK_REGION_IS_FREE) continue;
    freed[100] ^= 1;
    HAK_EXPECT_FATAL(hak_freed_require_untouched(heap_), "write after free", freed);
    freed[100] ^= 1;
    if (++checked == 4) break;
  }
  EXPECT_GT(checked, 0u);
}

// A block that is freed twice is found where its header is gone, too.
TEST_F(PagePurge, HeadersOfPurgedPagesSayNothing) {
  if (!HAK_BLOCK_CHECKS) return;
  const uint32_t class_id = ClassOf(512);
  Grow(class_id, 1000);
  std::vector<unsigned char *> freed;
  size_t number = 0;
  for (const auto &[block, byte] : live_) {
    if (number++ % 100 != 0) freed.push_back(block);
  }
  Thin(100);
  ASSERT_GT(hak_page_purge_all(heap_), 0u);
  size_t purged = 0;
  for (unsigned char *block : freed) {
    const bool gone = hak_slab_header_is_purged(hak_slab_of(block), block);
    purged += gone;
    EXPECT_NE(tiny_region_id_state(block, class_id), HAK_REGION_IS_LIVE);
  }
  EXPECT_GT(purged, freed.size() / 2);
  for (const auto &[block, byte] : live_) EXPECT_FALSE(hak_slab_header_is_purged(hak_slab_of(block), block));
}

// A large heap takes several slices, and the pass ends; the heap may change in between.
TEST_F(PagePurge, AWholePassIsCutIntoSlices) {
  const uint32_t class_id = ClassOf(1024);
  Grow(class_id, 10000);
  Thin(50);
  size_t bytes = 0;
  int slices = 1;
  ASSERT_TRUE(hak_page_purge_begin(heap_));
  for (; hak_page_purge_step(heap_, &bytes) && slices < 1000; slices++) Grow(class_id, 1);
  EXPECT_GT(slices, 3);
  EXPECT_LT(slices, 1000);
  EXPECT_GT(bytes, size_t{10000} * 1024 / 2);
  EXPECT_FALSE(hak_page_purge_step(heap_, &bytes));
}

// A thread waits for the heap's lock: one slice is done, and no more.
TEST_F(PagePurge, AWaiterEndsThePass) {
  Grow(ClassOf(1024), 10000);
  Thin(50);
  heap_->lock.state = 2;
  const size_t some = hak_page_purge_all(heap_);
  heap_->lock.state = 0;
  EXPECT_GT(hak_page_purge_all(heap_), some);
}

TEST_F(PagePurge, ASlabThatChangesIsLeftAlone) {
  const uint32_t class_id = ClassOf(512);
  Grow(class_id, 20000);
  Thin(100);
  PurgeAt(1000);
  // In every slab one more block is in use.
  for (uint64_t now = 2000; now < 6000; now += 600) {
    std::vector<unsigned char *> first;
    const hak_slab *last = nullptr;
    for (const auto &[block, byte] : live_) {
      if (hak_slab_of(block) != last) first.push_back(block);
      last = hak_slab_of(block);
    }
    if (first.size() < 20) break;
    for (unsigned char *block : first) {
      Put(block);
      live_.erase(block);
    }
    EXPECT_EQ(PurgeAt(now), 0u) << now;
  }
}

TEST_F(PagePurge, LittleFreeMemoryIsNotWorthAPass) {
  const uint32_t class_id = ClassOf(512);
  Grow(class_id, 3000);  // 1.5 MiB: below the least
  Thin(100);
  PurgeAt(1000);
  const size_t first = PurgeAt(3000);
  // The trickle: one run of pages every few seconds.
  EXPECT_LE(first, HAK_SLAB_SIZE);
  EXPECT_EQ(PurgeAt(3001), 0u);
  size_t later = 0;
  for (uint64_t now = 10000; now < 100000; now += 1000) later += PurgeAt(now);
  EXPECT_GT(first + later, 2 * hak_os_page_size());
  Check();
}

TEST_F(PagePurge, SwitchedOffItDoesNothing) {
  hak_config.page_purge = false;
  Grow(ClassOf(512), 20000);
  Thin(100);
  EXPECT_EQ(PurgeAt(1000) + PurgeAt(9000), 0u);
  EXPECT_EQ(hak_page_purge_all(heap_), 0u);
}

TEST_F(PagePurge, ADecommitThatFailsLeavesThePageAsItIs) {
  Grow(ClassOf(512), 5000);
  Thin(100);
  {
    const FaultPlan plan(HAK_FAULT_DECOMMIT);
    EXPECT_EQ(hak_page_purge_all(heap_), 0u);
  }
  EXPECT_EQ(hak_slab_purged_bytes(), 0u);
  Check();
  EXPECT_GT(hak_page_purge_all(heap_), 0u);
}

// All classes, at random: contents stay, records are correct.
TEST_F(PagePurge, RandomUseOfAllClasses) {
  Random random(7);
  for (int round = 0; round < hak_unit::Operations(60); round++) {
    const uint32_t class_id = 1 + random.Below(HAK_CLASS_COUNT - 1);
    Grow(class_id, 1 + random.Below(static_cast<uint32_t>(400000 / hak_class_stride(class_id)) + 1));
    if (random.OneIn(2)) Thin(2 + random.Below(40));
    if (random.OneIn(2)) hak_page_purge_all(heap_);
    if (round % 8 == 0) Check();
    ASSERT_FALSE(HasFailure());
  }
}

}  // namespace
