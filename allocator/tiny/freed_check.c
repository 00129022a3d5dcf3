// SPDX-License-Identifier: Apache-2.0
#include "allocator/tiny/freed_check.h"

#include <string.h>

#include "allocator/check/block_check.h"
#include "allocator/check/block_front.h"
#include "allocator/check/block_tail.h"
#include "allocator/os/report.h"
#include "allocator/tiny/list_links.h"
#include "allocator/tiny/quarantine.h"

// Bytes of blocks in slabs that one check reads: some milliseconds.
#define SLAB_BYTES_MAX ((size_t)32 * 1024 * 1024)

// glibc's; other C libraries lack it, and then no process counts as one with a single thread.
extern char __libc_single_threaded __attribute__((weak));
static bool single_threaded(void) { return &__libc_single_threaded != NULL && __libc_single_threaded != 0; }

// Whether the block is the lowest of its slab. Most are told from it by their place alone.
static bool is_lowest(const void *block, uint32_t class_id) {
  const uintptr_t offset = (uintptr_t)block & (HAK_SUPERSLAB_SIZE - 1);
  const uintptr_t begin = offset < HAK_SLAB_SIZE ? HAK_SUPERSLAB_HEAD : 0;
  if (HAK_LIKELY((offset & (HAK_SLAB_SIZE - 1)) - begin >= 2 * hak_class_stride(class_id))) return false;
  const struct hak_slab *slab = hak_slab_of(block);
  return hak_slab_block_index(slab, block) + 1 == slab->capacity;
}

void hak_freed_require_front(const void *block, uint32_t class_id) {
  if (!HAK_POISON_ON || !is_lowest(block, class_id)) return;
  if (HAK_UNLIKELY(!hak_block_front_intact(block))) hak_fatal("underflow", block);
}

// The live block's canary; unless it has none yet: a signal may have come in the middle of a call for it.
static void require_tail(const void *block, size_t usable) {
  uint64_t word;
  memcpy(&word, (const char *)block + usable - sizeof word, sizeof word);
  if (HAK_TAIL_BYTES != 0 && word != 0 && word != HAK_POISON_BYTE * (UINT64_MAX / 0xFF)) hak_tail_size(block, usable);
}

static void require_untouched(const void *block, uint32_t class_id) {
  hak_block_require_untouched(block, class_id);
  if (is_lowest(block, class_id)) {
    hak_freed_require_front(block, class_id);
  } else if (single_threaded()) {
    const char *before = (const char *)block - hak_class_stride(class_id);
    if (tiny_region_id_state(before, class_id) == HAK_REGION_IS_LIVE) require_tail(before, hak_class_usable(class_id));
  }
}

// Blocks that lie free in the slab. They are the owner's, as its bitmap.
static size_t require_slab(const struct hak_slab *slab) {
  const uint32_t free_count = hak_slab_free_count(slab);
  if (free_count == 0) return 0;
  for (uint32_t index = 0; index < slab->capacity; index++) {
    if (hak_slab_bit(slab, index)) require_untouched(hak_slab_block(slab, index), slab->class_id);
  }
  return (size_t)free_count * slab->stride;
}

static void require_slabs(const struct hak_heap *heap) {
  size_t bytes = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
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
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    const struct hak_bin *bin = &heap->cache.bins[class_id];
    // Relaxed: base and top are this thread's own.
    void **const base = atomic_load_explicit(&bin->base, memory_order_relaxed);
    void **const top = atomic_load_explicit(&bin->top, memory_order_relaxed);
    // The first two slots are the marks of the end.
    for (void **slot = base == NULL ? NULL : base + 2; slot != NULL && slot <= top; slot++) {
      const void *block = hak_slot_load(slot);
      if (block != NULL) require_untouched(block, class_id);
    }
  }
  require_slabs(heap);
}
