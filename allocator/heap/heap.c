// SPDX-License-Identifier: Apache-2.0
//
// The slabs of a heap: its lists, taking blocks, adopting slabs, putting blocks back.
#include "allocator/heap/heap.h"

#include "allocator/block/block_check.h"
#include "allocator/os/report.h"
#include "allocator/policy/huge_pages.h"
#include "allocator/policy/ss_release_policy.h"
#include "allocator/slab/list_links.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_purge.h"
#include "allocator/slab/slab_purged.h"

struct hak_lock hak_registry_lock = HAK_LOCK_INIT(HAK_RANK_REGISTRY);
struct hak_lock hak_orphanage_lock = HAK_LOCK_INIT(HAK_RANK_ORPHANAGE);
struct hak_lock hak_late_lock = HAK_LOCK_INIT(HAK_RANK_HEAP);
struct hak_heap hak_orphanage;
HAK_ATOMIC(uint64_t) hak_adopted_slabs;

// ---- Lists --------------------------------------------------------------------------------------

// Relaxed: one thread at a time writes, under the heap's lock; others read it as a hint.
static void add_room(struct hak_class_heap *class_heap, uint32_t change) {
  atomic_store_explicit(&class_heap->with_room, hak_class_with_room(class_heap) + change, memory_order_relaxed);
}

// Counts `change` more free blocks of the slab, or fewer. Relaxed: one thread at a time writes, under the heap's lock;
// statistics and hints read.
static void add_free(struct hak_heap *heap, const struct hak_slab *slab, int32_t change) {
  struct hak_class_heap *class_heap = &heap->classes[slab->class_id];
  atomic_store_explicit(&class_heap->free_blocks, hak_class_free_blocks(class_heap) + (uint32_t)change,
                        memory_order_relaxed);
  const uint64_t bytes = hak_heap_free_bytes(heap) + (uint64_t)((int64_t)change * (int64_t)slab->stride);
  atomic_store_explicit(&heap->free_bytes, bytes, memory_order_relaxed);
}

void hak_heap_link(struct hak_heap *heap, struct hak_slab *slab) {
  struct hak_class_heap *class_heap = &heap->classes[slab->class_id];
  const enum hak_slab_list list = hak_slab_list_for(slab);
  slab->list = (uint8_t)list;
  slab->prev = NULL;
  slab->next = hak_slab_first(class_heap->lists[list]);
  if (slab->next != NULL) slab->next->prev = slab;
  class_heap->lists[list] = slab;
  heap->slabs++;
  add_free(heap, slab, (int32_t)hak_slab_free_count(slab));
  if (list != HAK_LIST_FULL) add_room(class_heap, 1);
}

void hak_heap_unlink(struct hak_heap *heap, struct hak_slab *slab) {
  struct hak_class_heap *class_heap = &heap->classes[slab->class_id];
  if (HAK_UNLIKELY(slab->list >= HAK_LIST_COUNT)) hak_fatal(HAK_LINKS_OF_SLABS, slab);
  hak_slab_require_linked(slab, class_heap->lists[slab->list]);
  hak_purge_cursor_skip(&heap->purge, slab);
  if (slab->next != NULL) slab->next->prev = slab->prev;
  if (slab->prev != NULL) {
    slab->prev->next = slab->next;
  } else {
    class_heap->lists[slab->list] = slab->next;
  }
  heap->slabs--;
  add_free(heap, slab, -(int32_t)hak_slab_free_count(slab));
  if (slab->list != HAK_LIST_FULL) add_room(class_heap, (uint32_t)-1);
}

static void relink(struct hak_heap *heap, struct hak_slab *slab) HAK_REQUIRES(hak_heap_role) {
  if (hak_slab_list_for(slab) == slab->list) return;
  hak_heap_unlink(heap, slab);
  hak_heap_link(heap, slab);
}

static bool wholly_free(const struct hak_slab *slab) { return hak_slab_free_count(slab) == hak_slab_carved(slab); }

// Takes blocks out of the slab's bitmap, and updates the heap's counts.
static uint32_t take_free(struct hak_heap *heap, struct hak_slab *slab, void **out, uint32_t want) {
  const uint32_t got = hak_slab_take_free(slab, out, want);
  hak_slab_used_again(slab, out, got);
  add_free(heap, slab, -(int32_t)got);
  return got;
}

static void give_to_pool(struct hak_heap *heap, struct hak_slab *slab) HAK_REQUIRES(hak_heap_role) {
  hak_heap_unlink(heap, slab);
  hak_pool_give(slab);
}

void hak_heap_release_empty(struct hak_heap *heap) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    // A slab without a block in use is on one of these two.
    for (uint32_t list = HAK_LIST_MOST; list <= HAK_LIST_CARVE; list++) {
      struct hak_slab *next;
      for (struct hak_slab *slab = heap->classes[class_id].lists[list]; slab != NULL; slab = next) {
        next = hak_slab_next(slab);
        if (wholly_free(slab)) give_to_pool(heap, slab);
      }
    }
  }
}

// ---- Taking -------------------------------------------------------------------------------------

// Adopts one slab of the class from the orphanage for `heap`; NULL: no slab there has room.
static struct hak_slab *adopt(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  struct hak_class_heap *orphans = &hak_orphanage.classes[class_id];
  // Relaxed: a hint; the check under the lock decides. Step H4 of remote.pml.
  if (HAK_LIKELY(atomic_load_explicit(&orphans->with_room, memory_order_relaxed) == 0)) return NULL;
  struct hak_slab *slab = NULL;
  hak_lock_acquire(&hak_orphanage_lock);
  for (uint32_t list = 0; list < HAK_LIST_FULL && slab == NULL; list++) slab = orphans->lists[list];
  if (slab != NULL) {
    hak_heap_unlink(&hak_orphanage, slab);
    // Release: a thread that frees into the slab and reads the new owner sees the heap's present state.
    // Step H5 of remote.pml.
    atomic_store_explicit(&slab->owner, heap, memory_order_release);
    atomic_fetch_add_explicit(&hak_adopted_slabs, 1, memory_order_relaxed);
  }
  hak_lock_release(&hak_orphanage_lock);
  if (slab != NULL) hak_heap_link(heap, slab);
  return slab;
}

// The first slab of a list whose blocks may be used; NULL: none. Near the memory limit this skips slabs with purged
// pages.
static struct hak_slab *first_admitted(const struct hak_heap *heap, uint32_t class_id, uint32_t list)
    HAK_REQUIRES(hak_heap_role) {
  struct hak_slab *slab = heap->classes[class_id].lists[list];
  if (slab == NULL || hak_slab_admitted(slab)) return slab;
  while (slab != NULL && slab->purged != 0) slab = hak_slab_next(slab);
  return slab;
}

uint32_t hak_heap_take_recycled(struct hak_heap *heap, uint32_t class_id, void **out, uint32_t want) {
  uint32_t got = 0;
  for (uint32_t list = 0; list < HAK_LIST_CARVE && got < want; list++) {
    struct hak_slab *slab;
    while (got < want && (slab = first_admitted(heap, class_id, list)) != NULL) {
      const struct hak_slab *const next = hak_slab_next(slab);
      if (next != NULL) __builtin_prefetch(&next->free[next->first_word]);
      got += take_free(heap, slab, out + got, want - got);
      relink(heap, slab);
    }
  }
  return got;
}

// Takes blocks of a slab that is not carved to the end: free ones, otherwise newly carved ones.
static uint32_t take_from_carved(struct hak_heap *heap, struct hak_slab *slab, void **out, uint32_t want, bool *fresh)
    HAK_REQUIRES(hak_heap_role) {
  uint32_t got = take_free(heap, slab, out, want);
  if (got == 0) {
    heap->took_fresh = true;
    const bool singly = slab->stride >= HAK_CARVE_SINGLY;
    got = hak_slab_carve(slab, out, singly ? 1 : want);
    hak_slab_used_again(slab, out, got);
    // Where blocks that were never handed out hold poison, they are not zero.
    if (fresh != NULL) *fresh = singly && slab->zeroed && !HAK_POISON_ON;
  }
  relink(heap, slab);
  return got;
}

// Whether a new slab of the class will soon be full too: the heap is large, or it is not small and has full slabs of
// the class.
static bool is_further(const struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  const uint64_t bytes = (uint64_t)heap->slabs * HAK_SLAB_SIZE;
  return bytes >= HAK_HUGE_LARGE_HEAP ||
         (bytes >= HAK_HUGE_LEAST_HEAP && heap->classes[class_id].lists[HAK_LIST_FULL] != NULL);
}

// Takes blocks of a slab from the pool; 0: the pool has none.
static uint32_t take_from_pool(struct hak_heap *heap, uint32_t class_id, void **out, uint32_t want, bool *fresh,
                               bool grow) HAK_REQUIRES(hak_heap_role) {
  struct hak_slab *slab = (is_further(heap, class_id) ? hak_pool_take_further : hak_pool_take)(class_id, heap, grow);
  if (slab == NULL) return 0;
  hak_heap_link(heap, slab);
  return take_from_carved(heap, slab, out, want, fresh);
}

// NOLINTNEXTLINE(misc-no-recursion): an adopted slab serves the second call, so there is no third.
uint32_t hak_heap_take_mapped(struct hak_heap *heap, uint32_t class_id, void **out, uint32_t want, bool *fresh) {
  if (fresh != NULL) *fresh = false;
  heap->took_fresh = false;
  uint32_t got = hak_heap_take_recycled(heap, class_id, out, want);
  if (got != 0) return got;
  struct hak_slab *slab = first_admitted(heap, class_id, HAK_LIST_CARVE);
  if (slab != NULL) return take_from_carved(heap, slab, out, want, fresh);
  if (heap != &hak_orphanage) {
    slab = adopt(heap, class_id);
    if (slab != NULL && hak_slab_admitted(slab)) return hak_heap_take_mapped(heap, class_id, out, want, fresh);
  }
  return take_from_pool(heap, class_id, out, want, fresh, false);
}

uint32_t hak_heap_take(struct hak_heap *heap, uint32_t class_id, void **out, uint32_t want, bool *fresh) {
  const uint32_t got = hak_heap_take_mapped(heap, class_id, out, want, fresh);
  if (got != 0) return got;
  // The next step of the reclaim work looks for slabs of idle threads.
  heap->grew = true;
  heap->upkeep.tick_due = true;
  return take_from_pool(heap, class_id, out, want, fresh, true);
}

bool hak_heap_has_recycled(const struct hak_heap *heap, uint32_t class_id) {
  const struct hak_class_heap *class_heap = &heap->classes[class_id];
  for (uint32_t list = 0; list < HAK_LIST_CARVE; list++) {
    if (class_heap->lists[list] != NULL) return true;
  }
  const struct hak_slab *carving = class_heap->lists[HAK_LIST_CARVE];
  return carving != NULL && hak_slab_free_count(carving) != 0;
}

// ---- Putting back -------------------------------------------------------------------------------

void hak_heap_put(struct hak_heap *heap, struct hak_slab *slab, void *block) {
  if (HAK_UNLIKELY(!hak_slab_put(slab, hak_slab_index_of_freed(slab, block)))) {
    hak_fatal_block("double free", block, slab->stride);
  }
  add_free(heap, slab, 1);
  if (HAK_UNLIKELY(wholly_free(slab))) {
    const struct hak_class_heap *class_heap = &heap->classes[slab->class_id];
    const uint32_t with_room = hak_class_with_room(class_heap);
    const uint32_t others = with_room - (slab->list != HAK_LIST_FULL);
    if (heap == &hak_orphanage || !hak_should_keep_slab(others)) {
      give_to_pool(heap, slab);
      return;
    }
  }
  relink(heap, slab);
}

HAK_ATOMIC(uint64_t) hak_heaps_free_bytes;

void hak_heap_report(struct hak_heap *heap) {
  const uint64_t now = hak_heap_free_bytes(heap);
  if (now == heap->reported_bytes) return;
  atomic_fetch_add_explicit(&hak_heaps_free_bytes, now - heap->reported_bytes, memory_order_relaxed);
  heap->reported_bytes = now;
}

// ---- Checking -----------------------------------------------------------------------------------

static const char *check_slab(const struct hak_heap *heap, const struct hak_slab *slab, uint32_t class_id,
                              uint32_t list) {
  if (slab->class_id != class_id) return "slab of another class on a class's list";
  // Relaxed: it was written under the lock that is held here.
  if (slab->list != list || hak_slab_list_for(slab) != list) return "slab on the wrong list";
  if (atomic_load_explicit(&slab->owner, memory_order_relaxed) != heap) return "slab of another owner on a heap's list";
  if (hak_slab_carved(slab) > slab->capacity) return "slab carved beyond its capacity";
  if (slab->next != NULL && slab->next->prev != slab) return "slab list with a broken link";
  uint32_t bits = 0;
  for (uint32_t word = 0; word < (slab->capacity + 63) / 64; word++) {
    bits += (uint32_t)__builtin_popcountll(slab->free[word]);
    if (word < slab->first_word && slab->free[word] != 0) return "free block below the first word";
  }
  if (!hak_slab_purge_holds(slab)) return "page given back with a block in use";
  if (bits != hak_slab_free_count(slab)) return "free blocks of a slab miscounted";
  for (uint32_t i = 0; i + hak_slab_carved(slab) < slab->capacity; i++) {
    if (hak_slab_bit(slab, i)) return "free block that was never carved";
  }
  return NULL;
}

const char *hak_heap_check(const struct hak_heap *heap) {
  uint64_t free_bytes = 0;
  uint64_t slabs = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    const struct hak_class_heap *class_heap = &heap->classes[class_id];
    uint32_t with_room = 0;
    uint32_t free_blocks = 0;
    for (uint32_t list = 0; list < HAK_LIST_COUNT; list++) {
      for (const struct hak_slab *slab = class_heap->lists[list]; slab != NULL; slab = slab->next) {
        slabs++;
        with_room += list != HAK_LIST_FULL;
        free_blocks += hak_slab_free_count(slab);
        free_bytes += (uint64_t)hak_slab_free_count(slab) * slab->stride;
        const char *fault = check_slab(heap, slab, class_id, list);
        if (fault != NULL) return fault;
      }
    }
    if (with_room != hak_class_with_room(class_heap)) return "slabs miscounted";
    if (free_blocks != hak_class_free_blocks(class_heap)) return "free blocks of a class miscounted";
  }
  if (slabs != heap->slabs) return "slabs of a heap miscounted";
  if (free_bytes != hak_heap_free_bytes(heap)) return "free bytes of a heap miscounted";
  return NULL;
}
