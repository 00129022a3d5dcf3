// SPDX-License-Identifier: Apache-2.0
//
// The bin: the cached blocks of one class of one thread; and the cache: all bins of a thread. This file says who may
// touch which part of it. The code that fills and empties it is in thread_cache.h, idle_cache.h and hot/alloc.h.
#ifndef HAKMEM_HEAP_BIN_H_
#define HAKMEM_HEAP_BIN_H_

#include "allocator/block/size_class.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Slots are read and written by the owner thread without a lock or fence, and by another thread that empties the cache
// of an idle thread (idle_cache.h). Release: pairs with the exchange of that other thread. In hardware the barrier does
// the ordering, but ThreadSanitizer needs the release. All other accesses to slots are relaxed.
#if defined(__SANITIZE_THREAD__)
#define HAK_SLOT_STORE_ORDER __ATOMIC_RELEASE
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAK_SLOT_STORE_ORDER __ATOMIC_RELEASE
#endif
#endif
#ifndef HAK_SLOT_STORE_ORDER
#define HAK_SLOT_STORE_ORDER __ATOMIC_RELAXED
#endif
// Relaxed: the barrier does the ordering.
HAK_INLINE void *hak_slot_load(void *const *slot) { return __atomic_load_n(slot, __ATOMIC_RELAXED); }
// For a slot whose block is only compared. The compiler folds a plain load into the comparison, but not an atomic one;
// an aligned pointer is read whole in both cases. Under ThreadSanitizer the load is atomic and relaxed.
HAK_INLINE void *hak_slot_peek(void *const *slot) {
  return HAK_SLOT_STORE_ORDER == __ATOMIC_RELAXED ? *slot : __atomic_load_n(slot, __ATOMIC_RELAXED);
}
HAK_INLINE void hak_slot_store(void **slot, void *block) { __atomic_store_n(slot, block, HAK_SLOT_STORE_ORDER); }

// Cached blocks of one class: a stack in an array. slot[0] and slot[1] of the array are always NULL, so that the two
// latest entries can be read without a check. `top` points at the latest entry, or at slot[1] when there is none.
// Invariant: base + 1 <= top <= limit; the array has limit - base + 1 slots. A slot whose block another thread took is
// NULL until the owner's next slow call.
struct hak_bin {
  // The owner thread writes; statistics read, relaxed.
  HAK_ATOMIC(void **) top;
  void **limit;  // the last usable slot; not above `top` in a bin without room. Written under the heap's lock, also by
                 // other threads (idle_cache.h); read through hak_bin_limit
  uint32_t reciprocal;  // of the class's stride; 0 for ids that are not small classes
  uint32_t negated;     // 0 - reciprocal: see hak_slab_is_block_start_by
  HAK_ATOMIC(void **)
  base;  // slot[0]; NULL until the class has an array. The owner writes, statistics read, relaxed.
};
static_assert(sizeof(struct hak_bin) == HAK_BIN_BYTES, "two bins in a cache line");
// Relaxed: a thread that reads an old limit frees one more block into room that exists.
HAK_INLINE void **hak_bin_limit(const struct hak_bin *bin) {
  return (void **)hak_slot_peek((void *const *)&bin->limit);
}
HAK_INLINE void hak_bin_set_limit(struct hak_bin *bin, void **limit) {
  __atomic_store_n(&bin->limit, limit, __ATOMIC_RELAXED);
}

// The two NULL slots at the bottom of each array.
#define HAK_BIN_SENTINELS 2u

// Relaxed, all four: the bin is the calling thread's own, or an idle thread's, read under that heap's lock; statistics
// read at any time.
HAK_INLINE void **hak_bin_top(const struct hak_bin *bin) {
  return atomic_load_explicit(&bin->top, memory_order_relaxed);
}
HAK_INLINE void hak_bin_set_top(struct hak_bin *bin, void **top) {
  atomic_store_explicit(&bin->top, top, memory_order_relaxed);  // Relaxed: as above.
}
HAK_INLINE void **hak_bin_base(const struct hak_bin *bin) {
  return atomic_load_explicit(&bin->base, memory_order_relaxed);  // Relaxed: as above.
}
HAK_INLINE void hak_bin_set_base(struct hak_bin *bin, void **base) {
  atomic_store_explicit(&bin->base, base, memory_order_relaxed);  // Relaxed: as above.
}
// Moves the top, which the owner thread has just read as `top`, down or up by one slot. Relaxed: as hak_bin_set_top.
//
// On x86-64 by one instruction that adds to memory: compilers make two of an atomic load and an atomic store. It is not
// locked, because only the owner writes the top. The compiler moves no access to a slot across it. ThreadSanitizer must
// see a store.
#if defined(__x86_64__)
#define HAK_BIN_ADDS_TO_TOP (HAK_SLOT_STORE_ORDER == __ATOMIC_RELAXED)
#define HAK_BIN_ADD_TO_TOP(bin, bytes) __asm__ volatile("addq $" #bytes ", %0" : "+m"((bin)->top) : : "cc", "memory")
static_assert(sizeof(void *) == 8, "the instructions add the size of a slot");
#else
#define HAK_BIN_ADDS_TO_TOP 0
#define HAK_BIN_ADD_TO_TOP(bin, bytes) (void)(bin)
#endif
HAK_INLINE void hak_bin_step_down(struct hak_bin *bin, void **top) {
  if (HAK_BIN_ADDS_TO_TOP) {
    HAK_BIN_ADD_TO_TOP(bin, -8);
  } else {
    hak_bin_set_top(bin, top - 1);
  }
}
HAK_INLINE void hak_bin_step_up(struct hak_bin *bin, void **top) {
  if (HAK_BIN_ADDS_TO_TOP) {
    HAK_BIN_ADD_TO_TOP(bin, 8);
  } else {
    hak_bin_set_top(bin, top + 1);
  }
}

// The first slot for a block. Not for a bin without an array.
HAK_INLINE void **hak_bin_first(const struct hak_bin *bin) { return hak_bin_base(bin) + HAK_BIN_SENTINELS; }
// The number of blocks in the bin, and its capacity. Slots that another thread emptied count as blocks.
HAK_INLINE uint32_t hak_bin_count(const struct hak_bin *bin) {
  return hak_bin_base(bin) == NULL ? 0 : (uint32_t)(hak_bin_top(bin) - hak_bin_base(bin)) - 1;
}
HAK_INLINE uint32_t hak_bin_capacity(const struct hak_bin *bin) {
  return hak_bin_base(bin) == NULL ? 0 : (uint32_t)(hak_bin_limit(bin) - hak_bin_base(bin)) - 1;
}

// Whether a free compares with the latest entries to find double frees. FAST does not; headers find more.
#define HAK_BIN_TELLS (!HAK_FAST && HAK_HEADER != HAK_HEADER_MODE_ALWAYS)
// Whether `block` is one of the two latest entries of the bin with this top, that is, it was freed and not taken since.
// Two NULL slots lie below every stack.
HAK_INLINE bool hak_bin_is_latest(void *const *top, const void *block) {
  return HAK_BIN_TELLS && (hak_slot_peek(top) == block || hak_slot_peek(top - 1) == block);
}

struct hak_cache {
  struct hak_bin bins[HAK_CLASS_IDS];
};
static_assert(offsetof(struct hak_cache, bins) == 0, "hak_class_bin_of counts from the cache");

// A cache without room and without blocks: a thread has it before its first slow call and after its end.
extern const struct hak_cache hak_no_cache;

// Makes the bin of a small class (or of any other id, with reciprocal 0) a bin without an array.
void hak_bin_clear(struct hak_bin *bin, uint32_t reciprocal);

HAK_C_END

#endif  // HAKMEM_HEAP_BIN_H_
