// SPDX-License-Identifier: Apache-2.0
//
// Life cycle of thread heaps: the registry of all heap records, opening, closing, and fork.
#include <string.h>

#include "allocator/os/atomic.h"
#include "allocator/tiny/freed_check.h"
#include "allocator/tiny/heap.h"
#include "allocator/tiny/idle_cache.h"
#include "allocator/tiny/meta.h"
#include "allocator/tiny/quarantine.h"
#include "allocator/tiny/remote.h"
#include "allocator/tiny/slab_pool.h"
#include "allocator/tiny/thread_cache.h"

static struct hak_lock registry_lock = HAK_LOCK_INIT(HAK_RANK_REGISTRY);
// Under registry_lock.
static struct {
  struct hak_heap *heaps;        // all records there have ever been
  struct hak_heap *closed;       // those without a thread
  HAK_ATOMIC(uint32_t) threads;  // heaps in use, abandoned ones among them; also read without the lock, relaxed
  uint32_t abandoned;
  struct hak_heap *visited;  // where hak_heap_visit_next goes on
  // What ended threads had counted.
  uint64_t refills;
  uint64_t flushes;
  uint64_t remote_batches;
} registry;

static uint32_t registry_threads(void) { return atomic_load_explicit(&registry.threads, memory_order_relaxed); }
static void set_threads(uint32_t count) { atomic_store_explicit(&registry.threads, count, memory_order_relaxed); }
uint32_t hak_heap_threads(void) { return registry_threads(); }

struct hak_lock hak_orphanage_lock = HAK_LOCK_INIT(HAK_RANK_ORPHANAGE);
struct hak_lock hak_late_lock = HAK_LOCK_INIT(HAK_RANK_HEAP);
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
      heap->lock = (struct hak_lock)HAK_LOCK_INIT(HAK_RANK_HEAP);
      heap->next = registry.heaps;
      registry.heaps = heap;
    }
  }
  if (heap != NULL) {
    heap->in_use = true;
    set_threads(registry_threads() + 1);
    // Before the registry lets go of it: a fork then finds the heap ready or not open.
    hak_heap_enter(heap);
  }
  hak_lock_release(&registry_lock);
  if (heap == NULL) return NULL;
  hak_thread_cache_init(heap);
  if (HAK_HARDENED) hak_quarantine_attach(heap);
  heap->open = true;
  // Release: a notifier that finds the list open finds the heap ready. Relaxed would do as nothing else is read through
  // it. Step L1 of remote.pml.
  atomic_store_explicit(&heap->pending, NULL, memory_order_release);
  hak_heap_leave(heap);
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
        // Release: see hak_remote_notify. Step L2 of remote.pml.
        atomic_store_explicit(&slab->owner, &hak_orphanage, memory_order_release);
        hak_heap_link(&hak_orphanage, slab);
      }
    }
  }
  // Only now: whoever finds the list closed looks at the owner again and must not find this heap. Acquire: pairs with
  // the pushes of the notifiers. Release is more than is needed: who still sees the old owner looks
  // again. Step L3 of remote.pml.
  struct hak_slab *slab = atomic_exchange_explicit(&heap->pending, HAK_PENDING_CLOSED, memory_order_acq_rel);
  struct hak_slab *foreign = NULL;
  while (slab != NULL) {
    struct hak_slab *next = slab->pending_next;
    // Relaxed: what makes or unmakes an orphan does so under this lock. Step L4 of remote.pml.
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

// Relaxed: a statistic, of a heap that nobody has.
static void move_count(HAK_ATOMIC(uint64_t) * from, uint64_t *to) {
  *to += atomic_exchange_explicit(from, 0, memory_order_relaxed);
}

void hak_heap_close(struct hak_heap *heap) {
  hak_heap_enter(heap);
  if (heap->open) {
    hak_freed_require_untouched(heap);
    hak_quarantine_detach(heap);
    hak_thread_cache_flush_all(heap);
    hak_heap_drain(heap);
    hak_heap_release_empty(heap);
    hak_thread_cache_destroy(heap);
    orphan_slabs(heap);
    hak_heap_report(heap);
    hak_idle_cache_uncount(heap);
    heap->open = false;
  }
  hak_heap_leave(heap);
  hak_lock_acquire(&registry_lock);
  move_count(&heap->refills, &registry.refills);
  move_count(&heap->flushes, &registry.flushes);
  move_count(&heap->remote_batches, &registry.remote_batches);
  heap->in_use = false;
  heap->next_closed = registry.closed;
  registry.closed = heap;
  set_threads(registry_threads() - 1);
  hak_lock_release(&registry_lock);
}

// Relaxed: figures from a thread that goes on meanwhile.
static void add_cached(const struct hak_heap *heap, struct hak_heap_totals *totals) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    const struct hak_bin *bin = &heap->cache.bins[class_id];
    void **base = atomic_load_explicit(&bin->base, memory_order_relaxed);
    void **top = atomic_load_explicit(&bin->top, memory_order_relaxed);
    if (base == NULL) continue;
    // The owner may change both between the two loads: such a moment counts as an empty bin.
    const uint32_t stolen = atomic_load_explicit(&heap->classes[class_id].stolen, memory_order_relaxed);
    const ptrdiff_t blocks = top - base - 1 - (ptrdiff_t)stolen;
    if (blocks <= 0 || blocks > (ptrdiff_t)HAK_SLAB_BLOCKS_MAX) continue;
    totals->cached_blocks += (uint64_t)blocks;
    totals->cached_bytes += (uint64_t)blocks * hak_class_usable(class_id);
  }
}

struct hak_heap_totals hak_heap_totals(void) {
  hak_lock_acquire(&registry_lock);
  struct hak_heap_totals totals = {
      .threads = registry_threads() - registry.abandoned,
      .refills = registry.refills,
      .flushes = registry.flushes,
      .remote_batches = registry.remote_batches,
      .adopted = atomic_load_explicit(&hak_adopted_slabs, memory_order_relaxed),
  };
  totals.canary_bytes = atomic_load_explicit(&hak_orphanage.canary_bytes, memory_order_relaxed);
  for (const struct hak_heap *heap = registry.heaps; heap != NULL; heap = heap->next) {
    totals.canary_bytes += atomic_load_explicit(&heap->canary_bytes, memory_order_relaxed);
    if (!heap->in_use) continue;
    totals.free_bytes += atomic_load_explicit(&heap->free_bytes, memory_order_relaxed);
    totals.refills += atomic_load_explicit(&heap->refills, memory_order_relaxed);
    totals.flushes += atomic_load_explicit(&heap->flushes, memory_order_relaxed);
    totals.remote_batches += atomic_load_explicit(&heap->remote_batches, memory_order_relaxed);
    add_cached(heap, &totals);
    const uint64_t held = atomic_load_explicit(&heap->held_blocks, memory_order_relaxed);
    totals.held_blocks += held;
    totals.cached_blocks += held;
    totals.cached_bytes += atomic_load_explicit(&heap->held_bytes, memory_order_relaxed);
  }
  hak_lock_release(&registry_lock);
  return totals;
}

bool hak_heap_visit_next(void (*reclaim)(struct hak_heap *heap, void *context), void *context) {
  struct hak_heap *dead = NULL;
  bool found = false;
  hak_lock_acquire(&registry_lock);
  struct hak_heap *heap = registry.visited;
  // Once around the list at most.
  for (uint32_t wraps = 0; wraps < 2 && !found;) {
    if (heap == NULL) {
      heap = registry.heaps;
      wraps++;
      if (heap == NULL) break;
    }
    found = heap->in_use;
    if (!found) heap = heap->next;
  }
  if (found) {
    registry.visited = heap->next;
    if (heap->abandoned) {
      heap->abandoned = false;
      registry.abandoned--;
      dead = heap;
    } else {
      hak_heap_enter(heap);
      if (heap->open) reclaim(heap, context);
      hak_heap_leave(heap);
    }
  }
  hak_lock_release(&registry_lock);
  if (dead != NULL) hak_heap_close(dead);
  return found;
}

void hak_heap_lock_all(void) {
  hak_lock_acquire(&registry_lock);
  for (struct hak_heap *heap = registry.heaps; heap != NULL; heap = heap->next) {
    hak_lock_acquire_unranked(&heap->lock);
    if (HAK_HARDENED) hak_quarantine_lock(heap);  // Its holder waits for no heap.
  }
  hak_lock_acquire_unranked(&hak_late_lock);
  hak_lock_acquire(&hak_orphanage_lock);
}

void hak_heap_unlock_all(void) {
  hak_lock_release(&hak_orphanage_lock);
  hak_lock_release_unranked(&hak_late_lock);
  for (struct hak_heap *heap = registry.heaps; heap != NULL; heap = heap->next) {
    if (HAK_HARDENED) hak_quarantine_unlock(heap);
    hak_lock_release_unranked(&heap->lock);
  }
  hak_lock_release(&registry_lock);
}

void hak_heap_abandon_others(const struct hak_heap *mine) {
  // The threads do not exist in this process. Each was outside its slow calls, whose lock is held here, and at most in
  // one operation of a fast path: a block that it was taking is still cached, one that it was freeing is lost.
  for (struct hak_heap *heap = registry.heaps; heap != NULL; heap = heap->next) {
    if (!heap->in_use || heap == mine || heap->abandoned) continue;
    heap->abandoned = true;
    registry.abandoned++;
  }
}
