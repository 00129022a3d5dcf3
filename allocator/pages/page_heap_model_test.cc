// SPDX-License-Identifier: Apache-2.0
//
// Random calls against a model, also while calls of the kernel fail, and from many threads.
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/pages/colour.h"
#include "allocator/pages/free_runs.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "allocator/pages/unit_test.h"
#include "allocator/policy/config.h"

namespace {

using hak_unit::Give;
using hak_unit::IsZero;
using hak_unit::kHour;
using hak_unit::kMiB;
using hak_unit::kPage;
using hak_unit::PageHeap;
using hak_unit::Random;
using hak_unit::Resize;
using hak_unit::SizeOf;
using hak_unit::Take;

struct Held {
  size_t size = 0;
  uint32_t front = 0;
  uint64_t mark = 0;
};

// The first word and the last word of every page; on the first page, the first word of the block.
template <typename Visit>
void EachMark(char *block, const Held &held, const Visit &visit) {
  visit(block);
  char *const end = block - held.front + held.size;
  for (char *page = block - held.front + HAK_PAGE_SIZE; page < end; page += HAK_PAGE_SIZE) visit(page);
  visit(end - sizeof(uint64_t));
}

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) {}
  ~Model() {
    for (const auto &held : held_) hak_page_heap_give(held.first);
  }

  void Step(bool faults) {
    const uint32_t choice = random_.Below(16);
    if (choice < 7) {
      TakeOne(faults);
    } else if (choice < 11) {
      GiveOne();
    } else if (choice < 14) {
      ResizeOne();
    } else if (choice == 14) {
      if (random_.OneIn(8)) hak_page_heap_trim();
    } else {
      hak_page_heap_tick(hak_os_now_ms());
    }
  }
  void CheckTotals() const {
    const struct hak_page_heap_totals totals = hak_page_heap_totals();
    uint64_t runs = 0;
    for (const auto &held : held_) runs += held.second.size;
    ASSERT_EQ(totals.blocks, held_.size());
    ASSERT_EQ(totals.mapped_bytes, totals.free_bytes + runs);
    ASSERT_LE(totals.cached_bytes, totals.free_bytes);
    ASSERT_STREQ(hak_page_heap_verify(), nullptr);
  }

 private:
  size_t SomeSize() {
    const size_t pages = random_.OneIn(20) ? 3000 : random_.OneIn(4) ? 600 : 30;
    return (1 + random_.Below(pages)) * kPage;
  }
  void Mark(char *block, Held *held) {
    held->mark = random_.Next();
    EachMark(block, *held, [&](char *at) { memcpy(at, &held->mark, sizeof held->mark); });
  }
  static void CheckMarks(char *block, const Held &held, size_t size) {
    const char *const end = block - held.front + size;
    EachMark(block, held, [&](char *at) {
      if (at + sizeof held.mark <= end) {
        ASSERT_EQ(memcmp(at, &held.mark, sizeof held.mark), 0) << "contents";
      }
    });
  }
  std::map<char *, Held>::iterator Any() {
    auto it = held_.lower_bound(reinterpret_cast<char *>(random_.Next() >> 17));
    if (it == held_.end()) it = std::next(held_.begin(), random_.Below(held_.size()));
    return it;
  }
  void CheckPlace(std::map<char *, Held>::iterator it) {
    char *const start = it->first - it->second.front;
    ASSERT_EQ(SizeOf(it->first), it->second.size);
    if (it != held_.begin()) {
      const auto before = std::prev(it);
      ASSERT_LE(before->first - before->second.front + before->second.size, start) << "two blocks share pages";
    }
    const auto after = std::next(it);
    if (after != held_.end()) {
      ASSERT_LE(start + it->second.size, after->first - after->second.front) << "two blocks share pages";
    }
  }

  void TakeOne(bool faults) {
    if (held_.size() > 60) return;
    Held held;
    held.size = SomeSize();
    const uint32_t colours = random_.OneIn(2) ? static_cast<uint32_t>(1 + random_.Below(HAK_COLOURS)) : 0;
    const size_t align = random_.OneIn(4) ? kPage << random_.Below(12) : kPage;
    const bool grow = !random_.OneIn(4);
    char *block = Take(held.size, align, colours, grow);
    if (block == nullptr) {
      ASSERT_TRUE(faults || !grow);
      return;
    }
    held.front = hak_page_heap_look(block).front;
    ASSERT_EQ(held.front % HAK_CACHE_LINE, 0u);
    ASSERT_EQ(held.front != 0, colours != 0);
    ASSERT_LE(held.front, colours * HAK_CACHE_LINE);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(block - held.front) % align, 0u);
    if (random_.OneIn(3)) {
      const size_t usable = held.size - held.front;
      hak_page_map_clear(block, usable);
      ASSERT_TRUE(IsZero(block, std::min<size_t>(usable, 40 * HAK_PAGE_SIZE)));
      EachMark(block, held, [&](const char *at) { ASSERT_TRUE(IsZero(at, sizeof(uint64_t))); });
    }
    Mark(block, &held);
    const auto added = held_.emplace(block, held);
    ASSERT_TRUE(added.second);
    CheckPlace(added.first);
  }
  void GiveOne() {
    if (held_.empty()) return;
    const auto it = Any();
    CheckMarks(it->first, it->second, it->second.size);
    ASSERT_TRUE(Give(it->first));
    ASSERT_EQ(SizeOf(it->first), 0u);
    held_.erase(it);
  }
  void ResizeOne() {
    if (held_.empty()) return;
    const auto it = Any();
    char *const block = it->first;
    Held held = it->second;
    const size_t size = std::max(SomeSize(), kPage);
    const bool may_move = random_.OneIn(2);
    char *now = Resize(block, size, may_move);
    if (now == nullptr) {
      ASSERT_GT(size, held.size) << "smaller always works";
      ASSERT_EQ(SizeOf(block), held.size);
      CheckMarks(block, held, held.size);
      return;
    }
    ASSERT_TRUE(may_move || now == block);
    CheckMarks(now, held, std::min(held.size, size));
    held.size = SizeOf(now);
    ASSERT_GE(held.size, size);
    ASSERT_LE(held.size, size + size / 8 + kPage);
    held_.erase(it);
    Mark(now, &held);
    const auto added = held_.emplace(now, held);
    ASSERT_TRUE(added.second);
    CheckPlace(added.first);
  }

  Random random_;
  std::map<char *, Held> held_;
};

TEST_F(PageHeap, AgreesWithAModel) {
  for (const auto huge : {HAK_HUGE_PAGES_OFF, HAK_HUGE_PAGES_AUTO, HAK_HUGE_PAGES_ON}) {
    hak_config.huge_pages = huge;
    for (const size_t bound : {size_t{0}, 8 * kMiB, 256 * kMiB}) {
      hak_config.mapping_cache_bytes = bound;
      hak_config.decommit_deadline_ms = bound == 8 * kMiB ? 3 : kHour;
      Model model(100 * static_cast<uint64_t>(huge) + bound / kMiB);
      for (int i = 0; i < hak_unit::Operations(1500); i++) {
        model.Step(false);
        if (i % 16 == 0) model.CheckTotals();
        ASSERT_FALSE(HasFatalFailure()) << huge << " " << bound << " " << i;
      }
    }
  }
}

TEST_F(PageHeap, AgreesWithAModelWhileCallsFail) {
  hak_config.mapping_cache_bytes = 16 * kMiB;
  Random random(7);
  for (int round = 0; round < 20; round++) {
    hak_config.huge_pages = round % 2 == 0 ? HAK_HUGE_PAGES_ON : HAK_HUGE_PAGES_OFF;
    Model model(1000 + static_cast<uint64_t>(round));
    for (int i = 0; i < hak_unit::Operations(400); i++) {
      if (i % 8 == 0) {
        hak_fault_set(random.Below(HAK_FAULT_ALL + 1), 1 + random.Below(4), 1 + random.Below(20));
      }
      model.Step(true);
      if (i % 16 == 0) model.CheckTotals();
      if (HasFatalFailure()) break;
    }
    hak_fault_clear();
    ASSERT_FALSE(HasFatalFailure()) << round;
  }
}

TEST_F(PageHeap, ThreadsShareIt) {
  hak_config.decommit_deadline_ms = 1;
  hak_config.mapping_cache_bytes = 4 * kMiB;
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([t, &failures] {
      Random random(static_cast<uint64_t>(t));
      std::vector<char *> mine;
      const char mark = static_cast<char>(t + 1);
      for (int i = 0; i < hak_unit::Operations(2000); i++) {
        if (mine.size() < 8 && !random.OneIn(3)) {
          char *block = Take(kPage * (1 + random.Below(random.OneIn(8) ? 1000 : 40)));
          if (block == nullptr) {
            failures++;
            continue;
          }
          if (random.OneIn(4)) {
            hak_page_map_clear(block, kPage);
            if (!IsZero(block, kPage)) failures++;
          }
          *block = mark;
          mine.push_back(block);
        } else if (!mine.empty()) {
          char *block = mine.back();
          char *resized = Resize(block, kPage * (1 + random.Below(1000)), true);
          if (resized != nullptr) block = resized;
          if (*block != mark || !Give(block)) failures++;
          mine.pop_back();
        }
        if (i % 16 == 0) hak_page_heap_tick(hak_os_now_ms());
        if (i % 256 == 0) hak_page_heap_trim();
        if (i % 64 == 0 && hak_page_heap_verify() != nullptr) failures++;
      }
      for (char *block : mine) {
        if (!Give(block)) failures++;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
}

// The records are right whenever another thread gets the lock, also while those of the addresses that blocks have left
// go back, which takes several steps.
TEST_F(PageHeap, IsRightWhileBlocksMove) {
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread other([&] {
    while (!stop) {
      // Waits for the lock whenever it is held, as a thread that is about to sleep: the holder lets others in between
      // two steps.
      uint32_t held = 1;
      if (!atomic_compare_exchange_strong_explicit(&hak_mapping_mutex.state, &held, 2, memory_order_relaxed,
                                                   memory_order_relaxed)) {
        continue;
      }
      wrong += hak_page_heap_verify() != nullptr;
    }
  });
  size_t moves = 0;
  for (int round = 0; round < hak_unit::Operations(100) && wrong == 0; round++) {
    std::vector<char *> blocks(80);
    for (char *&block : blocks) block = Take(HAK_CHUNK_SIZE, HAK_CHUNK_SIZE);
    // Between two chunks that are left is one that stays, so that their records do not go back in one step.
    for (size_t i = 0; i < blocks.size(); i += 2) {
      char *const moved = Resize(blocks[i], 2 * HAK_CHUNK_SIZE, true);
      ASSERT_NE(moved, nullptr);
      moves += moved != blocks[i];
      blocks[i] = moved;
    }
    for (char *block : blocks) EXPECT_TRUE(Give(block));
    hak_page_heap_trim();
  }
  stop = true;
  other.join();
  EXPECT_GT(moves, 33u) << "more than may keep their records";
  EXPECT_EQ(wrong.load(), 0);
}

// The child of a fork has no thread that would make free again what a trim has taken out. A fork may come between two
// steps of the trim.
TEST_F(PageHeap, BetweenTwoStepsOfATrimNoRunIsTakenOut) {
  constexpr size_t kRuns = 400;
  std::vector<char *> blocks(2 * kRuns);
  for (char *&block : blocks) block = Take(kPage);
  size_t looks = 0;
  size_t taken_out = 0;
  while (looks == 0) {
    // Every second one becomes a free run with memory.
    for (size_t i = 0; i < blocks.size(); i += 2) EXPECT_TRUE(Give(blocks[i]));
    const uint64_t all = hak_page_heap_free_memory();
    std::atomic<bool> done{false};
    std::thread trim([&done] {
      hak_page_heap_trim();
      done = true;
    });
    while (!done) {
      hak_mapping_lock_for_fork();
      looks += hak_page_heap_free_memory() < all && !done;
      const auto count = [](const hak_run *run, void *context) {
        *static_cast<size_t *>(context) += run->state == HAK_RUN_TRANSIT;
      };
      hak_run_for_each(count, &taken_out);
      hak_mapping_unlock_after_fork();
    }
    trim.join();
    for (size_t i = 0; i < blocks.size(); i += 2) blocks[i] = Take(kPage);
  }
  EXPECT_EQ(taken_out, 0u);
  for (char *block : blocks) EXPECT_TRUE(Give(block));
}

}  // namespace
