// SPDX-License-Identifier: Apache-2.0
#include "fuzz/thread_cache_engine.h"

#include <string.h>

#include <array>
#include <vector>

#include "allocator/block/unit_test.h"
#include "allocator/heap/bin.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/heap_life.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"
#include "fuzz/block_table.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kStepsMax = 128;
// The most bytes that an input may hold.
constexpr size_t kHeldMax = 4096;
constexpr size_t kHeldBytesMax = size_t{8} << 20;
// As in thread_cache.c.
constexpr size_t kBlocksMax = 2046;
constexpr size_t kBytesMax = size_t{1} << 20;
constexpr size_t kFirst = 14;

struct Held {
  void *block;
  uint32_t class_id;
  uint64_t tag;
};

// Kept from one input to the next, because creating it would take longer than a short input.
struct Kept {
  std::array<std::vector<void *>, HAK_CLASS_COUNT> bins;
  std::vector<uint32_t> used;
  std::vector<Held> held;
  BlockTable held_table;
  BlockTable seen;
  std::array<std::vector<void *>, HAK_CLASS_COUNT> returned;  // empty, but they keep their capacity
  // Open, or NULL. Such a heap is like a new one: all its blocks, its empty slabs and the arrays of its cache were
  // returned.
  hak_heap *heap = nullptr;
};

Kept &TheKept() {
  static auto *kept = new Kept;
  return *kept;
}

class Input {
 public:
  explicit Input(const ThreadCacheCalls &calls)
      : calls_(calls),
        heap_(TheKept().heap),
        used_(TheKept().used),
        bins_(TheKept().bins),
        held_(TheKept().held),
        returned_(TheKept().returned),
        held_table_(TheKept().held_table),
        seen_(TheKept().seen) {
    for (const uint32_t class_id : used_) bins_[class_id].clear();
    used_.clear();
    held_.clear();
    held_table_.Clear();
    seen_.Clear();
    hak_config.borrow = false;
    hak_config.thread_cache_share = 0;
    hak_config.thread_cache_bytes = size_t{4} << 20;
    if (heap_ == nullptr) heap_ = hak_heap_open();
    Check(heap_ != nullptr, "no heap");
  }
  ~Input() {
    // Not at the end of an input: the next input must not see its leftovers.
    if (ended_ || heap_ == nullptr) return;
    hak_heap_close(heap_);
    heap_ = nullptr;
  }
  Input(const Input &) = delete;
  Input &operator=(const Input &) = delete;

  void Step(const uint8_t *r) {
    const uint32_t class_id = 1 + r[2] % (HAK_CLASS_COUNT - 1);
    switch (r[0] % 16) {
      case 0:
        FlushAll();
        return;
      case 1:
        CheckTotals();
        return;
      case 2:
        // Both are settings.
        hak_config.borrow = (r[3] & 1) != 0;
        hak_config.thread_cache_bytes = Pair(r + 4) * size_t{64};
        return;
      case 3:
        hak_config.thread_cache_share = r[1] % 32;
        return;
      case 4:
      case 5:
      case 6:
      case 7:
      case 8:
      case 9:
        for (size_t i = 0; i < Times(r[1]); ++i) Malloc(class_id);
        return;
      default:
        FreeSome(r);
        return;
    }
  }

  // `whole`: returns all blocks through the cache, checks everything, and closes the heap.
  void End(bool whole) {
    if (whole) {
      while (!held_.empty()) Free(held_.size() - 1);
    } else {
      ReturnAll();
    }
    FlushAll();
    if (whole) {
      CheckTotals();
      hak_heap_close(heap_);
      heap_ = nullptr;
      Check(hak_pool_totals().tiny_blocks == 0, "blocks got lost");
    } else {
      Empty();
    }
    ended_ = true;
  }

 private:
  // Mostly a few.
  static size_t Times(uint8_t byte) { return byte < 224 ? 1 + byte % 16 : 1 + (byte - 224U) * 8; }

  hak_bin *Bin(uint32_t class_id) const { return &heap_->cache.bins[class_id]; }
  void **Top(uint32_t class_id) const { return atomic_load_explicit(&Bin(class_id)->top, memory_order_relaxed); }
  void **Base(uint32_t class_id) const { return atomic_load_explicit(&Bin(class_id)->base, memory_order_relaxed); }
  size_t Capacity(uint32_t class_id) const {
    return Base(class_id) == nullptr ? 0 : static_cast<size_t>(hak_bin_limit(Bin(class_id)) - Base(class_id)) - 1;
  }
  // The blocks in a bin, oldest first.
  struct Cached {
    void *const *first;
    size_t count;
    void *const *begin() const { return first; }
    void *const *end() const { return first + count; }
  };
  Cached CachedOf(uint32_t class_id) const {
    void **base = Base(class_id);
    if (base == nullptr) return {nullptr, 0};
    return {base + 2, static_cast<size_t>(Top(class_id) - base) - 1};
  }

  // Whether the bin has the last `now.count` of `blocks`.
  static bool AreNewest(const Cached &now, const std::vector<void *> &blocks) {
    return now.count <= blocks.size() &&
           (now.count == 0 ||
            memcmp(now.first, blocks.data() + (blocks.size() - now.count), now.count * sizeof(void *)) == 0);
  }

  void Note(uint32_t class_id) {
    if (is_used_[class_id]) return;
    is_used_[class_id] = true;
    used_.push_back(class_id);
  }

  // Checks the bins after a slow call. `may_fill`: the class whose bin may have got blocks. Every other bin, and that
  // one too unless it was empty, may only have lost its oldest blocks.
  void CheckBins(uint32_t may_fill) {
    uint64_t bytes = 0;
    for (const uint32_t class_id : used_) {
      void **base = Base(class_id);
      const size_t stride = hak_class_stride(class_id);
      const size_t capacity = Capacity(class_id);
      bytes += capacity * stride;
      if (base != nullptr) {
        Check(base[0] == nullptr && base[1] == nullptr, "a bin lost its end marks");
        Check(Top(class_id) >= base + 1 && Top(class_id) <= hak_bin_limit(Bin(class_id)), "a bin beyond its bounds");
        const size_t by_bytes = std::min(kBlocksMax, std::max<size_t>(4, kBytesMax / stride));
        Check(capacity <= by_bytes, "a bin with more room than it may have");
      }
      std::vector<void *> &before = bins_[class_id];
      const Cached now = CachedOf(class_id);
      if (class_id == may_fill && before.empty()) {
        CheckNew(class_id, now);
        before.assign(now.begin(), now.end());
      } else {
        Check(AreNewest(now, before), "a bin has lost others than its oldest blocks, or their order");
        before.erase(before.begin(), before.end() - static_cast<ptrdiff_t>(now.count));
      }
    }
    Check(heap_->upkeep.cache_bytes == bytes, "cache_bytes is wrong");
    Check(bytes <= std::max<uint64_t>(hak_config.thread_cache_bytes, most_) + AtLeast(), "caches with too much room");
    most_ = bytes;
  }

  // Each class gets its first array, whatever the bounds are.
  uint64_t AtLeast() const {
    uint64_t bytes = 0;
    for (const uint32_t class_id : used_) bytes += kFirst * hak_class_stride(class_id);
    return bytes;
  }

  // Blocks that came into a bin must be of the class, not held by the program, and there only once.
  void CheckNew(uint32_t class_id, const Cached &blocks) const {
    for (void *block : blocks) {
      Check(hak_slab_map_find(block) == class_id, "a block of another class in a bin");
      Check(!held_table_.Has(block), "a block in a bin that the program holds");
      Check(seen_.Add(block, 0), "a block twice in a bin");
    }
    for (void *block : blocks) seen_.Remove(block, 0);
  }

  void Malloc(uint32_t class_id) {
    if (held_.size() >= kHeldMax || held_bytes_ + hak_class_stride(class_id) > kHeldBytesMax) return;
    Note(class_id);
    void **top = Top(class_id);
    void *block = *top;
    if (block != nullptr) {
      atomic_store_explicit(&Bin(class_id)->top, top - 1, memory_order_relaxed);
      bins_[class_id].pop_back();
    } else {
      block = Slow(class_id);
    }
    const uint32_t of = hak_slab_map_find(block);
    // A borrowed block is of a class that is at most an eighth larger.
    Check(of == class_id || (hak_config.borrow && !kHeaders && of > class_id &&
                             hak_class_stride(of) <= hak_class_stride(class_id) * 9 / 8),
          "a block of another class");
    Check(held_table_.Add(block, next_tag_), "a block that the program holds already");
    hak_unit::BeginUse(block, of);
    memcpy(block, &next_tag_, sizeof next_tag_);
    held_.push_back({block, of, next_tag_++});
    held_bytes_ += hak_class_stride(of);
  }

  void *Slow(uint32_t class_id) {
    hak_heap_enter(heap_);
    void *block = nullptr;
    if (hak_config.borrow) {
      for (uint32_t larger = class_id; larger < std::min(class_id + 4, HAK_CLASS_COUNT); ++larger) Note(larger);
      block = calls_.borrow(heap_, class_id);
      if (block != nullptr) TookNewest(block);
    }
    if (block == nullptr) block = calls_.miss(heap_, class_id, nullptr);
    hak_heap_leave(heap_);
    Check(block != nullptr, "no memory");
    CheckBins(class_id);
    return block;
  }

  // The larger class may lend the newest block of its bin.
  void TookNewest(const void *block) {
    std::vector<void *> &bin = bins_[hak_slab_map_find(block)];
    if (!bin.empty() && bin.back() == block) bin.pop_back();
  }

  // Removes a block from the held ones.
  Held Release(size_t at) {
    const Held held = held_[at];
    held_[at] = held_.back();
    held_.pop_back();
    held_bytes_ -= hak_class_stride(held.class_id);
    held_table_.Remove(held.block, held.tag);
    uint64_t tag;
    memcpy(&tag, held.block, sizeof tag);
    Check(tag == held.tag, "a block that the program holds was written to");
    hak_unit::EndUse(held.block, held.class_id);
    Note(held.class_id);
    return held;
  }

  void Free(size_t at) {
    const Held held = Release(at);
    bins_[held.class_id].push_back(held.block);
    void **top = Top(held.class_id);
    if (top < hak_bin_limit(Bin(held.class_id))) {
      top[1] = held.block;
      atomic_store_explicit(&Bin(held.class_id)->top, top + 1, memory_order_relaxed);
      return;
    }
    hak_heap_enter(heap_);
    calls_.overflow(heap_, held.class_id, held.block);
    hak_heap_leave(heap_);
    CheckBins(HAK_CLASS_NONE);
    Check(!bins_[held.class_id].empty(), "a bin that overflowed is empty");
  }

  void FreeSome(const uint8_t *r) {
    const size_t times = std::min(Times(r[1]), held_.size());
    for (size_t i = 0; i < times; ++i) {
      const size_t n = held_.size();
      Free(r[3] % 3 == 0 ? n - 1 : r[3] % 3 == 1 ? Pair(r + 4) % n : (Pair(r + 4) + i * 7919) % n);
    }
  }

  // Returns the held blocks to their slabs, a class at a time, and none to the bins.
  void ReturnAll() {
    while (!held_.empty()) {
      const Held held = Release(held_.size() - 1);
      returned_[held.class_id].push_back(held.block);
    }
    hak_heap_enter(heap_);
    for (const uint32_t class_id : used_) {
      std::vector<void *> &blocks = returned_[class_id];
      if (!blocks.empty()) hak_give_back(heap_, blocks.data(), static_cast<uint32_t>(blocks.size()));
      blocks.clear();
    }
    hak_heap_leave(heap_);
  }

  // Makes the heap like a new one. Its slab still counts a lost block, so the heap keeps that slab.
  void Empty() {
    hak_heap_enter(heap_);
    hak_heap_release_empty(heap_);
    hak_thread_cache_destroy(heap_);
    hak_thread_cache_init(heap_);
    hak_heap_leave(heap_);
    Check(heap_->slabs == 0, "blocks got lost");
  }

  void FlushAll() {
    hak_heap_enter(heap_);
    calls_.flush_all(heap_);
    hak_heap_leave(heap_);
    CheckBins(HAK_CLASS_NONE);
    for (const uint32_t class_id : used_) Check(bins_[class_id].empty(), "a bin is not empty after the flush");
  }

  void CheckTotals() const {
    size_t cached = 0;
    for (const uint32_t class_id : used_) cached += bins_[class_id].size();
    Check(hak_heap_totals().cached_blocks == cached, "cached blocks are miscounted");
    Check(hak_pool_totals().tiny_blocks == cached + held_.size(), "blocks got lost, or are there twice");
    const char *fault = hak_heap_check(heap_);
    Check(fault == nullptr, fault);
  }

  static constexpr bool kHeaders = HAK_HEADER != HAK_HEADER_MODE_NONE;

  const ThreadCacheCalls &calls_;
  hak_heap *&heap_;
  std::array<bool, HAK_CLASS_COUNT> is_used_ = {};
  std::vector<uint32_t> &used_;
  std::array<std::vector<void *>, HAK_CLASS_COUNT> &bins_;  // oldest first
  std::vector<Held> &held_;
  std::array<std::vector<void *>, HAK_CLASS_COUNT> &returned_;
  BlockTable &held_table_;
  BlockTable &seen_;
  size_t held_bytes_ = 0;
  uint64_t next_tag_ = 1;
  uint64_t most_ = 0;
  bool ended_ = false;
};

}  // namespace

void RunThreadCacheInput(const ThreadCacheCalls &calls, const uint8_t *data, size_t size) {
  static const bool ready = [] {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    // Results must not depend on time.
    hak_config.decommit_deadline_ms = uint64_t{1} << 40;
    return true;
  }();
  Check(ready, "not ready");
  Input input(calls);
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
  static auto *chosen = new OneIn(16);
  input.End(chosen->Chooses(data, size));
}

}  // namespace hak_fuzz
