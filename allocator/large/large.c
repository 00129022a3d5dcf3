// SPDX-License-Identifier: Apache-2.0
#include "allocator/large/large.h"

#include <string.h>

#include "allocator/large/colour.h"
#include "allocator/large/guarded.h"
#include "allocator/large/mapping.h"
#include "allocator/os/atomic.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_release.h"

#define SPAN_BYTES_MAX (HAK_SPAN_SLABS_MAX * HAK_SLAB_SIZE)

static uint32_t slabs_for(size_t size) {
  return size == 0 ? 1 : (uint32_t)((size + HAK_SLAB_SIZE - 1) >> HAK_SLAB_SHIFT);
}

static bool is_span(const void *block) {
  return hak_slab_map_find(block) == HAK_CLASS_SPAN &&
         ((uintptr_t)block & (HAK_SLAB_SIZE - 1)) == hak_slab_of(block)->span_front;
}

// ---- Where a span's block begins ----------------------------------------------------------------

// NOLINTNEXTLINE(misc-redundant-expression): two constants of two boxes.
static_assert(HAK_SPAN_FRONT_MAX == HAK_COLOUR_BYTES, "a span's block may have every colour");

// Whether a block of `size` bytes leaves room for a colour in its last slab. One that does has this room less to use,
// whether or not it has a colour: the usable size must not fall when a program asks for a byte more.
static bool leaves_room(size_t size, size_t align) {
  return align <= HAK_MIN_ALIGN && size + HAK_COLOUR_BYTES <= slabs_for(size) * HAK_SLAB_SIZE;
}

// How many colours a block of `size` bytes that leaves room can have at the cost of no page.
static uint32_t colours_of(size_t size) {
  const size_t rest = hak_round_up(size, hak_os_page_size()) - size;
  return (uint32_t)((rest < HAK_COLOUR_BYTES ? rest : HAK_COLOUR_BYTES) / HAK_CACHE_LINE);
}

static size_t span_usable(const struct hak_slab *slab) {
  return slab->span_slabs * HAK_SLAB_SIZE - (slab->span_room ? HAK_COLOUR_BYTES : 0);
}

// ---- Pages behind a span's block -----------------------------------------------------------------

#define PAGE ((size_t)4096)
// What is worth a call to the kernel.
#define TRIM_LEAST (4 * PAGE)
// A block that shrinks and grows again is no longer trimmed after so many times.
#define TRIMS_MAX 4u

static uint16_t pages_of(size_t size) { return (uint16_t)((size + PAGE - 1) / PAGE); }

// The span's first `size` bytes are what its block needs from now on. Of the pages that it does not need any more the
// cut-off slabs are the pool's already; those of its last slab go back to the kernel.
static void resized_span(struct hak_slab *slab, char *start, size_t size) {
  const size_t end = hak_round_up(size, hak_os_page_size());
  const size_t span = slab->span_slabs * HAK_SLAB_SIZE;
  const size_t touched = slab->span_pages * PAGE < span ? slab->span_pages * PAGE : span;
  if (touched < end + TRIM_LEAST) {
    if (slab->span_pages < pages_of(size)) slab->span_pages = pages_of(size);
    return;
  }
  if (slab->span_trims >= TRIMS_MAX || !hak_os_decommit(start + end, span - end, HAK_DECOMMIT_DONTNEED)) return;
  slab->span_trims++;
  slab->span_pages = pages_of(end);
}

// ---- Interface ----------------------------------------------------------------------------------

// Bytes `from` to `to` of the span, of whose slabs those in `dirty` may hold something else than zero.
static void clear_span(char *start, size_t from, size_t to, uint32_t dirty) {
  for (; dirty != 0; dirty &= dirty - 1) {
    const size_t slab = (size_t)__builtin_ctz(dirty) * HAK_SLAB_SIZE;
    const size_t first = slab > from ? slab : from;
    const size_t last = slab + HAK_SLAB_SIZE < to ? slab + HAK_SLAB_SIZE : to;
    if (first < last) memset(start + first, 0, last - first);
  }
}

static HAK_ATOMIC(uint32_t) turn;  // of the colours

static void *take_plain(size_t size, size_t align, bool zero, bool grow) {
  if (size <= SPAN_BYTES_MAX && align <= HAK_SLAB_SIZE) {
    uint32_t dirty;
    char *start = hak_pool_take_span(slabs_for(size), &dirty, grow);
    if (start == NULL) return NULL;
    const bool room = leaves_room(size, align);
    const uint32_t colours = room ? colours_of(size) : 0;
    const size_t front = colours != 0 ? hak_colour_next(&turn, colours) : 0;
    if (zero) clear_span(start, front, front + size, dirty);
    struct hak_slab *slab = hak_slab_of(start);
    slab->span_front = (uint32_t)front;
    // Relaxed: statistics read it, for a figure.
    __atomic_store_n(&slab->span_room, room, __ATOMIC_RELAXED);
    slab->span_pages = pages_of(front + size);
    slab->span_trims = 0;
    return start + front;
  }
  bool reads_zero;
  void *start = hak_mapping_reuse(size == 0 ? 1 : size, align, &reads_zero);
  if (start == NULL) {
    // Only before new memory is mapped.
    hak_pool_make_way(size);
    start = hak_mapping_take(size == 0 ? 1 : size, align, &reads_zero);
  }
  if (start != NULL && zero && !reads_zero) memset(start, 0, size);
  return start;
}

static bool give_plain(void *block) {
  return is_span(block) ? hak_pool_give_span(hak_slab_of(block)) : hak_mapping_give(block);
}

// Between guards, or, where there are no mappings for them, without.
static void *take_guarded(size_t size, size_t align, bool zero, bool grow) {
  bool without = false;
  void *block = hak_guarded_take(size, align, false, &without);
  if (HAK_LIKELY(!without)) return block;
  // At a page: its canary ends with one.
  block = take_plain(size, align > hak_os_page_size() ? align : hak_os_page_size(), zero, grow);
  if (block != NULL && !hak_guarded_enter(block, size)) {
    give_plain(block);
    block = NULL;
  }
  return block;
}

void *hak_large_alloc(size_t size, size_t align, bool zero, bool grow) {
  if (size > PTRDIFF_MAX || align > PTRDIFF_MAX) return NULL;
  return HAK_GUARDED ? take_guarded(size, align, zero, grow) : take_plain(size, align, zero, grow);
}

bool hak_large_free(void *block) {
  if (!HAK_GUARDED) return give_plain(block);
  const enum hak_guarded_kind kind = hak_guarded_give(block);
  return kind == HAK_GUARDED_WITHOUT ? give_plain(block) : kind == HAK_GUARDED_BLOCK;
}

size_t hak_large_usable(const void *block) {
  if (HAK_GUARDED) {
    const size_t size = hak_guarded_size(block);
    return size != SIZE_MAX ? size : 0;
  }
  return is_span(block) ? span_usable(hak_slab_of(block)) : hak_mapping_size(block);
}

void *hak_large_resize(void *block, size_t size, bool may_move) {
  if (HAK_GUARDED) return hak_guarded_resize(block, size, false) ? block : NULL;
  if (is_span(block)) {
    struct hak_slab *slab = hak_slab_of(block);
    const size_t front = slab->span_front;
    // A block at its span's start may do without the room.
    const bool room = front != 0 || (slab->span_room && leaves_room(size, HAK_MIN_ALIGN));
    const size_t whole = room ? size + HAK_COLOUR_BYTES : size;
    if (size > SPAN_BYTES_MAX || whole > SPAN_BYTES_MAX) return NULL;
    if (!hak_pool_resize_span(slab, slabs_for(whole))) return NULL;
    __atomic_store_n(&slab->span_room, room, __ATOMIC_RELAXED);  // relaxed: see take_plain
    resized_span(slab, (char *)block - front, front + size);
    return block;
  }
  // A mapping shrunk to a span's size would hold its pages for nothing: the caller copies what little is left.
  return size > SPAN_BYTES_MAX ? hak_mapping_resize(block, size, may_move) : NULL;
}

size_t hak_large_good_size(size_t size) {
  if (HAK_GUARDED) return size;
  if (size > SPAN_BYTES_MAX) return hak_round_up(size + HAK_COLOUR_BYTES, hak_os_page_size()) - HAK_COLOUR_BYTES;
  return slabs_for(size) * HAK_SLAB_SIZE - (leaves_room(size, HAK_MIN_ALIGN) ? HAK_COLOUR_BYTES : 0);
}
