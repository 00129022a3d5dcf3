// SPDX-License-Identifier: Apache-2.0
//
// Life cycle of thread heaps: the registry of all heap records, opening, closing, and fork.
#include <string.h>

#include "allocator/os/atomic.h"
#include "allocator/tiny/heap.h"
#include "allocator/tiny/meta.h"
#include "allocator/tiny/remote.h"
#include "allocator/tiny/slab_pool.h"
#include "allocator/tiny/thread_cache.h"

static struct hak_lock registry_lock = HAK_LOCK_INIT(HAK_RANK_REGISTRY);
// Under registry_lock.
static struct {
  struct hak_heap *heaps;   // all records there have ever been
  struct hak_heap *closed;  // those without a thread
  uint32_t threads;
  // What ended threads had counted.
  uint64_t refills;
  uint64_t flushes;
  uint64_t remote_batches;
} registry;

struct hak_lock hak_orphanage_lock = HAK_LOCK_INIT(HAK_RANK_ORPHANAGE);
struct hak_heap hak_orphanage;
HAK_ATOMIC(uint64_t) hak_adopted_slabs;

struct hak_heap *hak_heap_open(void) {
  hak_lock_acquire(&registry_lock);
  struct hak_heap *heap = registry.closed;
  if (heap != NULL) {
    registry.closed = heap->next_closed;
  } else {
    heap = hak_meta_alloc(sizeof *heap);
    if (heap != NULL) {
      heap->next = registry.heaps;
      registry.heaps = heap;
    }
  }
  if (heap != NULL) {
    heap->in_use = true;
    registry.threads++;
  }
  hak_lock_release(&registry_lock);
  if (heap == NULL) return NULL;
  hak_thread_cache_init(heap);
  // Release: a notifier that finds the list open finds the heap ready. Relaxed would do as nothing else is read through
  // it.
  atomic_store_explicit(&heap->pending, NULL, memory_order_release);
  return heap;
}

// Gives all slabs of the heap to the orphanage, and closes its pending list.
static void orphan_slabs(struct hak_heap *heap) {
  hak_lock_acquire(&hak_orphanage_lock);
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    for (uint32_t list = 0; list < HAK_LIST_COUNT; list++) {
      struct hak_slab *slab;
      while ((slab = heap->classes[class_id].lists[list]) != NULL) {
        hak_heap_unlink(heap, slab);
        // Release: see hak_remote_notify.
        atomic_store_explicit(&slab->owner, &hak_orphanage, memory_order_release);
        hak_heap_link(&hak_orphanage, slab);
      }
    }
  }
  // Only now: whoever finds the list closed looks at the owner again and must not find this heap.
  struct hak_slab *slab = atomic_exchange_explicit(&heap->pending, HAK_PENDING_CLOSED, memory_order_acq_rel);
  struct hak_slab *foreign = NULL;
  while (slab != NULL) {
    struct hak_slab *next = slab->pending_next;
    if (atomic_load_explicit(&slab->owner, memory_order_relaxed) == &hak_orphanage) {
      hak_remote_collect(&hak_orphanage, slab);
    } else {
      slab->pending_next = foreign;
      foreign = slab;
    }
    slab = next;
  }
  hak_lock_release(&hak_orphanage_lock);
  while (foreign != NULL) {
    struct hak_slab *next = foreign->pending_next;
    hak_remote_notify(foreign);
    foreign = next;
  }
}

static void move_count(HAK_ATOMIC(uint64_t) * from, uint64_t *to) {
  *to += atomic_exchange_explicit(from, 0, memory_order_relaxed);
}

void hak_heap_close(struct hak_heap *heap) {
  hak_thread_cache_flush_all(heap);
  hak_heap_drain(heap);
  hak_heap_release_empty(heap);
  hak_thread_cache_destroy(heap);
  orphan_slabs(heap);
  hak_lock_acquire(&registry_lock);
  move_count(&heap->refills, &registry.refills);
  move_count(&heap->flushes, &registry.flushes);
  move_count(&heap->remote_batches, &registry.remote_batches);
  heap->in_use = false;
  heap->next_closed = registry.closed;
  registry.closed = heap;
  registry.threads--;
  hak_lock_release(&registry_lock);
}

static void add_cached(const struct hak_heap *heap, struct hak_heap_totals *totals) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    const struct hak_bin *bin = &heap->cache.bins[class_id];
    void **base = atomic_load_explicit(&bin->base, memory_order_relaxed);
    void **top = atomic_load_explicit(&bin->top, memory_order_relaxed);
    if (base == NULL) continue;
    // The owner may change both between the two loads: such a moment counts as an empty bin.
    const ptrdiff_t blocks = top - base - 1;
    if (blocks <= 0 || blocks > (ptrdiff_t)HAK_SLAB_BLOCKS_MAX) continue;
    totals->cached_blocks += (uint64_t)blocks;
    totals->cached_bytes += (uint64_t)blocks * hak_class_usable(class_id);
  }
}

struct hak_heap_totals hak_heap_totals(void) {
  hak_lock_acquire(&registry_lock);
  struct hak_heap_totals totals = {
      .threads = registry.threads,
      .refills = registry.refills,
      .flushes = registry.flushes,
      .remote_batches = registry.remote_batches,
      .adopted = atomic_load_explicit(&hak_adopted_slabs, memory_order_relaxed),
  };
  for (const struct hak_heap *heap = registry.heaps; heap != NULL; heap = heap->next) {
    if (!heap->in_use) continue;
    totals.refills += atomic_load_explicit(&heap->refills, memory_order_relaxed);
    totals.flushes += atomic_load_explicit(&heap->flushes, memory_order_relaxed);
    totals.remote_batches += atomic_load_explicit(&heap->remote_batches, memory_order_relaxed);
    add_cached(heap, &totals);
  }
  hak_lock_release(&registry_lock);
  return totals;
}

void hak_heap_lock_all(void) {
  hak_lock_acquire(&registry_lock);
  hak_lock_acquire(&hak_orphanage_lock);
}

void hak_heap_unlock_all(void) {
  hak_lock_release(&hak_orphanage_lock);
  hak_lock_release(&registry_lock);
}

void hak_heap_forget_others(const struct hak_heap *mine) {
  // Their threads do not exist in this process, and each may have been in the middle of a change: the records stay
  // marked as in use and are never opened again, their slabs stay theirs. Blocks of theirs that the child frees collect
  // on the slabs' remote chains.
  registry.threads = mine != NULL ? 1 : 0;
}
