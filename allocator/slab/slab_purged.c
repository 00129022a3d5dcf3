// SPDX-License-Identifier: Apache-2.0
//
// The account of purged pages, and the headers in them.
#include "allocator/slab/slab_purged.h"

#include "allocator/block/block_front.h"
#include "allocator/block/tiny_region_id.h"
#include "allocator/os/atomic.h"
#include "allocator/os/os.h"
#include "allocator/policy/memory_limit.h"

#define HEADERS (HAK_HEADER != HAK_HEADER_MODE_NONE)

static HAK_ATOMIC(uint64_t) purged_bytes;  // relaxed: a statistic

uint64_t hak_slab_purged_bytes(void) { return atomic_load_explicit(&purged_bytes, memory_order_relaxed); }

static uint64_t bytes_of(uint32_t pages) { return hak_popcount(pages) * hak_os_page_size(); }

HAK_COLD bool hak_slab_purged_admitted(const struct hak_slab *slab) { return hak_limit_admit(bytes_of(slab->purged)); }

static uint32_t page_number(const struct hak_slab *slab, const char *address) {
  return (uint32_t)((size_t)(address - hak_slab_start(slab)) / hak_os_page_size());
}

static bool is_purged(const struct hak_slab *slab, uint32_t page) { return ((slab->purged >> page) & 1) != 0; }

bool hak_slab_header_is_purged(const struct hak_slab *slab, const void *block) {
  return HEADERS && HAK_UNLIKELY(slab->purged != 0) && is_purged(slab, page_number(slab, (const char *)block - 1));
}

static void count_again(struct hak_slab *slab, uint32_t pages) {
  const uint64_t bytes = bytes_of(pages);
  slab->purged = (uint16_t)(slab->purged & ~pages);
  hak_commit_add(bytes);
  atomic_fetch_sub_explicit(&purged_bytes, bytes, memory_order_relaxed);
}

// Writes the headers that lie in the page, and the bytes in front of each: those of carved blocks, and the one behind
// the last block that was carved.
static void renew_headers(struct hak_slab *slab, uint32_t page) {
  const uint32_t stride = slab->stride;
  const struct hak_slab_page at = hak_slab_page_at(page);
  const uint32_t uncarved = slab->capacity - hak_slab_carved(slab);
  // The header of block i is the byte in front of distance (i + 1) * stride.
  uint32_t number = (at.end + stride - 1) / stride;
  if (number < uncarved) number = uncarved;
  char *const slab_end = hak_slab_end(slab);
  for (; number <= slab->capacity && number * stride < at.begin; number++) {
    char *const block = slab_end - (size_t)number * stride;
    if (number > uncarved) {
      tiny_region_id_set_purged(block, slab->class_id);
    } else {
      tiny_region_id_carve(block, slab->class_id);
    }
    hak_block_front_fill(block);
  }
}

// A free block that begins in front of the page and ends in it no longer holds its poison.
static void forget_block_in_front(struct hak_slab *slab, uint32_t page) {
  const uint32_t index = (hak_slab_page_at(page).begin - 1) / slab->stride;
  if (!hak_slab_was_carved(slab, index)) return;
  void *const block = hak_slab_block(slab, index);
  if (!hak_slab_header_is_purged(slab, block)) tiny_region_id_set_purged(block, slab->class_id);
}

void hak_slab_note_purged(struct hak_slab *slab, uint32_t first, uint32_t count) {
  const uint32_t pages = ((1u << count) - 1) << first;
  if (HEADERS) forget_block_in_front(slab, first);
  slab->purged = (uint16_t)(slab->purged | pages);
  hak_commit_sub(bytes_of(pages));
  atomic_fetch_add_explicit(&purged_bytes, bytes_of(pages), memory_order_relaxed);
}

HAK_NOINLINE void hak_slab_unpurge(struct hak_slab *slab) { count_again(slab, slab->purged); }

HAK_NOINLINE void hak_slab_unpurge_for(struct hak_slab *slab, void *const *blocks, uint32_t count) {
  if (count == 0) return;
  if (!HEADERS) {
    hak_slab_unpurge(slab);
    return;
  }
  for (uint32_t i = 0; i < count && slab->purged != 0; i++) {
    const char *const block = blocks[i];
    const uint32_t last = page_number(slab, block + slab->stride - 1);
    for (uint32_t page = page_number(slab, block - 1); page <= last; page++) {
      if (!is_purged(slab, page)) continue;
      count_again(slab, 1u << page);
      renew_headers(slab, page);
    }
  }
}
