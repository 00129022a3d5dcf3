// SPDX-License-Identifier: Apache-2.0
//
// For idle_cache_race_test: slow thieves, so that the owners do much between any two of their steps, and thieves that
// make mistakes.
#ifndef HAKMEM_HEAP_TEST_THIEF_H_
#define HAKMEM_HEAP_TEST_THIEF_H_

#include <vector>

#include "allocator/heap/give_back.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/test_pause.h"
#include "allocator/os/barrier.h"

namespace hak_unit {

enum class Thief {
  kReal,           // hak_idle_cache_steal
  kSlowReal,       // the same code with pauses between its steps
  kCopy,           // the copy below, with such pauses, which records what it met
  kDoesNotJudge,   // keeps whatever it took
  kKeepsTop,       // keeps what it must put back
  kKeepsRefilled,  // keeps a block whose slot was filled again
  kPutsNoneBack,   // drops what it must put back
};

// The protocol of idle_cache.h, step by step, with or without its mistakes.
class __attribute__((visibility("hidden"))) ThiefCopy {
 public:
  explicit ThiefCopy(Thief kind) : kind_(kind) {}

  uint32_t Steal(hak_heap *heap) {
    uint32_t count = 0;
    for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
      hak_bin *bin = &heap->cache.bins[class_id];
      void **slot = atomic_load_explicit(&bin->base, memory_order_relaxed);
      if (slot == nullptr) continue;
      slot += 2 + atomic_load_explicit(&heap->classes[class_id].idle.stolen, memory_order_relaxed);
      void **const seen_top = Top(bin);  // outdated by the time it is used
      hak_test_pause();
      std::vector<Taken> taken;
      for (; slot < seen_top; slot++) {
        if (__atomic_load_n(slot, __ATOMIC_RELAXED) == nullptr) continue;
        void *block = __atomic_exchange_n(slot, nullptr, __ATOMIC_ACQ_REL);
        if (block != nullptr) taken.push_back({slot, block});
        hak_test_pause_seldom();
      }
      if (!taken.empty()) count += Settle(heap, class_id, taken);
    }
    return count;
  }

  // Whether it has met owners in every state that the protocol distinguishes.
  bool MetAll() const { return met_[kMine] && met_[kRefilled] && met_[kPutBack] && met_[kPrograms]; }

 private:
  struct Taken {
    void **slot;
    void *block;
  };
  enum Verdict { kMine, kRefilled, kPutBack, kPrograms, kVerdicts };
  static Verdict Judge(void **slot, void **top) {
    if (slot > top + 1) return kPrograms;
    if (slot >= top) return kPutBack;
    return __atomic_load_n(slot, __ATOMIC_RELAXED) == nullptr ? kMine : kRefilled;
  }
  bool Keeps(Verdict verdict) const {
    return kind_ == Thief::kDoesNotJudge || (kind_ == Thief::kKeepsTop && verdict == kPutBack) ||
           (kind_ == Thief::kKeepsRefilled && verdict == kRefilled);
  }
  static void **Top(const hak_bin *bin) { return atomic_load_explicit(&bin->top, memory_order_relaxed); }
  uint32_t Settle(hak_heap *heap, uint32_t class_id, const std::vector<Taken> &taken) {
    std::vector<void *> mine;
    hak_test_pause();
    hak_os_barrier();
    void **const top = Top(&heap->cache.bins[class_id]);
    hak_test_pause();
    hak_os_barrier();
    hak_test_pause();
    for (const Taken &one : taken) {
      const Verdict verdict = Judge(one.slot, top);
      met_[verdict] = true;
      if (verdict == kMine || Keeps(verdict)) {
        mine.push_back(one.block);
      } else if (verdict == kPutBack && kind_ != Thief::kPutsNoneBack) {
        void *empty = nullptr;
        __atomic_compare_exchange_n(one.slot, &empty, one.block, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
      }
    }
    hak_class_heap *class_heap = &heap->classes[class_id];
    const uint32_t stolen = atomic_load_explicit(&class_heap->idle.stolen, memory_order_relaxed);
    atomic_store_explicit(&class_heap->idle.stolen, stolen + static_cast<uint32_t>(mine.size()), memory_order_relaxed);
    if (!mine.empty()) class_heap->idle.touched = true;
    hak_give_back(heap, mine.data(), static_cast<uint32_t>(mine.size()));
    return static_cast<uint32_t>(mine.size());
  }

  const Thief kind_;
  bool met_[kVerdicts] = {};
};

}  // namespace hak_unit

#endif  // HAKMEM_HEAP_TEST_THIEF_H_
