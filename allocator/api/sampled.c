// SPDX-License-Identifier: Apache-2.0
//
// Counts allocations, takes sampled blocks, and recognises them.
#include "allocator/api/sampled.h"

#include <errno.h>

#include "allocator/api/process.h"
#include "allocator/api/watch.h"
#include "allocator/block/size_class.h"
#include "allocator/heap/heap.h"
#include "allocator/hot/cold_entry.h"
#include "allocator/large/large.h"
#include "allocator/large/medium.h"
#include "allocator/os/atomic.h"
#include "allocator/os/lock.h"
#include "allocator/pages/page_map.h"
#include "allocator/slab/slab_map.h"

// ---- Tags ---------------------------------------------------------------------------------------

// Marks a large block as sampled, and tells whether one is marked. By the block's holder.
static void mark(void *block) {
  if (HAK_GUARDED) return;
  HAK_ATOMIC(uint64_t) *entry = hak_page_entry_at(block);
  hak_page_set_tag(entry, hak_page_tag(entry) | HAK_TAG_SAMPLED);
}

static bool may_be_sampled(const void *block) {
  if (HAK_GUARDED) return hak_sampler_has_live();
  const HAK_ATOMIC(uint64_t) *entry = hak_page_entry_at(block);
  return entry != NULL && (hak_page_tag(entry) & HAK_TAG_SAMPLED) != 0;
}

// ---- Allocating ---------------------------------------------------------------------------------

// Does what a signal handler has left to do.
static HAK_COLD void do_due(void) {
  if (hak_lock_is_within()) return;
  // Acquire: pairs with the store that left it.
  hak_sampler_call *due = atomic_exchange_explicit(&hak_sampler_due, NULL, memory_order_acquire);
  if (due != NULL) due();
}

// A thread that has no heap, because it ended, is not counted.
bool hak_sampled_count(size_t size) {
  // Relaxed: do_due looks again.
  if (HAK_UNLIKELY(atomic_load_explicit(&hak_sampler_due, memory_order_relaxed) != NULL)) do_due();
  struct hak_heap *heap = hak_thread_heap_if_any();
  if (HAK_UNLIKELY(heap == NULL) && (heap = hak_thread_heap()) == NULL) return false;
  return hak_sampler_count(&heap->sample, size);
}

// `align` is what was requested, as far as it is known: it matters only where the block has no slab.
static void note(void *block, size_t size, size_t align, const void *caller) {
  struct hak_heap *heap = hak_thread_heap_if_any();
  if (heap == NULL) return;
  mark(block);
  const uint32_t class_id = HAK_GUARDED ? hak_slab_map_look_up(block) : hak_class_of_aligned(size, align);
  hak_sampler_note(&heap->sample, block, size, class_id, caller);
  // Sampling has ended since the block was counted, and so may have the watch, on which its free depends.
  if (HAK_GUARDED && HAK_UNLIKELY(!hak_sampler_is_on())) hak_watch_samples_of_all(heap);
}

void *hak_sampled_take(size_t size, size_t align, bool zero, const void *caller) {
  const int saved = errno;
  // An aligned small block takes a page; without an alignment it would begin at a colour, and take two.
  const bool plain = size <= HAK_TINY_MAX && align < HAK_CACHE_LINE;
  const size_t place = plain ? HAK_CACHE_LINE : align;
  void *block;
  if (hak_class_of_aligned(size, align) == HAK_CLASS_NONE) {
    block = hak_slow_large(size, place, zero);
  } else {
    hak_thread_heap();  // Looks whether this thread's calls must still be watched.
    // A block of the class can serve the request too, so no memory is returned for it, and nobody is told that it
    // fails.
    block = hak_large_alloc(size, place, zero, false);
    if (block == NULL) block = hak_large_alloc(size, place, zero, true);
  }
  if (block == NULL) {
    errno = saved;
    return NULL;
  }
  note(block, size, align, caller);
  return block;
}

void *hak_sampled_note(void *block, size_t size, const void *caller) {
  if (block != NULL) note(block, size, HAK_MIN_ALIGN, caller);
  return block;
}

// ---- Freeing ------------------------------------------------------------------------------------

void hak_sampled_forget(const void *block) {
  if (may_be_sampled(block)) hak_sampler_forget(block);
}

bool hak_sampled_serves(const void *block, size_t size) {
  struct hak_live_sample sample;
  if (HAK_GUARDED || !may_be_sampled(block) || !hak_sampler_find(block, &sample)) return false;
  return hak_class_is_tiny(sample.class_id) && hak_class_still_serves(hak_class_usable(sample.class_id), size) &&
         size <= hak_large_usable(block);
}

void *hak_sampled_resize(void *block, size_t size, bool may_move, const void *caller) {
  struct hak_live_sample before;
  // Taken out first: as soon as the pages have moved, another thread may get a block at the old address.
  const bool was = may_be_sampled(block) && hak_sampler_take_out(block, &before);
  void *resized = hak_large_resize(block, size, may_move);
  if (resized == NULL) {
    if (was) hak_sampler_put_back(&before);
    return NULL;
  }
  if (was) hak_sampler_count_out(&before);
  if (hak_is_sampled(size)) note(resized, size, HAK_MIN_ALIGN, caller);
  return resized;
}

void hak_sampled_renew(void *block, size_t size, const void *caller) {
  hak_sampled_forget(block);
  if (hak_is_sampled(size)) note(block, size, HAK_MIN_ALIGN, caller);
}
