// SPDX-License-Identifier: Apache-2.0
//
// The entry points of OBSERVE and HARDENED.
#include "allocator/api/guarded_entry.h"

#include <errno.h>
#include <string.h>

#include "allocator/api/process.h"
#include "allocator/api/sampled.h"
#include "allocator/api/uncached.h"
#include "allocator/block/block_check.h"
#include "allocator/block/block_tail.h"
#include "allocator/block/empty_blocks.h"
#include "allocator/heap/bin.h"
#include "allocator/heap/freed_check.h"
#include "allocator/heap/quarantine.h"
#include "allocator/hot/alloc.h"
#include "allocator/large/guarded.h"
#include "allocator/os/report.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_purged.h"

#define SMALL_MAX (HAK_TINY_MAX - HAK_TAIL_WIDE_BYTES)
static_assert(!HAK_GUARDED || HAK_TINY_MAX - HAK_TAIL_BYTES < 1u << HAK_TAIL_CANARY_BITS,
              "a word has room for a length");
// Whether a request does not get an ordinary small block: it is large, or in HARDENED of size 0.
#define IS_SPECIAL(size) (HAK_HARDENED ? (size) - 1 >= SMALL_MAX : (size) > SMALL_MAX)

// ---- Calls ---------------------------------------------------------------------------------------

HAK_INLINE bool enter_call(void) {
  hak_guarded_calls = hak_guarded_calls + 1;
  __asm__ volatile("" ::: "memory");  // A signal handler sees the count before any change to a block.
  return true;
}
HAK_INLINE void leave_call(const bool *entered) {
  (void)entered;
  __asm__ volatile("" ::: "memory");
  hak_guarded_calls = hak_guarded_calls - 1;
}
// Stands at the head of a call, and lasts until it returns.
#define CALL __attribute__((cleanup(leave_call), unused)) const bool entered = enter_call()

// ---- Sampling -----------------------------------------------------------------------------------

// How many small requests of this thread come before the next one that gets guard pages of its own, and whether the
// first such distance was drawn.
static _Thread_local uint32_t until_sample;
static _Thread_local bool drawn;
// The distance to the next reading of the setting where nothing is sampled.
#define NEVER (1u << 20)

// A sampled block, or NULL. The distances are random with the mean HAKMEM_GUARD_SAMPLE, so that they cannot be
// predicted.
static HAK_COLD void *sample(size_t size) {
  struct hak_heap *heap = hak_thread_heap();
  const uint32_t mean = (uint32_t)HAK_SETTING(guard_sample);
  const bool first = !drawn;
  drawn = true;
  until_sample = NEVER;
  if (mean == 0 || heap == NULL || heap->quarantine == NULL) return NULL;
  until_sample = hak_quarantine_random(heap, 2 * mean - 1);
  void *block = first || size == 0 ? NULL : hak_guarded_take(size, HAK_MIN_ALIGN, true, NULL);
  if (block != NULL && hak_is_sampled(size)) hak_sampled_note(block, size, __builtin_return_address(0));
  return block;
}

// ---- New blocks ---------------------------------------------------------------------------------

// Adds to the bytes of the canaries behind live blocks (modulo 2^64).
static void count_canary(size_t bytes) {
  struct hak_cache *cache = hak_thread_cache;
  if (HAK_LIKELY(cache != &hak_no_cache)) {
    // Relaxed: a statistic, which only this thread changes.
    HAK_ATOMIC(uint64_t) *statistic = &hak_heap_of_cache(cache)->counts.canary_bytes;
    atomic_store_explicit(statistic, atomic_load_explicit(statistic, memory_order_relaxed) + bytes,
                          memory_order_relaxed);
  } else {
    // Relaxed: a statistic. Several threads may be without a heap.
    atomic_fetch_add_explicit(&hak_orphanage.counts.canary_bytes, bytes, memory_order_relaxed);
  }
}

static void *sealed(void *block, size_t size, enum hak_kind kind) {
  if (HAK_UNLIKELY(block == NULL)) return NULL;
  const uint32_t class_id = hak_slab_map_look_up(block);
  const size_t room = hak_class_usable(class_id);
  hak_freed_require_front(block, class_id);
  hak_tail_seal(block, room, size, kind);
  hak_block_end_change(block, class_id);
  count_canary(room - size);
  return block;
}

// A large block, or a block of size 0, which nobody can touch (block/empty_blocks.h). If there are too many of the
// latter, an ordinary block.
static HAK_NOINLINE void *special(size_t size, size_t align, bool zero) {
  if (size != 0) return hak_slow_large(size, align, zero);
  hak_thread_heap();  // This may be the process's first call.
  void *block = hak_empty_take(align);
  if (block != NULL) return block;
  const bool small = hak_class_of_aligned(HAK_TAIL_BYTES, align) != HAK_CLASS_NONE;
  return small ? sealed(hak_slow_aligned(align, HAK_TAIL_BYTES), 0, HAK_KIND_MALLOC) : hak_slow_large(0, align, zero);
}

HAK_NOINLINE void *hak_guarded_set(void *block, enum hak_kind kind) {
  CALL;
  if (block == NULL) return NULL;
  const uint32_t class_id = hak_slab_map_look_up(block);
  if (!hak_class_is_tiny(class_id)) {
    if (HAK_HARDENED && hak_empty_state_of(block) == HAK_EMPTY_LIVE) {
      hak_empty_set_kind(block, (uint8_t)kind);
    } else {
      hak_guarded_set_kind(block, kind);
    }
    return block;
  }
  enum hak_kind before;
  const size_t size = hak_tail_size(block, hak_class_usable(class_id), &before);
  hak_block_begin_change(block, class_id);
  hak_tail_seal(block, hak_class_usable(class_id), size, kind);
  hak_block_end_change(block, class_id);
  return block;
}
// A block that is not sealed with its kind.
HAK_INLINE void *of_kind(void *block, enum hak_kind kind) {
  return kind == HAK_KIND_MALLOC ? block : hak_guarded_set(block, kind);
}

HAK_INLINE void *take(size_t size, enum hak_kind kind) {
  if (HAK_UNLIKELY(IS_SPECIAL(size))) return of_kind(special(size, HAK_MIN_ALIGN, false), kind);
  if (HAK_HARDENED && HAK_UNLIKELY(until_sample-- == 0)) {
    void *block = sample(size);
    if (block != NULL) return of_kind(block, kind);
  }
  return sealed(hak_hot_malloc(size + hak_tail_bytes(size)), size, kind);
}

void *hak_guarded_malloc(size_t size) {
  CALL;
  return take(size, HAK_KIND_MALLOC);
}

void *hak_guarded_malloc_nocache(size_t size) {
  CALL;
  if (HAK_HARDENED || IS_SPECIAL(size)) return hak_guarded_malloc(size);
  return sealed(hak_uncached_malloc(size + hak_tail_bytes(size)), size, HAK_KIND_MALLOC);
}

void *hak_guarded_zalloc(size_t size) {
  CALL;
  if (IS_SPECIAL(size)) return special(size, HAK_MIN_ALIGN, true);
  void *block = hak_guarded_malloc(size);
  return block != NULL ? memset(block, 0, size) : NULL;
}

// `align` is over HAK_MIN_ALIGN.
HAK_INLINE void *take_aligned(size_t align, size_t size, bool zero, enum hak_kind kind) {
  if (HAK_HARDENED && size == 0) return of_kind(special(size, align, zero), kind);
  const size_t whole = size + hak_tail_bytes(size);
  const bool small = size <= SMALL_MAX && hak_class_of_aligned(whole, align) != HAK_CLASS_NONE;
  if (!small) return of_kind(hak_slow_large(size, align, zero), kind);
  void *block = sealed(hak_slow_aligned(align, whole), size, kind);
  return zero && block != NULL ? memset(block, 0, size) : block;
}

void *hak_guarded_aligned(size_t align, size_t size) {
  CALL;
  return align <= HAK_MIN_ALIGN ? hak_guarded_malloc(size) : take_aligned(align, size, false, HAK_KIND_MALLOC);
}

void *hak_guarded_aligned_zalloc(size_t align, size_t size) {
  CALL;
  return align <= HAK_MIN_ALIGN ? hak_guarded_zalloc(size) : take_aligned(align, size, true, HAK_KIND_MALLOC);
}

void *hak_guarded_new(size_t align, size_t size, enum hak_kind kind) {
  CALL;
  return align <= HAK_MIN_ALIGN ? take(size, kind) : take_aligned(align, size, false, kind);
}

#if HAK_HARDENED
static void *with_pointers(void *guarded) {
  if (guarded != NULL) hak_guarded_set_pointers(guarded);
  return guarded;
}

void *hak_guarded_pointers(size_t align, size_t size, bool zero, enum hak_kind kind) {
  CALL;
  if (size == 0) {
    hak_thread_heap();  // As in special().
    void *block = hak_empty_take(align);
    if (block != NULL) return of_kind(block, kind);
  }
  const size_t whole = size + hak_tail_bytes(size);
  const uint32_t plain = size <= SMALL_MAX ? hak_class_of_aligned(whole, align) : HAK_CLASS_NONE;
  if (plain == HAK_CLASS_NONE) return of_kind(with_pointers(hak_slow_large(size, align, zero)), kind);
  if (align <= HAK_MIN_ALIGN && HAK_UNLIKELY(until_sample-- == 0)) {
    void *block = with_pointers(sample(size));
    if (block != NULL) return of_kind(block, kind);
  }
  void *block = sealed(hak_slow_pointers(whole, hak_class_pointers(plain)), size, kind);
  return zero && block != NULL ? memset(block, 0, size) : block;
}
#endif

// ---- Existing blocks ----------------------------------------------------------------------------

// As hak_block_require_live. A page that was purged has no headers, and its blocks are free.
HAK_INLINE void require_live(const void *block, uint32_t class_id, const char *if_free, const char *if_other) {
  const enum hak_region_state state = tiny_region_id_state(block, class_id);
  if (HAK_LIKELY(state == HAK_REGION_IS_LIVE)) return;
  if (hak_slab_header_is_purged(hak_slab_of(block), block)) hak_fatal_block(if_free, block, hak_class_stride(class_id));
  hak_block_complain(block, state, class_id, if_free, if_other);
}

#if HAK_BLOCK_CHECKS
#define tail_size(block, class_id, if_free, if_other, kind) hak_tail_size(block, hak_class_usable(class_id), kind)
#else
// Ends the process: the canary of the block is damaged. Without headers only the slab knows whether the block is live:
// a freed one may have lost its canary with its page, and one that was never handed out has none. Another thread may
// own the slab, so this chooses the message only.
static HAK_COLD __attribute__((noreturn)) void complain_of_tail(const void *block, uint32_t class_id,
                                                                const char *if_free, const char *if_other) {
  const struct hak_slab *slab = hak_slab_of(block);
  const uint32_t index = hak_slab_block_index(slab, block);
  if (!hak_slab_was_carved(slab, index)) hak_fatal(if_other, block);
  if (hak_slab_bit(slab, index)) hak_fatal_block(if_free, block, hak_class_stride(class_id));
  hak_fatal_block("overflow", block, hak_class_stride(class_id));
}
HAK_INLINE size_t tail_size(const void *block, uint32_t class_id, const char *if_free, const char *if_other,
                            enum hak_kind *kind) {
  size_t size;
  if (HAK_UNLIKELY(!hak_tail_read(block, hak_class_usable(class_id), &size, kind))) {
    complain_of_tail(block, class_id, if_free, if_other);
  }
  return size;
}
#endif

static HAK_COLD __attribute__((noreturn)) void complain_of_large(const void *block, const char *if_free,
                                                                 const char *if_other) {
  const size_t size = hak_guarded_held_size(block);
  if (size != SIZE_MAX) hak_fatal_block(if_free, block, size);
  hak_fatal(if_other, block);
}

// The requested size of the block, its class and its kind. Ends the process when `block` is not a live block or its
// canary is damaged.
HAK_INLINE size_t size_of(const void *block, const char *if_free, const char *if_other, uint32_t *class_out,
                          enum hak_kind *kind) {
  const uint32_t class_id = *class_out = hak_slab_map_look_up(block);
  if (HAK_LIKELY(hak_class_is_tiny(class_id))) {
    if (!hak_slab_is_block_start(block, hak_class_info[class_id].reciprocal)) hak_fatal(if_other, block);
    if (HAK_BLOCK_CHECKS) require_live(block, class_id, if_free, if_other);
    return tail_size(block, class_id, if_free, if_other, kind);
  }
  if (HAK_HARDENED) {
    const enum hak_empty_state state = hak_empty_state_of(block);
    if (state == HAK_EMPTY_LIVE) {
      *kind = (enum hak_kind)hak_empty_kind(block);
      return 0;
    }
    if (HAK_UNLIKELY(state == HAK_EMPTY_FREED)) hak_fatal(if_free, block);
  }
  const size_t size = hak_guarded_size_and_kind(block, kind);
  // Large blocks have a size above 0, except those with an alignment that no class has.
  if (HAK_UNLIKELY(size == SIZE_MAX)) complain_of_large(block, if_free, if_other);
  return size;
}

static HAK_NOINLINE size_t live_size_of(const void *block, uint32_t *class_id, enum hak_kind *kind) {
  return size_of(block, "invalid pointer", "invalid pointer", class_id, kind);
}

size_t hak_guarded_usable(const void *block) {
  uint32_t class_id;
  enum hak_kind kind;
  return block != NULL ? live_size_of(block, &class_id, &kind) : 0;
}

// The same before the block is released by the call.
HAK_INLINE size_t released_size_of(const void *block, enum hak_release by, uint32_t *class_id) {
  enum hak_kind kind;
  const size_t size = size_of(block, "double free", "invalid free", class_id, &kind);
  if (HAK_UNLIKELY(!hak_release_fits(kind, by))) hak_mismatch(block, size, kind, by);
  return size;
}

// Frees the live block of the class, whose requested size is `size`.
HAK_INLINE void give(void *block, size_t size, uint32_t class_id) {
  if (HAK_LIKELY(hak_class_is_tiny(class_id))) {
    count_canary(size - hak_class_usable(class_id));
  } else if (HAK_HARDENED && size == 0) {
    const enum hak_empty_state state = hak_empty_give(block);
    if (state == HAK_EMPTY_LIVE) return;
    if (HAK_UNLIKELY(state == HAK_EMPTY_FREED)) hak_fatal("double free", block);  // Another thread freed it meanwhile.
  }
  hak_hot_put(block, class_id);
}

HAK_INLINE void release(void *block, enum hak_release by) {
  if (block == NULL) return;
  uint32_t class_id;
  const size_t size = released_size_of(block, by, &class_id);
  give(block, size, class_id);
}

void hak_guarded_free(void *block) {
  CALL;
  release(block, HAK_BY_FREE);
}

void hak_guarded_delete(void *block, enum hak_release by) {
  CALL;
  release(block, by);
}

void hak_guarded_free_nocache(void *block) {
  CALL;
  if (block == NULL) return;
  uint32_t class_id;
  const size_t size = released_size_of(block, HAK_BY_FREE, &class_id);
  if (!hak_class_is_tiny(class_id)) {
    give(block, size, class_id);
    return;
  }
  count_canary(size - hak_class_usable(class_id));
  hak_uncached_free(block);
}

void hak_guarded_free_sized(void *block, size_t align, size_t size) {
  hak_guarded_delete_sized(block, align, size, HAK_BY_FREE);
}

void hak_guarded_delete_sized(void *block, size_t align, size_t size, enum hak_release by) {
  CALL;
  if (block == NULL) return;
  uint32_t class_id;
  const size_t asked_for = released_size_of(block, by, &class_id);
  if (HAK_UNLIKELY(((uintptr_t)block & (align - 1)) != 0)) {
    hak_fatal_block("free with a wrong alignment", block, asked_for);
  }
  if (HAK_UNLIKELY(asked_for != size)) hak_fatal_block("free with a wrong size", block, asked_for);
  give(block, asked_for, class_id);
}

// Resizes the block from `old_size` to `size` bytes in place; it keeps its kind. False: this is not possible.
static bool fits(void *block, size_t old_size, size_t size, uint32_t class_id, enum hak_kind kind) {
  if (!hak_class_is_tiny(class_id)) {
    return hak_sampled_resize(block, size, false, __builtin_return_address(0)) != NULL;
  }
  const size_t room = hak_class_usable(class_id);
  if (size > SMALL_MAX || size + hak_tail_bytes(size) > room) return false;
  hak_block_begin_change(block, class_id);
  hak_tail_seal(block, room, size, kind);
  hak_block_end_change(block, class_id);
  count_canary(old_size - size);
  return true;
}

// The same for a large block that keeps its pages.
static bool shrinks_in_place(void *block, size_t size, const void *caller) {
  if (!hak_guarded_resize(block, size, true)) return false;
  hak_sampled_renew(block, size, caller);
  return true;
}

void *hak_guarded_realloc_in_place(void *block, size_t size) {
  CALL;
  uint32_t class_id;
  enum hak_kind kind;
  const size_t old_size = live_size_of(block, &class_id, &kind);
  const bool small = hak_class_is_tiny(class_id);
  if (fits(block, old_size, size, class_id, kind)) return block;
  if (HAK_HARDENED && size == 0 && hak_empty_state_of(block) == HAK_EMPTY_LIVE) return block;
  return !small && shrinks_in_place(block, size, __builtin_return_address(0)) ? block : NULL;
}

#if HAK_HARDENED
// Whether a live block is pointer-bearing. One of size 0 has no pages of either kind.
HAK_INLINE bool has_pointers(const void *block, uint32_t class_id) {
  return hak_class_is_tiny(class_id) ? hak_class_has_pointers(class_id) : hak_guarded_has_pointers(block);
}
#endif

// A block for what the live block of the class holds.
HAK_INLINE void *take_alike(const void *block, uint32_t class_id, size_t align, size_t size) {
#if HAK_HARDENED
  if (has_pointers(block, class_id)) return hak_guarded_pointers(align, size, false, HAK_KIND_MALLOC);
#endif
  (void)block;
  (void)class_id;
  return hak_guarded_aligned(align, size);
}

void *hak_guarded_realloc(void *block, size_t size) { return hak_guarded_aligned_realloc(block, HAK_MIN_ALIGN, size); }

void *hak_guarded_aligned_realloc(void *block, size_t align, size_t size) {
  CALL;
  if (block == NULL) return hak_guarded_aligned(align, size);
  if (size == 0) {
    hak_guarded_free(block);
    return NULL;
  }
  uint32_t class_id;
  enum hak_kind kind;
  const size_t old_size = live_size_of(block, &class_id, &kind);
  const bool small = hak_class_is_tiny(class_id);
  if (HAK_UNLIKELY(!hak_release_fits(kind, HAK_BY_REALLOC))) {
    hak_mismatch(block, old_size, kind, HAK_BY_REALLOC);
    kind = HAK_KIND_MALLOC;
    hak_guarded_set(block, kind);
  }
  if (HAK_UNLIKELY(size > PTRDIFF_MAX)) {
    errno = ENOMEM;
    return NULL;
  }
  const size_t room = small ? hak_class_usable(class_id) : 0;
  const bool is_aligned = ((uintptr_t)block & (align - 1)) == 0;
  const bool stays = is_aligned && (!small || size > room || hak_class_still_serves(room, size));
  if (stays && fits(block, old_size, size, class_id, kind)) return block;
  const int saved = errno;
  void *moved = take_alike(block, class_id, align, size);
  if (moved != NULL) {
    memcpy(moved, block, old_size < size ? old_size : size);
    hak_guarded_free(block);
    return moved;
  }
  if (!is_aligned || size > old_size ||
      !(small ? fits(block, old_size, size, class_id, kind)
              : shrinks_in_place(block, size, __builtin_return_address(0))))
    return NULL;
  errno = saved;
  return block;  // The block still serves.
}

#if HAK_HARDENED
void *hak_guarded_pointers_realloc(void *block, size_t size) {
  CALL;
  if (block == NULL) return hak_guarded_pointers(HAK_MIN_ALIGN, size, false, HAK_KIND_MALLOC);
  if (size == 0 || hak_empty_state_of(block) != HAK_EMPTY_LIVE) return hak_guarded_realloc(block, size);
  void *moved = hak_guarded_pointers(HAK_MIN_ALIGN, size, false, HAK_KIND_MALLOC);
  if (moved != NULL) hak_guarded_free(block);
  return moved;
}
#endif
