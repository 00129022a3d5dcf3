// SPDX-License-Identifier: Apache-2.0
//
// Opening and closing heaps, the orphanage, the registry of all heaps, and fork.
#include "allocator/heap/heap_life.h"

#include "allocator/heap/bin.h"
#include "allocator/heap/freed_check.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/heap_records.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/heap/medium_cache.h"
#include "allocator/heap/quarantine.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/os/atomic.h"
#include "allocator/os/bytes.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"

static struct {
  struct hak_heap_list heaps;      // heaps with a thread
  struct hak_heap_list closing;    // heaps without a thread that some thread is about to empty
  struct hak_heap_list abandoned;  // heaps that a fork left behind
  struct hak_heap *visited;        // where hak_heap_visit_next continues
  struct hak_heap *looked_at;      // where take_left continues
  // The counts of ended threads.
  uint64_t canary_bytes;
  uint64_t refills;
  uint64_t flushes;
  uint64_t remote_batches;
} registry HAK_GUARDED_BY(hak_registry_lock);
// Written under the registry's lock, read without it. Relaxed: hints.
static HAK_ATOMIC(bool) some_abandoned;  // the list `abandoned` is not empty
static HAK_ATOMIC(uint32_t) threads;     // heaps on the list `heaps`

static uint32_t registry_threads(void) { return atomic_load_explicit(&threads, memory_order_relaxed); }
static void set_threads(uint32_t count) { atomic_store_explicit(&threads, count, memory_order_relaxed); }
uint32_t hak_heap_threads(void) { return registry_threads(); }

static void link_heap(struct hak_heap *heap) HAK_REQUIRES(hak_registry_lock) {
  hak_heap_list_add(&registry.heaps, heap);
  set_threads(registry_threads() + 1);
}

static void unlink_heap(struct hak_heap *heap) HAK_REQUIRES(hak_registry_lock) {
  if (registry.visited == heap) registry.visited = heap->place.next;
  if (registry.looked_at == heap) registry.looked_at = heap->place.next;
  hak_heap_list_remove(&registry.heaps, heap);
  set_threads(registry_threads() - 1);
}

// Moves a whole list to the front of the abandoned heaps, without touching the heaps in between.
static void abandon(struct hak_heap_list *list) HAK_REQUIRES(hak_registry_lock) {
  if (list->first == NULL) return;
  list->last->place.next = registry.abandoned.first;
  if (registry.abandoned.first != NULL) {
    registry.abandoned.first->place.prev = list->last;
  } else {
    registry.abandoned.last = list->last;
  }
  registry.abandoned.first = list->first;
  atomic_store_explicit(&some_abandoned, true, memory_order_relaxed);
  *list = (struct hak_heap_list){NULL, NULL};
}

// How many heaps are checked for an ended thread when a heap is opened: more than one, so that the number of heaps that
// nobody closed shrinks.
#define LOOKS_AT_OPEN 2u

// A heap whose thread ended without closing it, for the caller to close; NULL: there is none among the next `looks`
// heaps. Under the registry's lock.
static struct hak_heap *take_left(uint32_t looks) HAK_REQUIRES(hak_registry_lock) {
  for (; looks > 0; looks--) {
    if (registry.looked_at == NULL) registry.looked_at = registry.heaps.first;
    struct hak_heap *heap = registry.looked_at;
    if (heap == NULL) return NULL;
    registry.looked_at = heap->place.next;
    if (hak_thread_mark_is_left(&heap->mark)) {
      unlink_heap(heap);
      hak_heap_list_add(&registry.closing, heap);
      return heap;
    }
  }
  return NULL;
}

static void close_left(struct hak_heap *heap);

struct hak_heap *hak_heap_open(void) {
  hak_lock_acquire(&hak_registry_lock);
  struct hak_heap *left;
  while ((left = take_left(LOOKS_AT_OPEN)) != NULL) {
    hak_lock_release(&hak_registry_lock);
    close_left(left);
    hak_lock_acquire(&hak_registry_lock);
  }
  struct hak_heap *heap = hak_heap_record_take();
  if (heap == NULL) {
    hak_lock_release(&hak_registry_lock);
    return NULL;
  }
  link_heap(heap);
  // Before the registry's lock is released: a fork then finds the heap ready or not open.
  hak_heap_enter(heap);
  hak_lock_release(&hak_registry_lock);
  hak_thread_cache_init(heap);
  if (HAK_HARDENED) hak_quarantine_attach(heap);
  heap->open = true;
  // Release: a notifier that finds the list open finds the heap ready. Relaxed would be enough, because nothing else is
  // read through it. Step L1 of remote.pml.
  atomic_store_explicit(&heap->pending, HAK_PENDING_END, memory_order_release);
  hak_heap_leave(heap);
  return heap;
}

// Gives all slabs of the heap to the orphanage, and closes its pending list.
static void orphan_slabs(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  hak_lock_acquire(&hak_orphanage_lock);
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
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
  // Only after the owners have changed: a notifier that finds the list closed reads the owner again and must not find
  // this heap. Acquire: pairs with the pushes of the notifiers. Release is stronger than needed: a notifier that still
  // sees the old owner reads the owner again. Step L3 of remote.pml.
  struct hak_slab *slab =
      hak_pending_slab(atomic_exchange_explicit(&heap->pending, HAK_PENDING_CLOSED, memory_order_acq_rel));
  struct hak_slab *foreign = NULL;
  while (slab != NULL) {
    struct hak_slab *next = hak_pending_slab(slab->pending_next);
    // Relaxed: slabs become orphans, or stop being orphans, under this lock. Step L4 of remote.pml.
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

// Relaxed: a statistic of a heap without a thread.
static void move_count(HAK_ATOMIC(uint64_t) * from, uint64_t *to) {
  *to += atomic_exchange_explicit(from, 0, memory_order_relaxed);
}

// Empties the heap, but for the record of its cache of medium blocks, which hak_heap_for_each may be reading. Called by
// its thread, or after that thread is gone.
static void empty(struct hak_heap *heap) {
  hak_heap_enter(heap);
  if (heap->open) {
    hak_freed_require_untouched(heap);
    hak_quarantine_detach(heap);
    hak_medium_flush(heap);
    hak_thread_cache_flush_all(heap);
    hak_remote_drain(heap);
    hak_heap_release_empty(heap);
    hak_thread_cache_destroy(heap);
    orphan_slabs(heap);
    hak_heap_report(heap);
    hak_idle_cache_uncount(heap);
    heap->open = false;
  }
  hak_heap_leave(heap);
}

// Of a heap that is closed and on no list. Under the registry's lock.
static void keep_record(struct hak_heap *heap, uint64_t now) HAK_REQUIRES(hak_registry_lock) {
  move_count(&heap->counts.canary_bytes, &registry.canary_bytes);
  move_count(&heap->counts.refills, &registry.refills);
  move_count(&heap->counts.flushes, &registry.flushes);
  move_count(&heap->counts.remote_batches, &registry.remote_batches);
  hak_medium_destroy(heap);
  hak_heap_record_keep(heap, now);
}

void hak_heap_close(struct hak_heap *heap) {
  empty(heap);
  const uint64_t now = hak_os_now_ms();
  hak_lock_acquire(&hak_registry_lock);
  unlink_heap(heap);
  keep_record(heap, now);
  hak_lock_release(&hak_registry_lock);
}

// Closes a heap that is on the list `closing`.
static void close_left(struct hak_heap *heap) {
  hak_bytes_fill(&heap->mark, 0, sizeof heap->mark);
  empty(heap);
  const uint64_t now = hak_os_now_ms();
  hak_lock_acquire(&hak_registry_lock);
  hak_heap_list_remove(&registry.closing, heap);
  keep_record(heap, now);
  hak_lock_release(&hak_registry_lock);
}

// One slice of the records that were closed at or before `until`. Returns the bytes that were returned.
static HAK_COLD size_t release_records(uint64_t until, uint64_t now, uint32_t warm) {
  hak_lock_acquire(&hak_registry_lock);
  struct hak_heap_rest *rest = hak_heap_records_lend(until, warm);
  hak_lock_release(&hak_registry_lock);
  if (rest == NULL) return 0;
  hak_heap_records_rest(rest, now);
  hak_lock_acquire(&hak_registry_lock);
  const size_t bytes = hak_heap_records_return(rest, now);
  hak_lock_release(&hak_registry_lock);
  return bytes;
}

bool hak_heap_tick_records(uint64_t now) {
  const uint64_t deadline = HAK_SETTING(decommit_deadline_ms);
  if (HAK_LIKELY(!hak_heap_records_may_rest(now)) || now < deadline) return false;
  return release_records(now - deadline, now, HAK_HEAP_RECORDS_WARM) != 0;
}

HAK_COLD size_t hak_heap_trim_records(void) {
  const uint64_t now = hak_os_now_ms();
  size_t bytes = 0;
  for (size_t more; (more = release_records(now, now, 0)) != 0;) bytes += more;
  return bytes;
}

void hak_heap_close_left(void) {
  uint32_t looks = registry_threads();
  hak_lock_acquire(&hak_registry_lock);
  registry.looked_at = registry.heaps.first;
  for (; looks > 0; looks--) {
    struct hak_heap *left = take_left(1);
    if (left == NULL) continue;
    hak_lock_release(&hak_registry_lock);
    close_left(left);
    hak_lock_acquire(&hak_registry_lock);
  }
  hak_lock_release(&hak_registry_lock);
}

// Relaxed: statistics of a thread that keeps running.
static void add_cached(const struct hak_heap *heap, struct hak_heap_totals *totals) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    const struct hak_bin *bin = &heap->cache.bins[class_id];
    void **base = hak_bin_base(bin);
    void **top = hak_bin_top(bin);
    if (base == NULL) continue;
    // The owner may change both between the two loads. Then the bin counts as empty.
    const uint32_t stolen = atomic_load_explicit(&heap->classes[class_id].idle.stolen, memory_order_relaxed);
    const ptrdiff_t blocks = top - base - 1 - (ptrdiff_t)stolen;
    if (blocks <= 0 || blocks > (ptrdiff_t)HAK_SLAB_BLOCKS_MAX) continue;
    totals->classes[class_id].cached_blocks += (uint64_t)blocks;
  }
}

// Blocks in the quarantine and of a chain that is partly put back. Relaxed: statistics.
static void add_on_the_way(const struct hak_heap *heap, struct hak_heap_totals *totals) {
  for (uint32_t class_id = 1; HAK_HARDENED && class_id < HAK_CLASS_IDS; class_id++) {
    totals->classes[class_id].cached_blocks +=
        atomic_load_explicit(&heap->counts.held_of[class_id], memory_order_relaxed);
  }
  const uint32_t rest_class = atomic_load_explicit(&heap->drain.rest_class, memory_order_relaxed);
  totals->classes[rest_class].rest_blocks += atomic_load_explicit(&heap->drain.rest, memory_order_relaxed) >> 32;
  totals->held_blocks += atomic_load_explicit(&heap->counts.held_blocks, memory_order_relaxed);
}

static void add_heap(const struct hak_heap *heap, void *context) {
  struct hak_heap_totals *const totals = context;
  totals->canary_bytes += atomic_load_explicit(&heap->counts.canary_bytes, memory_order_relaxed);
  totals->free_bytes += atomic_load_explicit(&heap->free_bytes, memory_order_relaxed);
  totals->refills += atomic_load_explicit(&heap->counts.refills, memory_order_relaxed);
  totals->flushes += atomic_load_explicit(&heap->counts.flushes, memory_order_relaxed);
  totals->remote_batches += atomic_load_explicit(&heap->counts.remote_batches, memory_order_relaxed);
  add_cached(heap, totals);
  add_on_the_way(heap, totals);
  hak_medium_count(heap, totals->cached_medium);
}

static void add_classes(struct hak_heap_totals *totals) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    const struct hak_class_cached *of = &totals->classes[class_id];
    const size_t usable = hak_class_usable(class_id);
    totals->cached_blocks += of->cached_blocks;
    totals->cached_bytes += of->cached_blocks * usable;
    totals->rest_blocks += of->rest_blocks;
    totals->rest_bytes += of->rest_blocks * usable;
  }
  for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
    totals->cached_large_blocks += totals->cached_medium[class_id];
    totals->cached_large_bytes += totals->cached_medium[class_id] * hak_medium_counted(class_id);
  }
}

HAK_COLD void hak_heap_for_each(void (*visit)(const struct hak_heap *heap, void *context), void *context) {
  const struct hak_heap_list *const lists[] = {&registry.heaps, &registry.closing, &registry.abandoned};
  for (uint32_t i = 0; i < 3; i++) {
    for (const struct hak_heap *heap = lists[i]->first; heap != NULL; heap = heap->place.next) visit(heap, context);
  }
}

struct hak_heap_totals hak_heap_totals(void) {
  struct hak_heap_totals totals;
  // Not by an initialiser, for which compilers may call memset.
  hak_bytes_fill(&totals, 0, sizeof totals);
  hak_lock_acquire(&hak_registry_lock);
  totals.threads = registry_threads();
  totals.refills = registry.refills;
  totals.flushes = registry.flushes;
  totals.remote_batches = registry.remote_batches;
  totals.adopted = atomic_load_explicit(&hak_adopted_slabs, memory_order_relaxed);
  totals.canary_bytes =
      registry.canary_bytes + atomic_load_explicit(&hak_orphanage.counts.canary_bytes, memory_order_relaxed);
  hak_heap_for_each(add_heap, &totals);
  hak_lock_release(&hak_registry_lock);
  add_classes(&totals);
  return totals;
}

bool hak_heap_visit_next(void (*reclaim)(struct hak_heap *heap, void *context), void *context)
    HAK_NO_THREAD_SAFETY_ANALYSIS("it enters the heap only if there is one, and others are not in it") {
  struct hak_heap *left = NULL;
  bool busy = false;
  hak_lock_acquire(&hak_registry_lock);
  struct hak_heap *heap = registry.visited != NULL ? registry.visited : registry.heaps.first;
  if (heap != NULL) {
    registry.visited = heap->place.next;
    if (hak_thread_mark_is_left(&heap->mark)) {
      left = heap;
      unlink_heap(heap);
      hak_heap_list_add(&registry.closing, heap);
    } else {
      busy = !hak_heap_try_enter(heap);
      // An open heap stays open as long as its lock is held. The record of a heap that is not open may be used again as
      // soon as the registry's lock is free; the thread that uses it waits for the heap's lock.
      if (!busy && !heap->open) {
        hak_heap_leave(heap);
        busy = true;
      }
    }
  }
  hak_lock_release(&hak_registry_lock);
  if (left != NULL) {
    close_left(left);
  } else if (heap != NULL && !busy) {
    // Without the registry's lock, so that threads that start, end or visit other heaps do not wait for this.
    reclaim(heap, context);
    hak_heap_leave(heap);
  }
  return heap != NULL;
}

static void wait_free(const struct hak_heap_list *list) HAK_REQUIRES(hak_registry_lock) {
  for (struct hak_heap *heap = list->first; heap != NULL; heap = heap->place.next) {
    hak_fork_gate_wait_free(&heap->lock);
    if (HAK_HARDENED) hak_quarantine_wait_free(heap);
  }
}

void hak_heap_lock_all(void) {
  hak_lock_acquire(&hak_registry_lock);
  hak_fork_gate_close();
  wait_free(&registry.heaps);
  wait_free(&registry.closing);
  hak_lock_acquire_unranked(&hak_late_lock);
  hak_lock_acquire(&hak_orphanage_lock);
}

void hak_heap_unlock_all(void) {
  hak_lock_release(&hak_orphanage_lock);
  hak_lock_release_unranked(&hak_late_lock);
  hak_fork_gate_open();
  hak_lock_release(&hak_registry_lock);
}

void hak_heap_abandon_others(struct hak_heap *mine) {
  // The threads do not exist in this process. Each was outside its slow calls, because their lock is held here. Each
  // was in at most one operation of a fast path: a block that it was taking is still cached, and a block that it was
  // freeing is lost.
  if (mine != NULL) {
    unlink_heap(mine);
    hak_fork_gate_reset(&mine->lock);  // Another thread may have been about to step back from it.
  }
  abandon(&registry.heaps);
  abandon(&registry.closing);
  registry.visited = registry.looked_at = NULL;
  hak_heap_records_forked();
  set_threads(0);
  if (mine != NULL) link_heap(mine);
}

bool hak_heap_close_abandoned(void) {
  if (HAK_LIKELY(!atomic_load_explicit(&some_abandoned, memory_order_relaxed))) return false;
  hak_lock_acquire(&hak_registry_lock);
  struct hak_heap *heap = registry.abandoned.first;
  atomic_store_explicit(&some_abandoned, heap != NULL && heap->place.next != NULL, memory_order_relaxed);
  if (heap != NULL) {
    hak_heap_list_remove(&registry.abandoned, heap);
    hak_heap_list_add(&registry.closing, heap);
    // No thread is in it. Another thread may have been about to step back from it when the process forked.
    hak_fork_gate_reset(&heap->lock);
    if (HAK_HARDENED) hak_quarantine_reset_lock(heap);
  }
  hak_lock_release(&hak_registry_lock);
  if (heap != NULL) close_left(heap);
  return heap != NULL;
}
