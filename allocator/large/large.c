// SPDX-License-Identifier: Apache-2.0
//
// Large blocks: chooses the run of the page heap for each request.
#include "allocator/large/large.h"

#include "allocator/large/guarded.h"
#include "allocator/large/medium.h"
#include "allocator/os/os.h"
#include "allocator/pages/colour.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_release.h"

// ---- Runs for requests ----------------------------------------------------------------------------

// The run that a block of `size` bytes with a colour gets, and its medium class; HAK_MEDIUM_COUNT: none.
struct fit {
  size_t run;
  uint32_t class_id;
};

static struct fit fit_coloured(size_t size) {
  const bool medium = size > HAK_TINY_STRIDE_MAX && hak_medium_is(size);
  const uint32_t class_id = medium ? hak_medium_class(size) : HAK_MEDIUM_COUNT;
  const size_t bytes = medium ? hak_medium_bytes(class_id) : size + HAK_COLOUR_BYTES;
  const struct fit fit = {.run = hak_round_up(bytes, hak_os_page_size()), .class_id = class_id};
  return fit;
}

// The run of a block without a colour. Even a block of 0 bytes has a page.
static size_t plain_run(size_t size) { return hak_round_up(size != 0 ? size : 1, hak_os_page_size()); }

static uint8_t tag_of(const struct fit *fit) {
  return fit->class_id < HAK_MEDIUM_COUNT ? hak_medium_tag(fit->class_id) : 0;
}

// No memory need be returned for a request that can never succeed.
static bool is_too_large(size_t size) { return size >= HAK_ADDRESS_SPACE; }

// From this size on, a block that is requested zeroed may stay mostly untouched.
#define SPARSE_BYTES ((size_t)1024 * 1024)

// ---- Blocks without guards ------------------------------------------------------------------------

// Fewer colours than this would make too many blocks begin at the same line.
#define COLOURS_LEAST 6u

// The number of colours of a block of `size` bytes: those that fit into its last page, if there are enough of these.
static uint32_t colours_of(size_t size) {
  const size_t rest = hak_round_up(size, HAK_PAGE_SIZE) - size;
  const uint32_t free_ones = (uint32_t)(rest / HAK_CACHE_LINE);
  if (!hak_medium_is(size) || free_ones < COLOURS_LEAST) return HAK_COLOURS;
  return free_ones < HAK_COLOURS ? free_ones : HAK_COLOURS;
}

static void *take_plain(size_t size, size_t align, bool zero, bool grow) {
  if (is_too_large(size)) return NULL;
  const size_t page = hak_os_page_size();
  struct hak_page_request request = {.align = align > page ? align : page, .grow = grow};
  // Tables that are requested zeroed are often used in few places only, and there may be much space between aligned
  // blocks.
  request.sparse = (zero && size >= SPARSE_BYTES) || align > size;
  if (align <= HAK_MIN_ALIGN) {
    const struct fit fit = fit_coloured(size);
    request.colours = colours_of(size);
    request.size = fit.run;
    request.tag = tag_of(&fit);
  } else {
    request.size = plain_run(size);
  }
  // Only before new addresses are mapped.
  if (grow && request.size > HAK_MEDIUM_BYTES_MAX) hak_pool_make_way(request.size);
  void *block = hak_page_heap_take(&request);
  if (block != NULL && zero) hak_page_map_clear(block, size);
  return block;
}

// Takes a block between guards, or without guards if there are no mappings for them.
static void *take_guarded(size_t size, size_t align, bool zero, bool grow) {
  bool without = false;
  void *block = hak_guarded_take(size, align, false, &without);
  if (HAK_LIKELY(!without)) return block;
  // It begins at a page boundary and its canary ends at one.
  block = take_plain(size, align > hak_os_page_size() ? align : hak_os_page_size(), zero, grow);
  if (block != NULL && !hak_guarded_enter(block, size)) {
    hak_page_heap_give(block);
    block = NULL;
  }
  return block;
}

// ---- Interface ------------------------------------------------------------------------------------

void *hak_large_alloc(size_t size, size_t align, bool zero, bool grow) {
  if (size > PTRDIFF_MAX || align > PTRDIFF_MAX) return NULL;
  return HAK_GUARDED ? take_guarded(size, align, zero, grow) : take_plain(size, align, zero, grow);
}

// Ends the process when a thread's cache holds the block, which to the page heap is a live one.
static void require_not_cached(const void *block) {
  const HAK_ATOMIC(uint64_t) *entry = hak_page_entry_at(block);
  const uint32_t tag = entry != NULL ? hak_page_tag(entry) : 0;
  if (hak_medium_begins(tag, block)) hak_medium_require_not_cached(tag, block);
}

bool hak_large_free(void *block) {
  if (!HAK_GUARDED) {
    require_not_cached(block);
    return hak_page_heap_give(block);
  }
  const enum hak_guarded_kind kind = hak_guarded_give(block);
  return kind == HAK_GUARDED_WITHOUT ? hak_page_heap_give(block) : kind == HAK_GUARDED_BLOCK;
}

size_t hak_large_usable(const void *block) {
  if (HAK_GUARDED) {
    const size_t size = hak_guarded_size(block);
    return size != SIZE_MAX ? size : 0;
  }
  const HAK_ATOMIC(uint64_t) *entry = hak_page_entry_at(block);
  if (entry == NULL) return 0;
  // The caller holds the block, or takes any answer if others allocate or free it meanwhile.
  const uint32_t tag = hak_page_tag(entry);
  if (hak_medium_begins(tag, block)) {
    return (tag & HAK_TAG_CACHED) != 0 ? 0 : hak_medium_usable(hak_medium_class_of_tag(tag));
  }
  const struct hak_page_block found = hak_page_heap_look(block);
  return found.size != 0 ? hak_colour_usable(found.size, found.front) : 0;
}

bool hak_large_is_live(const void *address) {
  return HAK_GUARDED ? hak_guarded_is_live(address) : hak_large_usable(address) != 0;
}

void hak_large_gather(struct hak_address_batch *batch) {
  if (HAK_GUARDED) {
    hak_guarded_gather(batch);
  } else {
    hak_page_heap_gather(batch);
  }
}

void hak_large_sizes(void (*visit)(size_t usable, void *context), void *context) {
  if (HAK_GUARDED) {
    hak_guarded_sizes(visit, context);
  } else {
    hak_page_heap_sizes(visit, context);
  }
}

// Statistics and thread caches take the run's size from the tag.
static bool tag_fits(uint32_t tag, size_t run) {
  if ((tag & HAK_TAG_CLASS) == 0) return true;
  return run == hak_round_up(hak_medium_bytes(hak_medium_class_of_tag(tag)), hak_os_page_size());
}

HAK_COLD const char *hak_large_verify(void) {
  const char *fault = hak_page_heap_check(tag_fits);
  return fault != NULL ? fault : hak_guarded_verify();
}

void *hak_large_resize(void *block, size_t size, bool may_move) {
  if (HAK_GUARDED) return hak_guarded_resize(block, size, false) ? block : NULL;
  const struct hak_page_block found = hak_page_heap_look(block);
  if (found.size == 0 || is_too_large(size)) return NULL;
  if (found.front == 0) return hak_page_heap_resize(block, plain_run(size), 0, may_move);
  const struct fit fit = fit_coloured(size);
  return hak_page_heap_resize(block, fit.run, tag_of(&fit), may_move);
}

size_t hak_large_good_size(size_t size) {
  if (HAK_GUARDED) return size;
  const struct fit fit = fit_coloured(size);
  return fit.class_id < HAK_MEDIUM_COUNT ? hak_medium_usable(fit.class_id) : hak_colour_usable(fit.run, HAK_CACHE_LINE);
}
