// SPDX-License-Identifier: Apache-2.0
//
// Checks the invariants of the pool, the large blocks, the orphanage and the calling thread's heap.
#include "allocator/observe/verify.h"

#include "allocator/heap/bin.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/large/large.h"
#include "allocator/os/atomic.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"

// What is wrong with one cached block, or NULL. For a block of another heap's slab, checks only what its owner does not
// change. *own: whether the slab is this heap's.
static const char *check_cached_block(const struct hak_heap *heap, uint32_t class_id, const void *block, bool *own) {
  *own = false;
  if (hak_slab_map_find(block) != class_id) return "cached block of another class";
  if (!hak_slab_is_block_start(block, hak_class_info[class_id].reciprocal)) return "cached pointer inside a block";
  const struct hak_slab *slab = hak_slab_of(block);
  // Acquire: as in hak_give_back.
  if (atomic_load_explicit(&slab->owner, memory_order_acquire) != heap) return NULL;
  const uint32_t index = hak_slab_block_index(slab, block);
  if (!hak_slab_was_carved(slab, index)) return "cached block that was never carved";
  if (hak_slab_bit(slab, index)) return "cached block that is free in its slab, or cached twice";
  *own = true;
  return NULL;
}

static void flip_bit(const void *block) {
  struct hak_slab *slab = hak_slab_of(block);
  const uint32_t index = hak_slab_block_index(slab, block);
  slab->free[index / 64] ^= (uint64_t)1 << (index % 64);
}

// Every cached block must be a carved block of its class, must not also be free in its slab, and must be cached once.
// To find a block that is cached twice, blocks already seen are marked as free meanwhile, in this thread's own slabs.
static const char *check_bin(const struct hak_heap *heap, uint32_t class_id) {
  const struct hak_bin *bin = &heap->cache.bins[class_id];
  // Relaxed: base and top are this thread's own.
  void **const base = atomic_load_explicit(&bin->base, memory_order_relaxed);
  void **const top = atomic_load_explicit(&bin->top, memory_order_relaxed);
  if (base == NULL) return NULL;
  if (base[0] != NULL || base[1] != NULL) return "thread cache without its end marks";
  if (top < base + 1 || top > hak_bin_limit(bin)) return "thread cache beyond its bounds";
  const char *fault = NULL;
  void **slot = base + 2;
  for (; slot <= top; slot++) {
    bool own;
    fault = check_cached_block(heap, class_id, *slot, &own);
    if (fault != NULL) break;
    if (own) flip_bit(*slot);
  }
  while (--slot >= base + 2) {
    // Acquire: as above.
    if (atomic_load_explicit(&hak_slab_of(*slot)->owner, memory_order_acquire) == heap) flip_bit(*slot);
  }
  return fault;
}

static const char *check_cache(const struct hak_heap *heap) {
  const char *fault = NULL;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS && fault == NULL; class_id++) fault = check_bin(heap, class_id);
  return fault;
}

const char *hak_verify(struct hak_heap *heap) {
  const char *fault = hak_pool_verify();
  if (fault == NULL) fault = hak_large_verify();
  if (fault == NULL) {
    hak_orphanage_enter();
    fault = hak_heap_check(&hak_orphanage);
    hak_orphanage_leave();
  }
  if (fault != NULL || heap == NULL) return fault;
  hak_heap_enter(heap);
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) hak_cache_settle(heap, class_id);
  fault = hak_heap_check(heap);
  if (fault == NULL) fault = check_cache(heap);
  hak_heap_leave(heap);
  return fault;
}
