// SPDX-License-Identifier: Apache-2.0
//
// Finds the live blocks of one slab.
#include "allocator/heap/live_blocks.h"

#include <string.h>

#include "allocator/block/block_check.h"
#include "allocator/block/block_tail.h"
#include "allocator/block/tiny_nextptr.h"
#include "allocator/block/tiny_region_id.h"
#include "allocator/heap/bin.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/quarantine.h"
#include "allocator/slab/slab_map.h"

struct search {
  struct hak_live_blocks *out;
  const struct hak_slab *slab;
};

static void strike_out(struct hak_live_blocks *out, uint32_t index) {
  if (index < out->capacity) out->live[index / 64] &= ~((uint64_t)1 << (index % 64));
}

// A block that is not live, of any slab.
static HAK_COLD void strike_out_block(const void *block, void *context) {
  const struct search *search = context;
  if (block != NULL && hak_slab_of(block) == search->slab) {
    strike_out(search->out, hak_slab_block_index(search->slab, block));
  }
}

// The blocks of a chain of remote frees. A damaged link ends it; the owner reports that.
static HAK_COLD void strike_out_chain(const struct search *search, uint64_t chain) {
  uint64_t link = (uint32_t)chain;
  for (uint64_t left = chain >> 32; left > 0 && link - 1 < search->out->capacity; left--) {
    strike_out(search->out, (uint32_t)link - 1);
    link = tiny_nextptr_load(hak_slab_block(search->slab, (uint32_t)link - 1));
  }
}

static HAK_COLD void strike_out_cached(const struct hak_heap *heap, void *context)
    HAK_NO_THREAD_SAFETY_ANALYSIS("all heaps' locks are kept free, and no other thread takes them") {
  const struct search *search = context;
  const uint32_t class_id = search->out->class_id;
  const struct hak_bin *bin = &heap->cache.bins[class_id];
  if (hak_bin_base(bin) != NULL) {
    for (void **slot = hak_bin_first(bin); slot <= hak_bin_top(bin); slot++) {
      strike_out_block(hak_slot_load(slot), context);
    }
  }
  if (HAK_HARDENED && heap->quarantine != NULL) {
    hak_quarantine_visit_class(heap->quarantine, class_id, strike_out_block, context);
  }
  // Relaxed: under the locks.
  if (heap->drain.rest_slab == search->slab) {
    strike_out_chain(search, atomic_load_explicit(&heap->drain.rest, memory_order_relaxed));
  }
}

// Reads the request of each block that is left. A block whose canary is not written yet, or that its thread is just
// freeing, is not live. A damaged canary gives the class's size: the free reports it.
static void read_sizes(struct hak_live_blocks *out) {
  for (uint32_t index = 0; index < out->capacity; index++) {
    if ((out->live[index / 64] >> (index % 64) & 1) == 0) continue;
    const void *block = hak_live_block(out, index);
    const size_t usable = hak_class_usable(out->class_id);
    size_t size = usable;
    enum hak_kind kind;
    const bool is_live =
        HAK_HEADER != HAK_HEADER_MODE_ALWAYS || tiny_region_id_state(block, out->class_id) == HAK_REGION_IS_LIVE;
    hak_block_keep_order();
    if (!is_live) {
      strike_out(out, index);
    } else if (!hak_tail_read(block, usable, &size, &kind)) {
      size = usable;
    }
    out->sizes[HAK_GUARDED ? index : 0] = (uint16_t)size;
  }
}

static HAK_COLD void find(const struct search *search) {
  struct hak_live_blocks *out = search->out;
  const struct hak_slab *slab = search->slab;
  memset(out->live, 0, sizeof out->live);
  out->end = hak_slab_end(slab);
  out->class_id = slab->class_id;
  out->capacity = slab->capacity;
  for (uint32_t index = slab->capacity - hak_slab_carved(slab); index < slab->capacity; index++) {
    out->live[index / 64] |= (uint64_t)!hak_slab_bit(slab, index) << (index % 64);
  }
  // Acquire: pairs with the pushes; the links are visible.
  strike_out_chain(search, atomic_load_explicit(&slab->remote, memory_order_acquire));
}

HAK_COLD bool hak_live_blocks_find(const void *address, struct hak_live_blocks *out)
    HAK_NO_THREAD_SAFETY_ANALYSIS("within fork the thread holds the locks already") {
  const bool locks = !hak_lock_holds_all;
  if (locks) hak_heap_lock_all();
  // With these locks held no slab in use is given back, so its head stays mapped.
  const bool in_use = hak_class_is_tiny(hak_slab_map_find(address));
  if (in_use) {
    const struct search search = {.out = out, .slab = hak_slab_of(address)};
    find(&search);
    hak_heap_for_each(strike_out_cached, (void *)(uintptr_t)&search);
    if (HAK_GUARDED) read_sizes(out);
  }
  if (locks) hak_heap_unlock_all();
  return in_use;
}
