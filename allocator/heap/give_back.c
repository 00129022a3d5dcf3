// SPDX-License-Identifier: Apache-2.0
//
// Returns blocks to their slabs, at once or in remote chains.
#include "allocator/heap/give_back.h"

#include "allocator/block/block_check.h"
#include "allocator/block/poison.h"
#include "allocator/heap/remote.h"
#include "allocator/os/atomic.h"
#include "allocator/os/report.h"

// How many blocks ahead slab descriptors are prefetched while a batch is returned.
#define PREFETCH_AHEAD 6u
// The number of chains of remote blocks that one return builds; a power of two.
#define CHAINS 32u

// Chains of remote blocks, by a hash of their slab. The bits of `used` tell which chains are in use, so nothing needs
// clearing.
struct chain_table {
  uint32_t used;
  uint64_t bytes;  // pushed so far
  struct hak_chain chains[CHAINS];
};
static_assert(CHAINS == 32, "one bit for each chain");

static void push_chain(struct hak_heap *heap, struct chain_table *table, uint32_t slot) HAK_REQUIRES(hak_heap_role) {
  table->bytes += hak_remote_push(&table->chains[slot]);
  if (heap != NULL) hak_heap_count(&heap->counts.remote_batches);
}

static void add_remote(struct hak_heap *heap, struct chain_table *table, struct hak_slab *slab, void *block)
    HAK_REQUIRES(hak_heap_role) {
  const uint32_t slot = (uint32_t)(((uintptr_t)block >> HAK_SLAB_SHIFT) * 0x9E3779B1u >> 16) & (CHAINS - 1);
  struct hak_chain *chain = &table->chains[slot];
  if (((table->used >> slot) & 1) != 0 && chain->slab != slab) {
    push_chain(heap, table, slot);
    table->used &= ~(1u << slot);
  }
  if (((table->used >> slot) & 1) == 0) {
    *chain = (struct hak_chain){.slab = slab};
    table->used |= 1u << slot;
  }
  hak_chain_add(chain, block);
}

// Returns the first blocks whose slabs are orphans, under one lock: to take it for each block costs more than the rest.
// Returns how many.
static uint32_t return_orphans(void *const *blocks, uint32_t count) HAK_REQUIRES(hak_heap_role) {
  uint32_t i = 0;
  hak_lock_acquire(&hak_orphanage_lock);
  for (; i < count; i++) {
    struct hak_slab *slab = hak_slab_of(blocks[i]);
    // Relaxed: slabs become orphans, or stop being orphans, under this lock. Step T2 of remote.pml.
    if (atomic_load_explicit(&slab->owner, memory_order_relaxed) != &hak_orphanage) break;
    if (i + PREFETCH_AHEAD < count) __builtin_prefetch(hak_slab_of(blocks[i + PREFETCH_AHEAD]), 1);
    if (HAK_POISON_ON) hak_block_require_untouched(blocks[i], slab->class_id);
    hak_heap_put(&hak_orphanage, slab, blocks[i]);
  }
  hak_lock_release(&hak_orphanage_lock);
  return i;
}

void hak_give_back(struct hak_heap *heap, void **blocks, uint32_t count) {
  struct chain_table table;
  table.used = 0;
  table.bytes = 0;
  for (uint32_t i = 0; i < count;) {
    if (i + PREFETCH_AHEAD < count) __builtin_prefetch(hak_slab_of(blocks[i + PREFETCH_AHEAD]), 1);
    void *block = blocks[i];
    struct hak_slab *slab = hak_slab_of(block);
    // Acquire: pairs with the store that gave the slab to its present owner. Step T1 of remote.pml.
    struct hak_heap *owner = atomic_load_explicit(&slab->owner, memory_order_acquire);
    if (HAK_UNLIKELY(owner == &hak_orphanage)) {
      const uint32_t returned = return_orphans(&blocks[i], count - i);
      i += returned;
      if (returned != 0) continue;
      // Adopted meanwhile.
    }
    i++;
    if (HAK_POISON_ON) hak_block_require_untouched(block, slab->class_id);
    if (HAK_LIKELY(owner == heap && owner != NULL)) {
      hak_heap_put(heap, slab, block);
    } else if (owner == NULL) {
      // The slab returned to the pool: none of its blocks is live. The stride is the one that it had.
      hak_fatal_block("double free", block, slab->stride);
    } else {
      add_remote(heap, &table, slab, block);
    }
  }
  for (uint32_t rest = table.used; rest != 0; rest &= rest - 1) push_chain(heap, &table, (uint32_t)__builtin_ctz(rest));
  // These blocks count as free until their owners collect them.
  if (table.bytes != 0) atomic_fetch_add_explicit(&hak_heaps_free_bytes, table.bytes, memory_order_relaxed);
}
