// SPDX-License-Identifier: Apache-2.0
//
// Takes slabs from the pool, gives them back, and maps superslabs.
#include "allocator/slab/slab_pool.h"

#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/huge_pages.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/slab/ground_choice.h"
#include "allocator/slab/list_links.h"
#include "allocator/slab/slab_guard.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_state.h"
#include "allocator/slab/slab_purged.h"
#include "allocator/slab/slab_release.h"
#include "allocator/slab/superslab_records.h"

// Slab 0, which is shorter, serves a larger stride only if it holds as many blocks as another slab.
#define SLAB0_STRIDE_MAX 4096u
// In a huge page a slab also holds the memory that its blocks leave unused. If that is more than this, small pages
// serve the class better.
#define UNUSED_MOST (HAK_SLAB_SIZE / 7)
// A heap with this many superslabs is large: rounding costs it more than additional classes do.
#define REFINE_SUPERSLABS 16u
// When this many slabs in small pages are left, a large heap uses them up before it maps another superslab.
#define LAST_FEW 8u

// ---- Taking and giving --------------------------------------------------------------------------

// All slabs have memory now and wait for the deadline, like all free memory. It is no longer recorded that they read as
// zero.
static void fill(struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex) {
  // Dirty slabs need their index: it gives the address of the memory that is returned.
  for (uint32_t i = 0; i < HAK_SLABS_PER_SUPERSLAB; i++) ss->slabs[i].index = (uint8_t)i;
  hak_pool_set_masks(ss, ss->free_mask, HAK_ALL_SLABS);
  ss->filling = true;
  hak_pool_enqueue(ss, hak_os_now_ms());
  hak_pool.counters.huge_superslabs++;
}

static struct hak_superslab *map_superslab(bool huge) HAK_REQUIRES(hak_pool_mutex) {
  void *memory = hak_pool.uncovered;
  hak_pool.uncovered = NULL;
  if (memory == NULL) memory = hak_os_map(HAK_SUPERSLAB_SIZE, HAK_SUPERSLAB_SIZE);
  if (memory == NULL) return NULL;
  if (!hak_slab_map_cover(memory)) {
    if (!hak_os_unmap(memory, HAK_SUPERSLAB_SIZE)) hak_pool.uncovered = memory;
    return NULL;
  }
  // Before the head's first page is touched: later advice neither makes a huge page nor splits one.
  huge = hak_ground_prepare(memory, huge);
  // The records are zero, which means: all slabs are free and untouched. Their indices are set on first use.
  struct hak_superslab *ss = hak_superslab_records_make(memory);
  ss->free_mask = HAK_ALL_SLABS;
  ss->epoch = hak_pool.epoch;
  atomic_store_explicit(&ss->huge, huge, memory_order_relaxed);
  hak_slab_guard_raise_head(ss);
  hak_pool.superslabs++;
  hak_pool.empty_superslabs++;
  hak_pool_link(ss);
  if (huge) fill(ss);
  if (hak_pool.superslabs == REFINE_SUPERSLABS && hak_config.fine_classes) hak_class_refine();
  return ss;
}

// Marks slabs first .. first + count - 1 as in use; returns which of them may hold something other than zero (bit 0:
// first).
static uint32_t claim(struct hak_superslab *ss, uint32_t first, uint32_t count) HAK_REQUIRES(hak_pool_mutex) {
  const uint32_t run = hak_pool_run(first, count);
  const uint32_t dirty = ss->dirty_mask & run;
  hak_pool_set_masks(ss, ss->free_mask & ~run, ss->dirty_mask | run);
  ss->lazy_mask &= ~run;
  const bool waits = (ss->free_mask & ss->dirty_mask) != 0;
  if (ss->queued && (!waits || ss->filling)) {
    hak_pool_dequeue(ss);
    // While a heap grows into a huge superslab, the deadline of the slabs that it has not reached yet starts anew.
    if (waits) hak_pool_enqueue(ss, hak_os_now_ms());
  }
  for (uint32_t i = first; i < first + count; i++) ss->slabs[i].index = (uint8_t)i;
  return dirty >> first;
}

// Marks slabs first .. first + count - 1 as free.
static void disclaim(struct hak_superslab *ss, uint32_t first, uint32_t count) HAK_REQUIRES(hak_pool_mutex) {
  const uint32_t run = hak_pool_run(first, count);
  for (uint32_t i = first; i < first + count; i++) ss->slabs[i].class_id = HAK_CLASS_NONE;
  hak_slab_map_set(hak_slab_start(&ss->slabs[first]), count, HAK_CLASS_NONE);
  if (HAK_UNLIKELY(hak_pool_has_lost(ss))) return;
  ss->filling = false;
  hak_pool_set_masks(ss, ss->free_mask | run, ss->dirty_mask);
}

// The fullest superslab of a ground that has a free slab among `usable`; NULL: there is none.
static struct hak_superslab *find_on(uint32_t ground, uint32_t usable) HAK_REQUIRES(hak_pool_mutex) {
  uint64_t lists = hak_pool.grounds[ground].nonempty & (((uint64_t)1 << HAK_POOL_FULL) - 1);
  if ((usable & 1) == 0) lists &= ~(uint64_t)1;
  return lists != 0 ? hak_pool.grounds[ground].lists[__builtin_ctzll(lists)] : NULL;
}

// Whether a ground lends slabs to requests for the other ground: if it has more free slabs than a new superslab would
// add, or, for small pages in a large heap, if only the last few are left.
static bool lends(uint32_t ground) HAK_REQUIRES(hak_pool_mutex) {
  const uint64_t free_slabs = hak_pool.grounds[ground].free_slabs;
  if (free_slabs > HAK_SLABS_PER_SUPERSLAB) return true;
  return ground == 0 && free_slabs <= LAST_FEW && hak_commit_now() >= HAK_HUGE_LARGE_HEAP;
}

// A superslab with a free slab among `usable`, or a new one. NULL: out of memory, or a slab without memory would exceed
// the limit.
static struct hak_superslab *find_slab(uint32_t usable, bool further, bool grow) HAK_REQUIRES(hak_pool_mutex) {
  const bool huge = hak_ground_wants_huge(further);
  struct hak_superslab *ss = find_on(huge, usable);
  if (ss == NULL && lends(!huge)) ss = find_on(!huge, usable);
  const bool has_memory = ss != NULL && (ss->free_mask & usable & ss->dirty_mask) != 0;
  if (!has_memory && !hak_limit_admit(HAK_SLAB_SIZE)) return NULL;
  if (ss == NULL && grow) ss = map_superslab(huge);
  return ss != NULL || !grow ? ss : find_on(!huge, usable);
}

static struct hak_slab *take(uint32_t class_id, struct hak_heap *owner, bool further, bool grow) {
  const size_t stride = hak_class_stride(class_id);
  const size_t unused = (HAK_SLAB_ROOM - HAK_HEADER_BYTES) % stride;
  const uint32_t usable = stride > SLAB0_STRIDE_MAX && unused < HAK_SUPERSLAB_HEAD ? ~1u : HAK_ALL_SLABS;
  hak_pool_enter();
  struct hak_superslab *ss = find_slab(usable, further && unused <= UNUSED_MOST, grow);
  struct hak_slab *slab = NULL;
  if (ss != NULL) {
    const uint32_t candidates = ss->free_mask & usable;
    const uint32_t warm = candidates & ss->dirty_mask;  // Slabs that have memory already come first.
    const uint32_t index = (uint32_t)__builtin_ctz(warm != 0 ? warm : candidates);
    const bool zeroed = claim(ss, index, 1) == 0;
    if (hak_slab_format(&ss->slabs[index], class_id, zeroed)) {
      slab = &ss->slabs[index];
      hak_slab_guard_raise(ss, index);
      // Release: a thread that reads the owner through a block of this slab sees the formatted descriptor.
      // Step P1 of remote.pml.
      atomic_store_explicit(&slab->owner, owner, memory_order_release);
      hak_slab_map_set(hak_slab_begin(slab), 1, class_id);
    } else {
      if (zeroed) hak_pool_set_masks(ss, ss->free_mask, ss->dirty_mask & ~(1u << index));
      disclaim(ss, index, 1);
      hak_pool_note_free(ss, hak_os_now_ms());
    }
  }
  hak_lock_release(&hak_pool_mutex);
  return slab;
}

struct hak_slab *hak_pool_take(uint32_t class_id, struct hak_heap *owner, bool grow) {
  return take(class_id, owner, false, grow);
}

struct hak_slab *hak_pool_take_further(uint32_t class_id, struct hak_heap *owner, bool grow) {
  return take(class_id, owner, true, grow);
}

void hak_pool_give(struct hak_slab *slab) {
  struct hak_superslab *ss = hak_superslab_of_slab(slab);
  const uint64_t now = hak_os_now_ms();
  hak_pool_enter();
  const bool lost = hak_pool_has_lost(ss);
  const bool touched = hak_slab_carved(slab) != 0 || !slab->zeroed;
  if (!touched && !lost) hak_pool_set_masks(ss, ss->free_mask, ss->dirty_mask & ~(1u << slab->index));
  if (HAK_UNLIKELY(slab->purged != 0)) hak_slab_unpurge(slab);
  hak_slab_unformat(slab);
  // Release: a thread that finds no owner, which means a double free, comes after the slab's last use.
  // Step P2 of remote.pml.
  atomic_store_explicit(&slab->owner, NULL, memory_order_release);
  disclaim(ss, slab->index, 1);
  if (!lost) hak_pool_note_free(ss, now);
  hak_lock_release(&hak_pool_mutex);
}

void hak_pool_prewarm(uint64_t count) {
  hak_pool_enter();
  for (; count > 0 && hak_limit_admit(HAK_SUPERSLAB_SIZE); count--) {
    struct hak_superslab *ss = map_superslab(hak_ground_wants_huge(false));
    if (ss == NULL) break;
    const size_t closed = ss->head_guarded ? HAK_SUPERSLAB_HEAD : 0;
    if (!hak_os_populate(hak_superslab_memory(ss) + closed, HAK_SUPERSLAB_SIZE - closed)) break;
    // Dirty slabs need their index: it gives the address of the memory that is returned.
    for (uint32_t i = 0; i < HAK_SLABS_PER_SUPERSLAB; i++) ss->slabs[i].index = (uint8_t)i;
    // Populated pages wait for the deadline, like all free memory. It is no longer recorded that they read as zero.
    hak_pool_set_masks(ss, ss->free_mask, HAK_ALL_SLABS);
    hak_pool_note_free(ss, hak_os_now_ms());
    hak_pool.counters.prewarmed++;
  }
  hak_lock_release(&hak_pool_mutex);
}

void hak_pool_lock(void) { hak_pool_enter_for_fork(); }
void hak_pool_unlock(void) { hak_pool_leave_after_fork(); }
