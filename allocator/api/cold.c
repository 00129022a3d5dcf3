// SPDX-License-Identifier: Apache-2.0
//
// The slow paths of malloc and free: choose the box that serves a call, retry after memory was returned, and set errno.
#include <errno.h>
#include <string.h>

#include "allocator/api/background.h"
#include "allocator/api/process.h"
#include "allocator/api/release.h"
#include "allocator/api/resize.h"
#include "allocator/api/sampled.h"
#include "allocator/api/watch.h"
#include "allocator/block/block_tail.h"
#include "allocator/heap/bin.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/medium_cache.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/hot/alloc.h"
#include "allocator/hot/free_checks.h"
#include "allocator/large/large.h"
#include "allocator/observe/pressure.h"
#include "allocator/observe/stats_page.h"
#include "allocator/os/report.h"
#include "allocator/policy/guard_budget.h"
#include "allocator/policy/memory_limit.h"

// Where a function of this file was called.
#define CALLER __builtin_return_address(0)

// ---- Allocation ---------------------------------------------------------------------------------

// A block of the class for a thread without a heap.
static void *take_orphan(uint32_t class_id, bool *fresh) {
  void *block;
  hak_orphanage_enter();
  const uint32_t got = hak_heap_take(&hak_orphanage, class_id, &block, 1, fresh);
  hak_orphanage_leave();
  return got == 1 ? block : NULL;
}

// Takes a block from the next larger class, from slabs, or from fresh memory.
static void *refill(struct hak_heap *heap, uint32_t class_id, bool aligned, bool *fresh) {
  hak_heap_enter(heap);
  void *block = aligned ? NULL : hak_thread_cache_borrow(heap, class_id);
  if (block == NULL) block = hak_thread_cache_miss(heap, class_id, fresh);
  const bool tick = heap->upkeep.tick_due;
  hak_heap_leave(heap);
  hak_watch_after_slow(heap);
  if (HAK_GUARDED) hak_guard_budget_tell();
  // Needed in the child of a fork. From malloc only: some callers of free hold locks that creating a thread needs.
  if (HAK_UNLIKELY(tick)) hak_background_start();
  return block;
}

// `aligned`: the block must be of exactly this class, whose stride is a multiple of the alignment.
static void *take_once(uint32_t class_id, bool aligned, bool *fresh) {
  struct hak_heap *heap = hak_thread_heap();
  *fresh = false;
  if (heap == NULL) return take_orphan(class_id, fresh);
  void *block = hak_hot_pop(&heap->cache.bins[class_id]);
  return block != NULL ? block : refill(heap, class_id, aligned, fresh);
}

// Whether to try a request for `size` bytes again after `retries` retries: once after memory has been returned, and
// once more if the program's callback may have freed some. The heap must grow by `bytes` for it.
static HAK_COLD bool should_try_again(uint32_t retries, size_t size, size_t bytes) {
  if (retries > 0 && (HAK_FAST || retries > 1 || !hak_pressure_refused(size))) {
    hak_limit_purged(0);
    return false;
  }
  hak_release_for(bytes);
  if (!HAK_FAST && retries == 0) hak_pressure_near(size);
  return true;
}

static HAK_COLD void *take_after_release(uint32_t class_id, bool aligned, bool *fresh) {
  void *block = NULL;
  for (uint32_t retries = 0; block == NULL && should_try_again(retries, hak_class_usable(class_id), HAK_SLAB_SIZE);
       retries++) {
    hak_limit_exempt(true);
    block = take_once(class_id, aligned, fresh);
    hak_limit_exempt(false);
  }
  return block;
}

// Takes a small block of the class. *fresh: the block is known to be zero.
static void *take_tiny(uint32_t class_id, bool aligned, bool *fresh) {
  void *block = take_once(class_id, aligned, fresh);
  if (HAK_UNLIKELY(block == NULL)) block = take_after_release(class_id, aligned, fresh);
  if (HAK_UNLIKELY(block == NULL)) {
    errno = ENOMEM;
    return NULL;
  }
  hak_block_take_out(block, class_id);
  return block;
}

static bool empty_before_growth(struct hak_heap *heap) {
  hak_heap_enter(heap);
  const bool emptied = hak_thread_cache_empty_before_growth(heap);
  hak_heap_leave(heap);
  return emptied;
}

// The heap of a thread whose fast paths are off, unless it has none or, because memory is due, its call must read the
// clock.
static HAK_NOINLINE struct hak_heap *ready_heap_without_cache(void) {
  // The fast paths may be off because of samples only.
  struct hak_heap *heap = HAK_PROF ? hak_thread_watched : NULL;
  return heap != NULL && !heap->watch.on ? heap : hak_thread_between_looks();
}

// The same of any thread.
HAK_INLINE struct hak_heap *ready_heap(void) {
  struct hak_cache *cache = hak_thread_cache;
  return HAK_LIKELY(cache != &hak_no_cache) ? hak_heap_of_cache(cache) : ready_heap_without_cache();
}

// A medium block from the thread's cache; NULL: it has none.
HAK_INLINE void *take_medium(size_t size) {
  struct hak_heap *heap = ready_heap();
  return HAK_LIKELY(heap != NULL && hak_medium_is(size)) ? hak_medium_take(heap, size) : NULL;
}

static HAK_COLD void *large_after_release(size_t size, size_t align, bool zero) {
  void *block = NULL;
  for (uint32_t retries = 0; block == NULL && should_try_again(retries, size, size); retries++) {
    hak_limit_exempt(true);
    block = hak_large_alloc(size, align, zero, true);
    hak_limit_exempt(false);
  }
  return block;
}

HAK_NOINLINE void *hak_slow_large(size_t size, size_t align, bool zero) {
  // A request larger than the address space can never succeed, so do not return memory for it.
  if (HAK_UNLIKELY((size | align) >= HAK_ADDRESS_SPACE)) {
    errno = ENOMEM;
    return NULL;
  }
  struct hak_heap *heap = hak_thread_heap();  // The process's first call may be for a large block.
  void *block = hak_large_alloc(size, align, zero, false);
  if (block == NULL) {
    if (heap != NULL && empty_before_growth(heap)) block = hak_large_alloc(size, align, zero, false);
    if (block == NULL) block = hak_large_alloc(size, align, zero, true);
  }
  if (HAK_UNLIKELY(block == NULL)) block = large_after_release(size, align, zero);
  if (HAK_GUARDED) hak_guard_budget_tell();
  hak_stats_page_tick();
  if (HAK_UNLIKELY(block == NULL)) errno = ENOMEM;
  // Every large block of these builds comes from here.
  if (HAK_GUARDED && hak_is_sampled(size)) hak_sampled_note(block, size, CALLER);
  return block;
}

// What the fast path would do, for a watched thread whose calls come fast. NULL: the call takes the slow path.
HAK_INLINE void *pop_between_looks(uint32_t class_id) {
  struct hak_heap *heap = hak_thread_between_looks();
  return heap != NULL ? hak_hot_pop(&heap->cache.bins[class_id]) : NULL;
}

// Not marked as cold, as its caller is: the way of medium blocks.
static HAK_NOINLINE void *malloc_large(size_t size) {
  void *block = take_medium(size);
  return block != NULL ? block : hak_slow_large(size, HAK_MIN_ALIGN, false);
}

HAK_INLINE void *malloc_small(uint32_t class_id) {
  if (!HAK_BLOCK_CHECKS) {
    void *block = pop_between_looks(class_id);
    if (block != NULL) return block;
  }
  bool fresh;
  return take_tiny(class_id, false, &fresh);
}

// The size of the request, of which a guarded build has added the canary.
HAK_INLINE size_t requested(size_t size) { return HAK_GUARDED ? hak_tail_request(size) : size; }

// A sampled block for a small request, or in STANDARD for any; NULL: there is no memory for one.
static HAK_COLD void *take_sampled(size_t size, size_t align, bool zero, const void *caller) {
  if (!HAK_GUARDED) return hak_sampled_take(size, align, zero, caller);
  const int saved = errno;
  bool fresh;
  void *block = take_tiny(hak_class_of_aligned(size, align), align > HAK_MIN_ALIGN, &fresh);
  if (block == NULL) errno = saved;
  return hak_sampled_note(block, requested(size), caller);
}

// Counts the request. NULL: it is not sampled, or there is no memory for a sampled block.
HAK_INLINE void *take_if_sampled(size_t size, size_t align, const void *caller) {
  return hak_is_sampled(requested(size)) ? take_sampled(size, align, false, caller) : NULL;
}

HAK_COLD void *hak_cold_malloc(size_t size) {
  void *sampled = take_if_sampled(size, HAK_MIN_ALIGN, CALLER);
  if (sampled != NULL) return sampled;
  return size > HAK_TINY_MAX ? malloc_large(size) : malloc_small(hak_class_of(size));
}

#if HAK_ALLOC_PASSDOWN
// The class of a bin of the thread's cache; HAK_CLASS_IDS: it is not one. A signal handler's call between the fast
// path and here may have given the thread another cache.
HAK_INLINE uint32_t class_of_bin(const struct hak_bin *bin) {
  const uintptr_t offset = (uintptr_t)bin - (uintptr_t)hak_thread_cache->bins;
  return offset < sizeof hak_thread_cache->bins ? (uint32_t)(offset / sizeof *bin) : HAK_CLASS_IDS;
}

HAK_COLD void *hak_routed_malloc(size_t size, const struct hak_bin *bin) {
  void *sampled = take_if_sampled(size, HAK_MIN_ALIGN, CALLER);
  if (sampled != NULL) return sampled;
  const uint32_t class_id = class_of_bin(bin);
  return malloc_small(HAK_LIKELY(class_id < HAK_CLASS_IDS) ? class_id : hak_class_of(size));
}
#endif

// A sampled block for a cleared request, which no guarded build makes here; NULL: it is not sampled, or there is no
// memory. The thread's fast paths are off while allocations are counted, which the caller finds out in any case.
HAK_INLINE void *zeroed_if_sampled(size_t align, size_t size, const void *caller) {
  const bool counted = !HAK_GUARDED && hak_thread_cache == &hak_no_cache && hak_is_sampled(size);
  return HAK_UNLIKELY(counted) ? take_sampled(size, align, true, caller) : NULL;
}

HAK_NOINLINE void *hak_slow_calloc(size_t size) {
  void *sampled = zeroed_if_sampled(HAK_MIN_ALIGN, size, CALLER);
  if (HAK_UNLIKELY(sampled != NULL)) return sampled;
  if (size > HAK_TINY_MAX) {
    void *block = take_medium(size);
    return block != NULL ? memset(block, 0, size) : hak_slow_large(size, HAK_MIN_ALIGN, true);
  }
  bool fresh;
  void *block = take_tiny(hak_class_of(size), false, &fresh);
  if (block != NULL && !fresh) memset(block, 0, size);
  return block;
}

// What hak_slow_aligned does while allocations are counted. Apart, so that the latter keeps no more registers.
static HAK_COLD void *aligned_counted(size_t align, size_t size, uint32_t class_id) {
  void *sampled = take_if_sampled(size, align, CALLER);
  if (sampled != NULL) return sampled;
  if (class_id == HAK_CLASS_NONE) return hak_slow_large(size, align, false);
  bool fresh;
  return take_tiny(class_id, true, &fresh);
}

HAK_NOINLINE void *hak_slow_aligned(size_t align, size_t size) {
  const uint32_t class_id = hak_class_of_aligned(size, align);
  // HAK_CLASS_NONE has a bin too, which is always empty.
  void *block = hak_hot_pop(&hak_thread_cache->bins[class_id]);
  if (HAK_LIKELY(block != NULL)) {
    hak_block_take_out(block, class_id);
    return block;
  }
  if (HAK_UNLIKELY(hak_sampler_is_on())) return aligned_counted(align, size, class_id);
  if (class_id == HAK_CLASS_NONE) return hak_slow_large(size, align, false);
  bool fresh;
  return take_tiny(class_id, true, &fresh);
}

#if HAK_HARDENED
HAK_NOINLINE void *hak_slow_pointers(size_t size, uint32_t class_id) {
  const bool sampled = HAK_UNLIKELY(hak_sampler_is_on()) && hak_is_sampled(requested(size));
  bool fresh;
  void *block = take_tiny(class_id, true, &fresh);
  return HAK_UNLIKELY(sampled) ? hak_sampled_note(block, requested(size), CALLER) : block;
}
#endif

HAK_COLD void *hak_slow_aligned_calloc(size_t align, size_t size) {
  if (align <= HAK_MIN_ALIGN) return hak_slow_calloc(size);
  if (hak_class_of_aligned(size, align) == HAK_CLASS_NONE) {
    void *sampled = zeroed_if_sampled(align, size, CALLER);
    return sampled != NULL ? sampled : hak_slow_large(size, align, true);
  }
  void *block = hak_slow_aligned(align, size);
  return block != NULL ? memset(block, 0, size) : NULL;
}

// ---- Existing blocks ----------------------------------------------------------------------------

// Ends the process when no small block of the class can begin there.
HAK_INLINE void require_start(const void *block, uint32_t class_id, const char *complaint) {
  if (!hak_slab_is_block_start(block, hak_class_info[class_id].reciprocal)) hak_fatal(complaint, block);
}

static void free_tiny(void *block, uint32_t class_id) {
  struct hak_heap *heap = hak_thread_heap_to_free();
  if (heap == NULL) {
    hak_block_take_in(block, class_id);
    hak_late_enter();
    hak_give_back(NULL, &block, 1);
    hak_late_leave();
    return;
  }
  struct hak_bin *bin = &heap->cache.bins[class_id];
  void **top = atomic_load_explicit(&bin->top, memory_order_relaxed);
  if (hak_bin_is_latest(top, block)) hak_fatal_block("double free", block, hak_class_stride(class_id));
  if (HAK_FREE_IS_HOOKED && (block = hak_free_take_in(heap, block, class_id)) == NULL) return;
  if (top < hak_bin_limit(bin)) {
    // The first call, or a slab map that the fast path cannot read.
    hak_slot_store(top + 1, block);
    atomic_store_explicit(&bin->top, top + 1, memory_order_relaxed);
  } else {
    hak_heap_enter(heap);
    hak_thread_cache_overflow(heap, class_id, block);
    hak_heap_leave(heap);
    hak_watch_after_slow(heap);
  }
}

// As pop_between_looks. False: nothing was done.
HAK_INLINE bool push_between_looks(void *block, uint32_t class_id) {
  struct hak_heap *heap = hak_thread_between_looks();
  if (heap == NULL) return false;
  struct hak_cache *cache = &heap->cache;
  return hak_hot_push(&cache, block, class_id * HAK_BIN_BYTES);
}

// Frees a block that is in no slab, and in no cache unless `given` says so.
static HAK_NOINLINE void free_large_slow(void *block, enum hak_medium_given given) {
  if (given == HAK_MEDIUM_REFUSED) {
    if (HAK_PROF && !HAK_GUARDED) hak_sampled_forget(block);
    if (!hak_large_free(block)) hak_fatal("invalid free", block);
  }
  hak_watch_after_large(hak_thread_heap_if_any());
}

// Frees a block that is in no slab. Not marked as cold, as its caller is: the way of medium blocks.
static HAK_NOINLINE void free_large(void *block) {
  struct hak_heap *heap = HAK_MEDIUM_ON ? ready_heap() : NULL;
  const enum hak_medium_given given = HAK_LIKELY(heap != NULL) ? hak_medium_give(heap, block) : HAK_MEDIUM_REFUSED;
  if (HAK_UNLIKELY(given != HAK_MEDIUM_CACHED)) free_large_slow(block, given);
}

static HAK_NOINLINE void free_small(void *block, uint32_t class_id) {
  require_start(block, class_id, "invalid free");
  if (HAK_FREE_IS_HOOKED || !push_between_looks(block, class_id)) free_tiny(block, class_id);
}

// Frees a block whose class by the slab map is `class_id`. What follows is apart, so that it keeps few registers.
HAK_INLINE void free_of_class(void *block, uint32_t class_id) {
  if (HAK_GUARDED && hak_sampler_has_live()) hak_sampled_forget(block);
  if (!hak_class_is_tiny(class_id)) {
    free_large(block);
  } else {
    free_small(block, class_id);
  }
}

#if HAK_ALLOC_PASSDOWN
HAK_COLD void hak_routed_free(void *block, const struct hak_bin *bin) {
  if (block == NULL) return;
  const uint32_t class_id = class_of_bin(bin);
  free_of_class(block, HAK_LIKELY(class_id < HAK_CLASS_IDS) ? class_id : hak_slab_map_look_up(block));
}
#endif

HAK_COLD void hak_cold_free(void *block) {
  if (block != NULL) free_of_class(block, hak_slab_map_look_up(block));
}

static size_t large_usable(const void *block) {
  const size_t usable = hak_large_usable(block);
  if (HAK_UNLIKELY(usable == 0)) hak_fatal("invalid pointer", block);
  return usable;
}

// The usable size of a small block; 0: it is not one. Inline, for calls that leave a small block where it is.
HAK_INLINE size_t small_usable(const void *block) {
  const uint32_t offset = hak_slab_map_look_up_bin(block);
  if (offset == HAK_CLASS_NONE) return 0;
  const uint32_t class_id = offset / HAK_BIN_BYTES;
  require_start(block, class_id, "invalid pointer");
  if (HAK_BLOCK_CHECKS) hak_block_check_live(block, class_id);
  const struct hak_bin *bin = hak_hot_bin(&hak_thread_cache, offset);
  if (HAK_BIN_TELLS && hak_bin_is_latest(hak_bin_top(bin), block)) {
    hak_fatal_block("invalid pointer", block, hak_class_stride(class_id));
  }
  return hak_class_usable(class_id);
}

HAK_NOINLINE size_t hak_slow_usable(const void *block) {
  if (block == NULL) return 0;
  const size_t usable = small_usable(block);
  return HAK_LIKELY(usable != 0) ? usable : large_usable(block);
}

static void *move_block(void *block, size_t usable, size_t size) {
  void *moved = hak_hot_malloc(size);
  if (HAK_UNLIKELY(moved == NULL)) return NULL;
  memcpy(moved, block, usable < size ? usable : size);
  hak_hot_free(block);
  return moved;
}

// What hak_slow_realloc leaves: `usable` is the small block's size, or 0 for a large block; `size` is not 0.
HAK_NOINLINE static void *change_size(void *block, size_t usable, size_t size) {
  if (usable == 0) {
    if (HAK_PROF && HAK_UNLIKELY(hak_sampler_has_live()) && hak_sampled_serves(block, size)) return block;
    usable = large_usable(block);
  }
  if (HAK_UNLIKELY(size > PTRDIFF_MAX)) {
    errno = ENOMEM;
    return NULL;
  }
  if (usable > HAK_TINY_MAX && size > HAK_TINY_MAX) {
    if (size <= usable && usable - size <= usable / 8) return block;
    void *resized = hak_resize_large(block, usable, size, true, CALLER);
    if (resized != NULL) return resized;
  }
  const int saved = errno;
  void *moved = move_block(block, usable, size);
  if (moved == NULL && size <= usable) {
    errno = saved;
    return block;  // There is no memory for a smaller block; this one still serves.
  }
  return moved;
}

HAK_NOINLINE void *hak_slow_realloc(void *block, size_t size) {
  if (HAK_UNLIKELY(block == NULL)) return hak_hot_malloc(size);
  if (HAK_UNLIKELY(size == 0)) {
    hak_hot_free(block);
    return NULL;
  }
  const size_t usable = small_usable(block);
  return hak_class_still_serves(usable, size) ? block : change_size(block, usable, size);
}

HAK_COLD void *hak_slow_aligned_realloc(void *block, size_t align, size_t size) {
  if (align <= HAK_MIN_ALIGN || (block != NULL && size == 0)) return hak_slow_realloc(block, size);
  if (block == NULL) return hak_slow_aligned(align, size);
  const size_t usable = hak_slow_usable(block);
  const bool is_aligned = ((uintptr_t)block & (align - 1)) == 0;
  if (HAK_PROF && is_aligned && hak_sampler_has_live() && hak_sampled_serves(block, size)) return block;
  if (is_aligned && usable <= HAK_TINY_MAX) {
    if (hak_class_still_serves(usable, size)) return block;
  } else if (is_aligned && size > HAK_TINY_MAX) {
    // Pages that move keep the block's place in its page, and no larger alignment.
    void *resized = hak_resize_large(block, usable, size, align <= HAK_PAGE_SIZE, CALLER);
    if (resized != NULL) return resized;
  }
  const int saved = errno;
  void *moved = hak_slow_aligned(align, size);
  if (moved != NULL) {
    memcpy(moved, block, size < usable ? size : usable);
    hak_cold_free(block);
    return moved;
  }
  if (!is_aligned || size > usable) return NULL;
  errno = saved;
  return block;  // As in hak_slow_realloc.
}
