// SPDX-License-Identifier: Apache-2.0
//
// Totals and checks of the pool.
#include "allocator/slab/slab_pool_stats.h"

#include "allocator/os/atomic.h"
#include "allocator/os/bytes.h"
#include "allocator/slab/list_links.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_state.h"

static bool visit_all(bool (*visit)(struct hak_slab *slab, void *context), void *context) HAK_REQUIRES(hak_pool_mutex) {
  for (uint32_t list = 0; list < HAK_POOL_GROUNDS * HAK_POOL_LISTS; list++) {
    struct hak_superslab *ss = hak_pool.grounds[list / HAK_POOL_LISTS].lists[list % HAK_POOL_LISTS];
    for (; ss != NULL; ss = hak_superslab_next(ss)) {
      for (uint32_t i = 0; i < HAK_SLABS_PER_SUPERSLAB; i++) {
        if (!visit(&ss->slabs[i], context)) return false;
      }
    }
  }
  return true;
}

bool hak_pool_visit(bool (*visit)(struct hak_slab *slab, void *context), void *context) {
  hak_pool_enter();
  const bool all = visit_all(visit, context);
  hak_lock_release(&hak_pool_mutex);
  return all;
}

static void add_to_class(struct hak_class_slabs *of, const struct hak_slab *slab) {
  const uint32_t carved = hak_slab_carved(slab);
  const uint32_t free_blocks = hak_slab_free_count(slab);
  of->slabs++;
  of->free_blocks += free_blocks;
  of->fresh_blocks += slab->capacity - carved;
  // The owner may carve and free between the two loads, so the difference may be below zero.
  of->held_blocks += carved > free_blocks ? carved - free_blocks : 0;
  // Relaxed: a statistic; the links are not followed.
  of->remote_blocks += atomic_load_explicit(&slab->remote, memory_order_relaxed) >> 32;
}

static bool add_to_totals(struct hak_slab *slab, void *context) {
  struct hak_pool_totals *totals = context;
  switch (slab->class_id) {
    case HAK_CLASS_NONE: {
      const struct hak_superslab *ss = hak_superslab_of_slab(slab);
      const size_t index = (size_t)(slab - ss->slabs);
      totals->slabs_free++;
      totals->slabs_free_dirty += (ss->dirty_mask >> index) & 1;
      break;
    }
    default:
      add_to_class(&totals->classes[slab->class_id], slab);
  }
  return true;
}

static void add_classes(struct hak_pool_totals *totals) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    const struct hak_class_slabs *of = &totals->classes[class_id];
    const size_t usable = hak_class_usable(class_id);
    totals->slabs_used += of->slabs;
    totals->tiny_blocks += of->held_blocks;
    totals->tiny_bytes += of->held_blocks * usable;
    totals->remote_blocks += of->remote_blocks;
    totals->remote_bytes += of->remote_blocks * usable;
  }
}

struct hak_pool_totals hak_pool_totals(void) {
  struct hak_pool_totals totals;
  // Not by an initialiser, for which compilers may call memset.
  hak_bytes_fill(&totals, 0, sizeof totals);
  hak_pool_enter();
  totals.superslabs = hak_pool.superslabs;
  totals.counters = hak_pool.counters;
  visit_all(add_to_totals, &totals);
  hak_lock_release(&hak_pool_mutex);
  add_classes(&totals);
  return totals;
}

static bool add_to_its_class(struct hak_slab *slab, void *context) {
  struct hak_class_slabs *classes = context;
  // Also false in records that a bug of the program has overwritten.
  if (hak_class_is_tiny(slab->class_id)) add_to_class(&classes[slab->class_id], slab);
  return true;
}

HAK_COLD void hak_pool_classes(struct hak_class_slabs *classes) {
  hak_bytes_fill(classes, 0, HAK_CLASS_IDS * sizeof *classes);
  hak_pool_enter_unranked();
  visit_all(add_to_its_class, classes);
  hak_lock_release_unranked(&hak_pool_mutex);
}

static HAK_COLD const char *verify_superslab(const struct hak_superslab *ss, uint32_t ground, uint32_t list) {
  if (list != hak_pool_list_of(ss) || ground != hak_ground_is_huge(ss)) return "superslab on the wrong list";
  const char *memory = hak_superslab_memory(ss);
  if (((uintptr_t)memory & (HAK_SUPERSLAB_SIZE - 1)) != 0) return "superslab not aligned";
  if (hak_superslab_of(memory) != ss) return "superslab's records are not found";
  const uint32_t not_used = ss->free_mask | ss->transit_mask;
  if ((ss->free_mask & ss->transit_mask) != 0) return "free slab in transit";
  if ((ss->lazy_mask & ~(not_used & ss->dirty_mask)) != 0) return "lazily decommitted slab in use";
  if (!ss->queued && (ss->free_mask & ss->dirty_mask) != 0) return "free memory that no deadline watches";
  for (uint32_t i = 0; i < HAK_SLABS_PER_SUPERSLAB; i++) {
    const struct hak_slab *slab = &ss->slabs[i];
    const bool is_free = ((not_used >> i) & 1) != 0;
    if (is_free != (slab->class_id == HAK_CLASS_NONE)) return "free mask and slab disagree";
    const char *inside = memory + i * HAK_SLAB_SIZE + HAK_SUPERSLAB_HEAD;
    if (hak_slab_map_find(inside) != slab->class_id) return "slab map and slab disagree";
    if (!is_free && slab->index != i) return "slab with a wrong number";
  }
  return NULL;
}

struct counts {
  uint64_t superslabs;
  uint64_t empty;
  uint64_t free_dirty;
};

static HAK_COLD const char *verify_ground(uint32_t number, struct counts *counts) {
  const struct hak_pool_ground *ground = &hak_pool.grounds[number];
  const char *fault = NULL;
  uint64_t free_slabs = 0;
  for (uint32_t list = 0; list < HAK_POOL_LISTS && fault == NULL; list++) {
    if ((ground->lists[list] != NULL) != (((ground->nonempty >> list) & 1) != 0))
      fault = "list index of superslabs is wrong";
    for (const struct hak_superslab *ss = ground->lists[list]; ss != NULL && fault == NULL; ss = ss->next) {
      counts->superslabs++;
      counts->empty += ss->free_mask == HAK_ALL_SLABS;
      counts->free_dirty += hak_popcount(ss->free_mask & ss->dirty_mask);
      free_slabs += hak_popcount(ss->free_mask);
      fault = verify_superslab(ss, number, list);
    }
  }
  if (fault == NULL && free_slabs != ground->free_slabs) fault = "free slabs are miscounted";
  return fault;
}

HAK_COLD const char *hak_pool_verify(void) {
  const char *fault = NULL;
  struct counts counts = {.superslabs = 0};
  hak_pool_enter();
  for (uint32_t number = 0; number < HAK_POOL_GROUNDS && fault == NULL; number++) {
    fault = verify_ground(number, &counts);
  }
  if (fault == NULL && (counts.superslabs != hak_pool.superslabs || counts.empty != hak_pool.empty_superslabs)) {
    fault = "superslabs are miscounted";
  }
  if (fault == NULL && counts.free_dirty != atomic_load_explicit(&hak_pool.free_dirty, memory_order_relaxed))
    fault = "free slabs with memory are miscounted";
  hak_lock_release(&hak_pool_mutex);
  return fault;
}
