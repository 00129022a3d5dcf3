// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/move_hint.h"

#include "allocator/os/atomic.h"

// The slab from which the heap takes the next block of the class (hak_heap_take); NULL: it needs a new one.
static const struct hak_slab *source_of(const struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  const struct hak_class_heap *class_heap = &heap->classes[class_id];
  const struct hak_slab *source = NULL;
  for (uint32_t list = 0; list <= HAK_LIST_CARVE && source == NULL; list++) source = class_heap->lists[list];
  return source;
}

bool hak_move_helps(const struct hak_heap *heap, const void *block) {
  const struct hak_slab *slab = hak_slab_of(block);
  // Acquire: pairs with the store that gave the slab to its present owner.
  const struct hak_heap *owner = atomic_load_explicit(&slab->owner, memory_order_acquire);
  if (owner == NULL) return false;  // The block is not live.
  const uint32_t free_of_slab = hak_slab_free_count(slab);
  if (free_of_slab * 8 <= slab->capacity) return false;
  uint64_t slabs = hak_class_with_room(&owner->classes[slab->class_id]);
  uint64_t free_blocks = hak_class_free_blocks(&owner->classes[slab->class_id]);
  if (free_blocks < slab->capacity) return false;
  const struct hak_slab *source = source_of(heap, slab->class_id);
  if (slab == source) return false;
  const uint32_t free_of_source = source != NULL ? hak_slab_free_count(source) : 0;
  if (owner == heap) {
    // The average of the slabs that may become free: the source may be the sparsest of all.
    slabs--;
    free_blocks -= free_of_source;
  } else if (free_of_source == 0 && free_of_slab * 2 < slab->capacity) {
    return false;
  }
  return free_of_slab * slabs >= free_blocks;
}
