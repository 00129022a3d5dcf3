// SPDX-License-Identifier: Apache-2.0
//
// Checks of freed small blocks and of the bytes in front of them.
#include "allocator/heap/freed_check.h"

#include "allocator/block/block_check.h"
#include "allocator/block/block_front.h"
#include "allocator/block/block_tail.h"
#include "allocator/heap/bin.h"
#include "allocator/heap/quarantine.h"
#include "allocator/os/report.h"
#include "allocator/slab/list_links.h"
#include "allocator/slab/slab_purged.h"

// Bytes of blocks in slabs that one check reads: this takes some milliseconds.
#define SLAB_BYTES_MAX ((size_t)32 * 1024 * 1024)

// How many times a damaged canary of another thread's block is read before it is reported.
#define LOOKS 64

// Hides from ThreadSanitizer the reads of a canary that its thread may be changing. The result of such a read is not
// used.
#define HAK_RACES __attribute__((no_sanitize("thread")))

static HAK_NOINLINE bool is_last_index(const void *block) {
  const struct hak_slab *slab = hak_slab_of(block);
  return hak_slab_block_index(slab, block) + 1 == slab->capacity;
}

// Whether the block is the lowest of its slab. For most blocks the address alone rules this out.
HAK_INLINE bool is_lowest(const void *block, size_t stride) {
  const uintptr_t offset = (uintptr_t)block & (HAK_SUPERSLAB_SIZE - 1);
  const uintptr_t begin = offset < HAK_SLAB_SIZE ? HAK_SUPERSLAB_HEAD : 0;
  return HAK_UNLIKELY((offset & (HAK_SLAB_SIZE - 1)) - begin < 2 * stride) && is_last_index(block);
}

static void require_lowest_front(const void *lowest) {
  if (HAK_UNLIKELY(!hak_block_front_is_intact(lowest))) hak_fatal("underflow", lowest);
}

// Checks the end of the block if the block is live, or blank, all the time. Its thread may free the block
// and allocate it again between two reads, but hardly each time. If that thread is stopped in between, the block is
// free.
static HAK_NOINLINE HAK_RACES void require_tail(const void *block, uint32_t class_id) {
  const enum hak_region_state state = tiny_region_id_state(block, class_id);
  if (state != HAK_REGION_IS_LIVE && !hak_block_is_blank(state)) return;
  const char *const behind = (const char *)block + hak_class_stride(class_id);
  for (int looks = 0; looks < LOOKS; looks++) {
    size_t size;
    enum hak_kind kind;
    hak_block_keep_order();
    if (state == HAK_REGION_IS_LIVE ? hak_tail_read(block, hak_class_usable(class_id), &size, &kind)
                                    : hak_block_front_is_intact(behind)) {
      return;
    }
    hak_block_keep_order();
    if (tiny_region_id_state(block, class_id) != state) return;
  }
  if (state != HAK_REGION_IS_LIVE) hak_fatal("underflow", behind);
  hak_fatal_block("overflow", block, hak_class_stride(class_id));
}

HAK_RACES void hak_freed_require_front(const void *block, uint32_t class_id) {
  if (!HAK_POISON_ON) return;
  const size_t stride = hak_class_stride(class_id);
  // The header of the block before is a cache line away, but its canary is not, so check the canary first.
  if (HAK_UNLIKELY(is_lowest(block, stride))) {
    require_lowest_front(block);
  } else if (HAK_UNLIKELY(
                 !hak_tail_end_is_intact((const char *)block - stride, stride - HAK_HEADER_BYTES, HAK_POISON_WORD))) {
    require_tail((const char *)block - stride, class_id);
  }
}

static void require_untouched(const void *block, uint32_t class_id) {
  hak_block_require_untouched(block, class_id);
  const size_t stride = hak_class_stride(class_id);
  if (is_lowest(block, stride)) {
    require_lowest_front(block);
  } else {
    require_tail((const char *)block - stride, class_id);
  }
}

// Checks the free blocks of the slab. They belong to the owner, like the slab's bitmap.
static size_t require_slab(const struct hak_slab *slab) {
  const uint32_t free_count = hak_slab_free_count(slab);
  if (free_count == 0) return 0;
  for (uint32_t index = 0; index < slab->capacity; index++) {
    const char *block = hak_slab_block(slab, index);
    if (!hak_slab_bit(slab, index)) continue;
    // What a purged page held is lost: the block's header, or the poison at its end.
    if (hak_slab_header_is_purged(slab, block) || hak_slab_header_is_purged(slab, block + slab->stride)) continue;
    require_untouched(block, slab->class_id);
  }
  return (size_t)free_count * slab->stride;
}

static void require_slabs(const struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  size_t bytes = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    for (uint32_t list = 0; list < HAK_LIST_FULL; list++) {
      for (const struct hak_slab *slab = heap->classes[class_id].lists[list]; slab != NULL;
           slab = hak_slab_next(slab)) {
        if (bytes >= SLAB_BYTES_MAX) return;
        bytes += require_slab(slab);
      }
    }
  }
}

void hak_freed_require_untouched(const struct hak_heap *heap) {
  if (!HAK_POISON_ON) return;
  if (heap->quarantine != NULL) hak_quarantine_visit(heap, require_untouched);
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    const struct hak_bin *bin = &heap->cache.bins[class_id];
    if (hak_bin_base(bin) == NULL) continue;
    for (void **slot = hak_bin_first(bin); slot <= hak_bin_top(bin); slot++) {
      const void *block = hak_slot_load(slot);
      if (block != NULL) require_untouched(block, class_id);
    }
  }
  require_slabs(heap);
}
