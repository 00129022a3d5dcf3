// SPDX-License-Identifier: Apache-2.0
//
// The fast paths of malloc and free: no lock, no atomic read-modify-write, no system call, no load from the block.
#ifndef HAKMEM_HOT_ALLOC_H_
#define HAKMEM_HOT_ALLOC_H_

#include "allocator/block/block_check.h"
#include "allocator/block/size_class.h"
#include "allocator/heap/bin.h"
#include "allocator/heap/heap.h"
#include "allocator/hot/cold_entry.h"
#include "allocator/hot/free_checks.h"
#include "allocator/hot/thread.h"
#include "allocator/os/atomic.h"
#include "allocator/slab/slab_map.h"

// The bin at the offset that hak_class_bin_of tells.
HAK_INLINE struct hak_bin *hak_hot_bin(struct hak_cache *const *cache, uint32_t offset) {
  return (struct hak_bin *)(void *)((char *)*cache + offset);
}

// Takes a block out of the bin; NULL: it is empty. The caller calls hak_block_take_out.
HAK_INLINE void *hak_hot_pop(struct hak_bin *bin) {
#if defined(__x86_64__)
  // Not in the register of the result: otherwise gcc moves the block there in the end, by one more instruction.
  __asm__("" : "+d"(bin));
#endif
  // Relaxed: the bin is this thread's. It is also read for statistics, and by thieves (heap/idle_cache.h), whose
  // barriers do the ordering. Steps O1, O2 and O3 of idle_cache.pml.
  void **top = atomic_load_explicit(&bin->top, memory_order_relaxed);
  void *block = hak_slot_load(top);
  if (HAK_LIKELY(block != NULL)) hak_bin_step_down(bin, top);
  return block;
}

// Takes a block from the cache. NULL: call the slow path. The cache is passed by the address of the thread's variable
// (thread.h), so that this address becomes part of the instruction.
HAK_INLINE void *hak_hot_take(struct hak_cache *const *cache, size_t size) {
  if (HAK_UNLIKELY(size > HAK_TINY_MAX)) return NULL;
  const uint32_t offset = hak_class_bin_of(size);
  void *block = hak_hot_pop(hak_hot_bin(cache, offset));
  if (HAK_LIKELY(block != NULL)) hak_block_take_out(block, offset / HAK_BIN_BYTES);
  return block;
}

// With HAK_ALLOC_PASSDOWN the class of a call is computed here only. The slow path gets the bin, which stands for the
// class: a number of the class would take one more register and one more instruction of every call. Otherwise the slow
// path computes the class again when it needs it.
HAK_INLINE void *hak_hot_malloc(size_t size) {
  if (HAK_ALLOC_PASSDOWN && HAK_LIKELY(size <= HAK_TINY_MAX)) {
    const uint32_t offset = hak_class_bin_of(size);
    struct hak_bin *bin = hak_hot_bin(&hak_thread_cache, offset);
    void *block = hak_hot_pop(bin);
    if (HAK_UNLIKELY(block == NULL)) return hak_routed_malloc(size, bin);
    hak_block_take_out(block, offset / HAK_BIN_BYTES);
    return block;
  }
  void *block = hak_hot_take(&hak_thread_cache, size);
  return HAK_LIKELY(block != NULL) ? block : hak_cold_malloc(size);
}

// The last step of hak_hot_give: puts the block into its class's bin. False: call the slow path.
HAK_INLINE bool hak_hot_push(struct hak_cache *const *cache, void *block, uint32_t offset) {
  struct hak_bin *bin = hak_hot_bin(cache, offset);
  // Relaxed: as above. Steps O4, O5 and O6 of idle_cache.pml.
  void **top = atomic_load_explicit(&bin->top, memory_order_relaxed);
  // Comparing with the two latest frees of the class finds the common double frees at once.
  if (HAK_UNLIKELY(top >= hak_bin_limit(bin)) || HAK_UNLIKELY(hak_bin_is_latest(top, block))) return false;
  if (HAK_FREE_IS_HOOKED) {
    block = hak_free_take_in(hak_heap_of_cache(*cache), block, offset / HAK_BIN_BYTES);
    if (block == NULL) return true;
  }
  hak_slot_store(top + 1, block);
  hak_bin_step_up(bin, top);
  return true;
}

// Guarded builds have checked the block already (api/guarded_entry.h). They call this function directly, with a live
// block or with a block that is in no slab.
HAK_INLINE void hak_hot_put(void *block, uint32_t class_id) {
  if (HAK_UNLIKELY(!hak_hot_push(&hak_thread_cache, block, class_id * HAK_BIN_BYTES))) hak_cold_free(block);
}

// Puts the block of a slab, whose class has its bin at this offset, into the cache. False: call the slow path.
HAK_INLINE bool hak_hot_give_of(struct hak_cache *const *cache, void *block, uint32_t offset) {
  return HAK_LIKELY(hak_free_is_start(block, hak_hot_bin(cache, offset))) && hak_hot_push(cache, block, offset);
}

// Puts the block into the cache. False: call the slow path.
HAK_INLINE bool hak_hot_give(struct hak_cache *const *cache, void *block) {
  const uintptr_t granule = hak_slab_map_granule(block);
  if (HAK_UNLIKELY(!hak_slab_map_covers(granule))) return false;
  // NULL, foreign blocks and large blocks have a class whose bin never has room.
  return hak_hot_give_of(cache, block, hak_slab_map_bin(granule));
}

HAK_INLINE void hak_hot_free(void *block) {
  const uintptr_t granule = hak_slab_map_granule(block);
  if (HAK_ALLOC_PASSDOWN && HAK_LIKELY(hak_slab_map_covers(granule))) {
    const uint32_t offset = hak_slab_map_bin(granule);
    if (HAK_LIKELY(hak_hot_give_of(&hak_thread_cache, block, offset))) return;
    hak_routed_free(block, hak_hot_bin(&hak_thread_cache, offset));
  } else if (HAK_UNLIKELY(!hak_hot_give(&hak_thread_cache, block))) {
    hak_cold_free(block);
  }
}

#endif  // HAKMEM_HOT_ALLOC_H_
