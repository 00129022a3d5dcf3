// SPDX-License-Identifier: Apache-2.0
#include "allocator/api/uncached.h"

#include "allocator/api/background.h"
#include "allocator/api/process.h"
#include "allocator/api/sampled.h"
#include "allocator/api/watch.h"
#include "allocator/block/block_tail.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/hot/alloc.h"
#include "allocator/os/report.h"
#include "allocator/policy/guard_budget.h"

// A block of the class; NULL: the thread has no heap, or there is no memory.
static void *take(uint32_t class_id) {
  struct hak_heap *heap = hak_thread_heap();
  if (heap == NULL) return NULL;
  hak_heap_enter(heap);
  void *block = hak_thread_cache_take_past(heap, class_id);
  const bool tick = heap->upkeep.tick_due;
  hak_heap_leave(heap);
  hak_watch_after_slow(heap);
  if (HAK_GUARDED) hak_guard_budget_tell();
  // As in cold.c.
  if (HAK_UNLIKELY(tick)) hak_background_start();
  return block;
}

// A small block; NULL: the ordinary path serves the request.
static void *take_small(size_t size, const void *caller) {
  const size_t request = HAK_GUARDED ? hak_tail_request(size) : size;
  const bool sampled = hak_is_sampled(request);
  if (!HAK_GUARDED && sampled) {
    void *block = hak_sampled_take(size, HAK_MIN_ALIGN, false, caller);
    if (block != NULL) return block;
  }
  const uint32_t class_id = hak_class_of(size);
  void *block = take(class_id);
  if (HAK_UNLIKELY(block == NULL)) return NULL;
  hak_block_take_out(block, class_id);
  return HAK_GUARDED && sampled ? hak_sampled_note(block, request, caller) : block;
}

void *hak_uncached_malloc(size_t size) {
  const bool is_ordinary = HAK_HARDENED || size > HAK_TINY_MAX;
  void *block = is_ordinary ? NULL : take_small(size, __builtin_return_address(0));
  // The ordinary path returns memory before it tries again, serves threads without a heap, and sets errno.
  return block != NULL ? block : hak_hot_malloc(size);
}

void hak_uncached_free(void *block) {
  if (block == NULL) return;
  const uint32_t class_id = hak_slab_map_look_up(block);
  struct hak_heap *heap = hak_class_is_tiny(class_id) ? hak_thread_heap_to_free() : NULL;
  if (heap == NULL) {
    hak_cold_free(block);
    return;
  }
  if (hak_bin_is_latest(hak_bin_top(&heap->cache.bins[class_id]), block)) {
    hak_fatal_block("double free", block, hak_class_stride(class_id));
  }
  if (HAK_GUARDED && hak_sampler_has_live()) hak_sampled_forget(block);
  if (HAK_FREE_IS_HOOKED && (block = hak_free_take_in(heap, block, class_id)) == NULL) return;
  hak_heap_enter(heap);
  hak_thread_cache_give_past(heap, block);
  hak_heap_leave(heap);
  hak_watch_after_slow(heap);
}
