// SPDX-License-Identifier: Apache-2.0
//
// The life of a slab: format, carve blocks, take and put free blocks.
#include "allocator/slab/slab.h"

#include "allocator/block/block_check.h"
#include "allocator/block/block_front.h"
#include "allocator/block/tiny_region_id.h"
#include "allocator/meta/meta.h"
#include "allocator/os/bytes.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/slab/ground_choice.h"

struct hak_superslab *const *hak_superslab_table;

enum hak_slab_list hak_slab_list_for(const struct hak_slab *slab) {
  if (hak_slab_carved(slab) < slab->capacity) return HAK_LIST_CARVE;
  const uint32_t free_count = hak_slab_free_count(slab);
  if (free_count == 0) return HAK_LIST_FULL;
  if (free_count * 8 <= slab->capacity) return HAK_LIST_SCARCE;
  if (free_count * 4 <= slab->capacity) return HAK_LIST_SOME;
  return free_count * 2 <= slab->capacity ? HAK_LIST_MANY : HAK_LIST_MOST;
}

static size_t bitmap_bytes(uint32_t capacity) { return (capacity + 63) / 64 * sizeof(uint64_t); }

static bool bitmap_is_inline(uint32_t capacity) { return capacity <= HAK_SLAB_INLINE_WORDS * 64; }

// ---- Life of a slab -----------------------------------------------------------------------------

bool hak_slab_format(struct hak_slab *slab, uint32_t class_id, bool zeroed) {
  const struct hak_class_info *info = &hak_class_info[class_id];
  // With headers the first block's header must lie inside the slab.
  const size_t room = (size_t)(hak_slab_end(slab) - hak_slab_begin(slab)) - HAK_HEADER_BYTES;
  const uint32_t capacity = (uint32_t)(room / info->stride);
  const bool is_inline = bitmap_is_inline(capacity);
  slab->free = is_inline ? slab->inline_free : hak_meta_alloc(bitmap_bytes(capacity));
  if (slab->free == NULL) return false;
  if (is_inline) hak_bytes_fill(slab->inline_free, 0, sizeof slab->inline_free);
  slab->next = slab->prev = NULL;
  slab->stride = info->stride;
  slab->reciprocal = info->reciprocal;
  slab->capacity = capacity;
  slab->class_id = (uint8_t)class_id;
  slab->zeroed = zeroed;
  slab->first_word = 0;
  slab->list = HAK_LIST_COUNT;
  slab->purged = 0;
  slab->seen_free = UINT16_MAX;
  slab->pending_next = NULL;
  // Relaxed: the store of the owner publishes all three. Step P3 of remote.pml.
  atomic_store_explicit(&slab->free_count, 0, memory_order_relaxed);
  atomic_store_explicit(&slab->carved, 0, memory_order_relaxed);
  atomic_store_explicit(&slab->remote, 0, memory_order_relaxed);
  return true;
}

void hak_slab_unformat(struct hak_slab *slab) {
  if (!bitmap_is_inline(slab->capacity)) hak_meta_free(slab->free, bitmap_bytes(slab->capacity));
  slab->free = NULL;
}

uint32_t hak_slab_take_free(struct hak_slab *slab, void **out, uint32_t want) {
  const uint32_t available = hak_slab_free_count(slab);
  const uint32_t take = want < available ? want : available;
  uint32_t taken = 0;
  uint32_t word = slab->first_word;
  char *const end = hak_slab_end(slab);
  while (taken < take) {
    uint64_t bits = slab->free[word];
    if (bits == 0) {
      word++;
      continue;
    }
    const size_t base = (size_t)word * 64 + 1;
    do {
      const uint32_t bit = (uint32_t)__builtin_ctzll(bits);
      bits &= bits - 1;
      out[taken++] = end - (base + bit) * slab->stride;
    } while (bits != 0 && taken < take);
    slab->free[word] = bits;
  }
  slab->first_word = word;
  atomic_store_explicit(&slab->free_count, available - take, memory_order_relaxed);
  return take;
}

// Populates the pages of `bytes` bytes of new blocks from `start` on, before the blocks are handed out. If the first
// page is shared with blocks that were carved before, it is populated already.
static void populate(const struct hak_slab *slab, char *start, size_t bytes) {
  const size_t page = hak_os_page_size();
  char *const end = start + bytes;
  if (hak_slab_carved(slab) != 0) start = (char *)hak_round_up((uintptr_t)start, page);
  start -= (uintptr_t)start & (page - 1);
  // For a single page a call costs as much as a fault.
  if (end > start + page) hak_os_populate(start, hak_round_up((size_t)(end - start), page));
}

uint32_t hak_slab_carve(struct hak_slab *slab, void **out, uint32_t want) {
  const uint32_t carved = hak_slab_carved(slab);
  const uint32_t available = slab->capacity - carved;
  const uint32_t take = want < available ? want : available;
  char *block = hak_slab_end(slab) - (size_t)(available - take + 1) * slab->stride;
  if (take > 1 && slab->zeroed && HAK_UNLIKELY(hak_ground_populates())) {
    populate(slab, block - (size_t)(take - 1) * slab->stride, (size_t)take * slab->stride);
  }
  if (take != 0) tiny_region_id_carve_behind(block, slab->class_id);
  for (uint32_t i = 0; i < take; i++, block -= slab->stride) {
    hak_block_make_fresh(block, slab->class_id);
    out[i] = block;
  }
  if (take != 0 && carved == 0) hak_block_front_fill(block + slab->stride);
  atomic_store_explicit(&slab->carved, carved + take, memory_order_relaxed);
  return take;
}

uint32_t hak_slab_index_of_freed(const struct hak_slab *slab, const void *block) {
  const uint32_t index = hak_slab_block_index(slab, block);
  if (HAK_UNLIKELY(!hak_slab_is_block_start(block, slab->reciprocal) || !hak_slab_was_carved(slab, index))) {
    hak_fatal("invalid free", block);
  }
  return index;
}

bool hak_slab_put(struct hak_slab *slab, uint32_t index) {
  const uint32_t word = index / 64;
  const uint64_t bit = (uint64_t)1 << (index % 64);
  if (HAK_UNLIKELY((slab->free[word] & bit) != 0)) return false;
  slab->free[word] |= bit;
  if (word < slab->first_word) slab->first_word = word;
  atomic_store_explicit(&slab->free_count, hak_slab_free_count(slab) + 1, memory_order_relaxed);
  return true;
}
