// SPDX-License-Identifier: Apache-2.0
//
// The walk over all live blocks.
#include "allocator/observe/heap_walk.h"

#include "allocator/block/empty_blocks.h"
#include "allocator/heap/live_blocks.h"
#include "allocator/large/large.h"
#include "allocator/meta/address_batch.h"
#include "allocator/slab/slab_map.h"

struct walk {
  bool (*visit)(const hak_block *block, void *context);
  void *context;
  size_t visited;
};

// False: the program has seen enough.
static HAK_COLD bool visit(struct walk *walk, void *address, size_t usable, size_t class_size) {
  const hak_block block = {.address = address, .usable_size = usable, .class_size = class_size};
  walk->visited++;
  return walk->visit(&block, walk->context);
}

static HAK_COLD bool walk_slab(struct walk *walk, const struct hak_live_blocks *blocks) {
  const size_t class_size = hak_class_usable(blocks->class_id);
  // The highest index is the lowest address.
  for (uint32_t index = blocks->capacity; index-- > 0;) {
    if ((blocks->live[index / 64] >> (index % 64) & 1) == 0) continue;
    if (!visit(walk, hak_live_block(blocks, index), hak_live_usable(blocks, index), class_size)) return false;
  }
  return true;
}

static HAK_COLD bool walk_small(struct walk *walk) {
  struct hak_live_blocks blocks;
  for (uintptr_t granule = 0; (granule = hak_slab_map_next(granule)) < HAK_GRANULE_COUNT; granule++) {
    if (!hak_live_blocks_find((const void *)(granule << HAK_SLAB_SHIFT), &blocks)) continue;
    if (!walk_slab(walk, &blocks)) return false;
  }
  return true;
}

static HAK_COLD bool walk_large(struct walk *walk) {
  struct hak_address_batch batch = {.from = NULL};
  do {
    batch.count = 0;
    hak_large_gather(&batch);
    for (uint32_t i = 0; i < batch.count; i++) {
      char *const block = batch.addresses[i];
      batch.from = block + 1;
      // A block in a thread's cache is not live, and others may have been freed meanwhile.
      if (!hak_large_is_live(block)) continue;
      if (!visit(walk, block, hak_large_usable(block), 0)) return false;
    }
  } while (batch.count == HAK_ADDRESS_BATCH);
  return true;
}

static HAK_COLD bool walk_empty(struct walk *walk) {
  for (void *block = NULL; (block = hak_empty_next(block)) != NULL;) {
    if (!visit(walk, block, 0, 0)) return false;
  }
  return true;
}

HAK_COLD size_t hak_walk(bool (*visitor)(const hak_block *block, void *context), void *context) {
  struct walk walk = {.visit = visitor, .context = context};
  if (walk_small(&walk) && walk_large(&walk) && HAK_HARDENED) walk_empty(&walk);
  return walk.visited;
}
