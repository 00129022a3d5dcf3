// SPDX-License-Identifier: Apache-2.0
//
// Purges pages of slabs that are partly in use: passes in slices, and the trickle.
#include "allocator/heap/page_purge.h"

#include "allocator/heap/idle_cache_state.h"
#include "allocator/os/atomic.h"
#include "allocator/policy/config.h"
#include "allocator/policy/refusal.h"
#include "allocator/policy/ss_release_policy.h"
#include "allocator/slab/list_links.h"
#include "allocator/slab/slab_purge.h"

// The most slabs that one slice checks, and the most runs of pages that it returns.
#define SLICE_SLABS 1024u
#define SLICE_RUNS 32u
// The most slabs that a slice checks when it returns memory of any age.
#define SLICE_SLABS_OF_ALL 32u
// The shortest time between two passes over all slabs of a heap.
#define PASS_MS_MIN 50u
// The trickle: the slabs that one call checks, and the pauses after a run of pages and between two passes.
#define TRICKLE_SLABS 64u
#define TRICKLE_DEADLINES 5u
#define TRICKLE_MS_MIN 5000u
#define TRICKLE_PASS_MS 500u

struct slice {
  uint64_t now;
  uint64_t deadline_ms;
  uint32_t slabs;  // that may still be checked
  uint32_t runs;   // that may still be returned
  size_t bytes;
  bool spare_huge;  // do not split huge pages
};

// Whether the number of free blocks of the slab has not changed for the deadline, as far as earlier checks tell.
static bool is_idle(struct hak_slab *slab, const struct slice *slice) {
  const uint16_t free_count = (uint16_t)hak_slab_free_count(slab);
  if (slab->seen_free != free_count) {
    slab->seen_free = free_count;
    slab->seen_ms = (uint32_t)slice->now;
  }
  const uint32_t still_ms = (uint32_t)slice->now - slab->seen_ms;
  return still_ms >= slice->deadline_ms && still_ms < UINT32_MAX - HAK_IDLE_SKEW_MS;
}
static_assert(HAK_SLAB_BLOCKS_MAX < UINT16_MAX, "seen_free holds every count, and one that is none");

// Purges the slabs of one list from `from` on. Returns the first slab that it did not finish, because the slice is used
// up; NULL: the list is done.
static struct hak_slab *purge_list(struct hak_slab *from, struct slice *slice) {
  struct hak_slab *slab = from;
  for (; slab != NULL; slab = hak_slab_next(slab)) {
    if (slice->slabs == 0 || slice->runs == 0) return slab;
    slice->slabs--;
    if (slice->spare_huge && hak_ground_is_huge(hak_superslab_of_slab(slab))) continue;
    if (is_idle(slab, slice)) slice->bytes += hak_slab_purge(slab, &slice->runs);
    // The slab may have more free pages: the next slice checks it again.
    if (slice->runs == 0) return slab;
  }
  return NULL;
}

// Slabs with fewer free blocks have no free page, except those with the smallest blocks.
#define FIRST_LIST HAK_LIST_SOME
#define LAST_LIST HAK_LIST_CARVE

// False: the slice is used up.
static bool purge_class(struct hak_heap *heap, uint32_t class_id, struct slice *slice) HAK_REQUIRES(hak_heap_role) {
  for (uint32_t list = FIRST_LIST; list <= LAST_LIST; list++) {
    if (purge_list(heap->classes[class_id].lists[list], slice) != NULL) return false;
  }
  return true;
}

// Continues the pass for one slice. heap->purge.class_id, heap->purge.list and heap->purge.next tell where;
// hak_heap_unlink updates them when that slab leaves its list.
static void purge_on(struct hak_heap *heap, struct slice *slice) HAK_REQUIRES(hak_heap_role) {
  for (;;) {
    heap->purge.next = purge_list(heap->purge.next, slice);
    if (heap->purge.next != NULL) return;
    if (heap->purge.list < LAST_LIST) {
      heap->purge.list++;
    } else if (heap->purge.class_id + 1 < HAK_CLASS_IDS) {
      heap->purge.class_id++;
      heap->purge.list = FIRST_LIST;
    } else {
      heap->purge.class_id = 0;
      return;
    }
    heap->purge.next = heap->classes[heap->purge.class_id].lists[heap->purge.list];
  }
}

static void begin_pass(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  heap->purge.class_id = 1;
  heap->purge.list = FIRST_LIST;
  heap->purge.next = heap->classes[1].lists[FIRST_LIST];
}

static bool possible(const struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  return HAK_SETTING(page_purge) && heap->slabs != 0;
}

// A heap with little free memory returns one run of pages every few seconds. The peaks of its classes come at different
// times, and each peak touches some fresh pages, so without this the heap's memory would grow slowly for ever. (This
// does not happen in huge pages.)
static bool trickle(struct hak_heap *heap, uint64_t now) HAK_REQUIRES(hak_heap_role) {
  if (now < heap->purge.trickle_ms) return false;
  struct slice slice = {.now = now,
                        .deadline_ms = HAK_SETTING(decommit_deadline_ms),
                        .slabs = TRICKLE_SLABS,
                        .runs = 1,
                        .spare_huge = true};
  const uint32_t class_id = heap->purge.trickle_class + 1;
  purge_class(heap, class_id, &slice);
  if (HAK_HARDENED && slice.runs != 0) purge_class(heap, hak_class_pointers(class_id), &slice);
  if (slice.runs == 0) {
    const uint64_t pause = TRICKLE_DEADLINES * HAK_SETTING(decommit_deadline_ms);
    heap->purge.trickle_ms = now + (pause > TRICKLE_MS_MIN ? pause : TRICKLE_MS_MIN);
    return false;  // This is not work that was due.
  }
  heap->purge.trickle_class = class_id;
  if (class_id + 1 == HAK_CLASS_COUNT) {
    heap->purge.trickle_class = 0;
    heap->purge.trickle_ms = now + TRICKLE_PASS_MS;
  }
  return false;
}

bool hak_page_purge(struct hak_heap *heap, uint64_t now) {
  const uint64_t free_bytes = atomic_load_explicit(&heap->free_bytes, memory_order_relaxed);
  if (!possible(heap) || !hak_refusal_is_over(&hak_decommit_refusal, now)) return false;
  if (!hak_should_purge_pages(free_bytes, heap->slabs * HAK_SLAB_SIZE)) return trickle(heap, now);
  if (heap->purge.class_id == 0) {
    if (now < heap->purge.pass_ms) return false;
    const uint64_t pause = HAK_SETTING(decommit_deadline_ms) / 2;
    heap->purge.pass_ms = now + (pause > PASS_MS_MIN ? pause : PASS_MS_MIN);
    begin_pass(heap);
  }
  struct slice slice = {
      .now = now, .deadline_ms = HAK_SETTING(decommit_deadline_ms), .slabs = SLICE_SLABS, .runs = SLICE_RUNS};
  purge_on(heap, &slice);
  if (slice.runs != SLICE_RUNS) hak_refusal_note(&hak_decommit_refusal, slice.bytes == 0, now);
  return slice.bytes != 0;
}

bool hak_page_purge_begin(struct hak_heap *heap) {
  if (!possible(heap)) return false;
  begin_pass(heap);
  return true;
}

bool hak_page_purge_step(struct hak_heap *heap, size_t *bytes) {
  // Only the number of slabs bounds the slice: a page that the kernel refuses is not tried twice in a pass.
  struct slice slice = {.slabs = SLICE_SLABS_OF_ALL, .runs = UINT32_MAX};
  if (heap->purge.class_id != 0) purge_on(heap, &slice);
  *bytes += slice.bytes;
  return heap->purge.class_id != 0;
}

size_t hak_page_purge_all(struct hak_heap *heap) {
  size_t bytes = 0;
  if (!hak_page_purge_begin(heap)) return 0;
  while (hak_page_purge_step(heap, &bytes) && !hak_lock_is_wanted(&heap->lock)) continue;
  return bytes;
}
