// SPDX-License-Identifier: Apache-2.0
#include "fuzz/remote_queue_engine.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>
#include <vector>

#include "allocator/block/tiny_nextptr.h"
#include "allocator/block/unit_test.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/remote.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"
#include "fuzz/block_table.h"
#include "fuzz/exact_room.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kStepsMax = 128;
constexpr size_t kHeaps = 2;
constexpr size_t kHeldMax = 2048;
// Small and large classes. Few of the largest blocks fit into a slab, so slabs become empty and return to the pool.
constexpr uint32_t kClasses[] = {1, 4, 17, 40, 70, HAK_CLASS_COUNT - 1};

hak_heap *OwnerOf(const hak_slab *slab) { return atomic_load_explicit(&slab->owner, memory_order_relaxed); }

// The blocks on the remote chain of one slab.
struct Pending {
  hak_slab *slab;
  std::vector<void *> blocks;
};

// Kept from one input to the next, because creating it would take longer than a short input.
struct Kept {
  // Empty between inputs, but they keep their capacity.
  std::vector<void *> held;
  std::vector<Pending> pending;
  std::vector<void *> run;
  ExactRoom<void *> returned{64};
  BlockTable table;
  // Open between inputs, or NULL. Such a heap is like a new one: it has no slab, because all its blocks and then its
  // empty slabs were returned, and nothing here puts a block into its cache.
  std::array<hak_heap *, kHeaps> heaps = {};
};

Kept &TheKept() {
  static auto *kept = new Kept;
  return *kept;
}

class Input {
 public:
  explicit Input(const RemoteQueueCalls &calls)
      : calls_(calls), kept_(TheKept()), heaps_(kept_.heaps), held_(kept_.held), table_(kept_.table) {
    held_.clear();
    table_.Clear();
    for (hak_heap *&heap : heaps_) {
      if (heap == nullptr) heap = Open();
    }
  }
  ~Input() {
    // Not at the end of an input: the next input must not see its leftovers.
    if (ended_) return;
    for (hak_heap *&heap : heaps_) {
      if (heap != nullptr) hak_heap_close(heap);
      heap = nullptr;
    }
  }
  Input(const Input &) = delete;
  Input &operator=(const Input &) = delete;

  void Step(const uint8_t *r) {
    hak_heap *&heap = heaps_[r[1] % kHeaps];
    switch (r[0] % 8) {
      case 0:
      case 1:
      case 2:
        Take(heap, kClasses[r[2] % std::size(kClasses)], r[3] < 224 ? 1 + r[3] % 8 : 1 + (r[3] - 224U) * 2);
        break;
      case 3:
      case 4:
        PushChain(Pair(r + 4), 1 + r[3] % 16);
        break;
      case 5:
        // By a thread without a heap, or by one of the two heaps.
        GiveBack(r[1] % 3 == 2 ? nullptr : heap, Pair(r + 4), 1 + r[3] % 32);
        break;
      case 6:
        Drain(heap);
        break;
      default:
        if (r[0] >= 128) {
          Close(heap);
          heap = nullptr;  // otherwise it would be closed twice if the next one cannot be opened
          heap = Open();
        } else {
          CheckAll();
        }
        break;
    }
  }

  // `all`: checks everything first, and closes the heaps.
  void End(bool all) {
    if (all) CheckAll();
    while (!held_.empty()) GiveBack(heaps_[held_.size() % kHeaps], 0, 64);
    for (hak_heap *&heap : heaps_) {
      if (all) {
        Close(heap);
        heap = nullptr;
      } else {
        Empty(heap);
      }
    }
    Check(pending_ == 0 && hak_orphanage.slabs == 0, "blocks got lost");
    if (all) Check(hak_pool_totals().tiny_blocks == 0, "blocks got lost");
    ended_ = true;
  }

  void CheckAll() const {
    size_t pending = 0;
    for (size_t i = 0; i < pending_; ++i) {
      CheckChain(PendingAt(i).slab, PendingAt(i).blocks);
      pending += PendingAt(i).blocks.size();
    }
    const struct hak_pool_totals totals = hak_pool_totals();
    Check(totals.remote_blocks == pending, "remote blocks are miscounted");
    Check(totals.tiny_blocks == pending + held_.size(), "blocks got lost, or are there twice");
    for (const hak_heap *heap : heaps_) {
      const char *fault = hak_heap_check(heap);
      Check(fault == nullptr, fault);
      CheckPendingList(heap);
    }
    const char *fault = hak_heap_check(&hak_orphanage);
    Check(fault == nullptr, fault);
  }

 private:
  static hak_heap *Open() {
    hak_heap *heap = hak_heap_open();
    Check(heap != nullptr, "no heap");
    return heap;
  }

  // The chain of a slab must hold exactly these blocks, each once.
  static void CheckChain(const hak_slab *slab, std::vector<void *> blocks) {
    const uint64_t word = atomic_load_explicit(&slab->remote, memory_order_relaxed);
    Check(word >> 32 == blocks.size(), "a remote chain has another length");
    std::vector<void *> seen;
    uint64_t link = static_cast<uint32_t>(word);
    while (link != 0) {
      Check(link <= slab->capacity, "a link out of the slab");
      Check(seen.size() < blocks.size(), "a chain that runs in a circle");
      seen.push_back(hak_slab_block(slab, static_cast<uint32_t>(link) - 1));
      link = tiny_nextptr_load(seen.back());
    }
    std::sort(seen.begin(), seen.end());
    std::sort(blocks.begin(), blocks.end());
    Check(seen == blocks, "other blocks are on a remote chain");
  }

  Pending &PendingAt(size_t i) const { return kept_.pending[i]; }
  Pending *PendingOf(const hak_slab *slab) const {
    for (size_t i = 0; i < pending_; ++i) {
      if (PendingAt(i).slab == slab) return &PendingAt(i);
    }
    return nullptr;
  }

  // A slab must be on its owner's list, once, exactly if its chain is not empty.
  void CheckPendingList(const hak_heap *heap) const {
    size_t listed = 0;
    for (const hak_slab *slab = atomic_load_explicit(&heap->pending, memory_order_relaxed);
         slab != HAK_PENDING_END && slab != HAK_PENDING_CLOSED; slab = slab->pending_next) {
      Check(PendingOf(slab) != nullptr, "an owner was told of remote frees that are none");
      Check(++listed <= pending_, "a slab twice on a pending list");
    }
    size_t wanted = 0;
    for (size_t i = 0; i < pending_; ++i) wanted += OwnerOf(PendingAt(i).slab) == heap;
    Check(listed == wanted, "an owner was not told of remote frees");
  }

  void Take(hak_heap *heap, uint32_t class_id, uint32_t want) {
    if (held_.size() + want > kHeldMax) return;
    void *blocks[64];
    hak_heap_enter(heap);
    const uint32_t got = hak_heap_take(heap, class_id, blocks, want, nullptr);
    hak_heap_leave(heap);
    Check(got >= 1 && got <= want, "another number of blocks");
    for (uint32_t i = 0; i < got; ++i) {
      hak_slab *slab = hak_slab_of(blocks[i]);
      Check(hak_slab_map_find(blocks[i]) == class_id && OwnerOf(slab) == heap, "a block of another slab");
      // Blocks on remote chains are in the table too, without a number.
      Check(table_.Add(blocks[i], next_tag_), "a block that the program holds, or that is on a remote chain");
      hak_unit::BeginUse(blocks[i], class_id);
      memcpy(blocks[i], &next_tag_, sizeof next_tag_);
      held_.push_back(blocks[i]);
      ++next_tag_;
    }
  }

  void AddPending(hak_slab *slab, void *block) {
    table_.Add(block, 0);
    Pending *pending = PendingOf(slab);
    if (pending == nullptr) {
      if (pending_ == kept_.pending.size()) kept_.pending.emplace_back();
      pending = &PendingAt(pending_++);
      pending->slab = slab;
      pending->blocks.clear();
    }
    pending->blocks.push_back(block);
  }

  // Removes a block from the held ones.
  void *Release(size_t at) {
    void *block = held_[at];
    held_[at] = held_.back();
    held_.pop_back();
    uint64_t tag;
    memcpy(&tag, block, sizeof tag);
    Check(table_.Remove(block, tag), "a block that the program holds was written to");
    hak_unit::EndUse(block, hak_slab_map_find(block));
    return block;
  }

  // Up to `most` blocks of one slab, in one chain.
  void PushChain(size_t from, size_t most) {
    if (held_.empty()) return;
    from %= held_.size();
    hak_slab *slab = hak_slab_of(held_[from]);
    hak_chain chain = {};
    chain.slab = slab;
    std::vector<void *> &blocks = kept_.run;
    blocks.clear();
    for (size_t at = from; at < held_.size() && blocks.size() < most;) {
      if (hak_slab_of(held_[at]) == slab) {
        blocks.push_back(Release(at));
      } else {
        ++at;
      }
    }
    const uint64_t bytes = blocks.size() * slab->stride;
    for (void *block : blocks) calls_.chain_add(&chain, block);
    Check(chain.count == blocks.size(), "a chain of another length");
    const bool orphan = OwnerOf(slab) == &hak_orphanage;
    // Blocks of an orphaned slab are collected at once.
    for (void *block : blocks) {
      if (!orphan) AddPending(slab, block);
    }
    Check(calls_.push(&chain) == bytes, "hak_remote_push tells other bytes");
  }

  void GiveBack(hak_heap *heap, size_t from, size_t most) {
    const size_t count = std::min(most, held_.size());
    void **blocks = kept_.returned.Of(count);
    for (size_t i = 0; i < count; ++i) {
      void *block = Release(from % held_.size());
      hak_slab *slab = hak_slab_of(block);
      if (OwnerOf(slab) != heap && OwnerOf(slab) != &hak_orphanage) AddPending(slab, block);
      blocks[i] = block;
    }
    if (heap != nullptr) hak_heap_enter(heap);
    calls_.give_back(heap, blocks, static_cast<uint32_t>(count));
    if (heap != nullptr) hak_heap_leave(heap);
  }

  void ForgetPendingOf(const hak_heap *heap) {
    for (size_t i = 0; i < pending_;) {
      if (OwnerOf(PendingAt(i).slab) != heap) {
        ++i;
        continue;
      }
      for (void *block : PendingAt(i).blocks) table_.Remove(block, 0);
      std::swap(PendingAt(i), PendingAt(--pending_));
    }
  }

  void Drain(hak_heap *heap) {
    // Before the call: a slab that becomes empty returns to the pool and then has no owner.
    ForgetPendingOf(heap);
    hak_heap_enter(heap);
    calls_.drain(heap);
    hak_heap_leave(heap);
    CheckPendingList(heap);
  }

  // Makes the heap like a new one. Its slab still counts a lost block, so the heap keeps that slab.
  void Empty(hak_heap *heap) {
    Drain(heap);
    hak_heap_enter(heap);
    hak_heap_release_empty(heap);
    hak_heap_leave(heap);
    Check(heap->slabs == 0, "blocks got lost");
  }

  void Close(hak_heap *heap) {
    ForgetPendingOf(heap);
    hak_heap_close(heap);
  }

  const RemoteQueueCalls &calls_;
  Kept &kept_;
  std::array<hak_heap *, kHeaps> &heaps_;
  std::vector<void *> &held_;
  BlockTable &table_;   // the held blocks, and those on remote chains
  size_t pending_ = 0;  // how many slabs have blocks on their remote chains: the first ones of kept_.pending
  uint64_t next_tag_ = 1;
  bool ended_ = false;
};

}  // namespace

void RunRemoteQueueInput(const RemoteQueueCalls &calls, const uint8_t *data, size_t size) {
  static const bool ready = [] {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    // The same in every run, and independent of time.
    hak_nextptr_secret = 0x9e3779b97f4a7c15U;
    hak_config.decommit_deadline_ms = uint64_t{1} << 40;
    hak_config.thread_cache_bytes = size_t{4} << 20;
    return true;
  }();
  Check(ready, "not ready");
  Input input(calls);
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
  static auto *chosen = new OneIn(16);
  input.End(chosen->Chooses(data, size));
}

}  // namespace hak_fuzz
