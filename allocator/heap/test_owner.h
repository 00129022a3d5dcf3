// SPDX-License-Identifier: Apache-2.0
//
// For tests: the thread of a heap, which does what hot/alloc.h and api/cold.c do, without the rooms above. The tests
// are about what other threads do to its cache meanwhile.
#ifndef HAKMEM_HEAP_TEST_OWNER_H_
#define HAKMEM_HEAP_TEST_OWNER_H_

#include <stdlib.h>

#include "allocator/heap/bin.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/slab/slab_map.h"

namespace hak_unit {

class __attribute__((visibility("hidden"))) Owner {
 public:
  Owner() : heap_(hak_heap_open()) {
    if (heap_ == nullptr) abort();
  }
  Owner(const Owner &) = delete;
  Owner &operator=(const Owner &) = delete;
  ~Owner() { hak_heap_close(heap_); }

  // Called in the middle of each operation of a fast path.
  void PauseWith(void (*pause)()) { pause_ = pause; }

  hak_heap *heap() const { return heap_; }
  hak_bin *Bin(uint32_t class_id) const { return &heap_->cache.bins[class_id]; }
  void **Top(uint32_t class_id) const { return atomic_load_explicit(&Bin(class_id)->top, memory_order_relaxed); }
  void **Base(uint32_t class_id) const { return atomic_load_explicit(&Bin(class_id)->base, memory_order_relaxed); }

  // A block of the class, or of the next larger class if one was borrowed; NULL: out of memory.
  void *Malloc(uint32_t class_id) {
    void *block = Pop(class_id);
    if (block != nullptr) return block;
    block = Pop(class_id);  // The slow path tries once more, still without the lock.
    return block != nullptr ? block : Refill(class_id);
  }

  void Free(void *block) {
    const uint32_t class_id = hak_slab_map_find(block);
    hak_bin *bin = Bin(class_id);
    void **top = Top(class_id);
    if (top >= hak_bin_limit(bin)) {
      hak_heap_enter(heap_);
      hak_thread_cache_overflow(heap_, class_id, block);
      hak_heap_leave(heap_);
      return;
    }
    // Checks for a double free like the fast path.
    if (hak_bin_is_latest(top, block)) abort();
    if (pause_ != nullptr) pause_();
    hak_slot_store(top + 1, block);
    if (pause_ != nullptr) pause_();
    atomic_store_explicit(&bin->top, top + 1, memory_order_relaxed);
  }

 private:
  void *Pop(uint32_t class_id) {
    void **top = Top(class_id);
    if (pause_ != nullptr) pause_();
    void *block = hak_slot_load(top);
    if (pause_ != nullptr) pause_();
    if (block != nullptr) atomic_store_explicit(&Bin(class_id)->top, top - 1, memory_order_relaxed);
    return block;
  }
  void *Refill(uint32_t class_id) {
    hak_heap_enter(heap_);
    void *block = hak_thread_cache_borrow(heap_, class_id);
    if (block == nullptr) block = hak_thread_cache_miss(heap_, class_id, nullptr);
    hak_heap_leave(heap_);
    return block;
  }

  hak_heap *const heap_;
  void (*pause_)() = nullptr;
};

}  // namespace hak_unit

#endif  // HAKMEM_HEAP_TEST_OWNER_H_
