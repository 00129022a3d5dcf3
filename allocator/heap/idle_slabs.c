// SPDX-License-Identifier: Apache-2.0
//
// Gives slabs of idle threads to the orphanage, one at a time, while their heap stays open.
#include "allocator/heap/idle_slabs.h"

#include "allocator/heap/idle_cache.h"
#include "allocator/heap/remote_state.h"
#include "allocator/os/atomic.h"
#include "allocator/os/lock.h"
#include "allocator/policy/ss_release_policy.h"
#include "allocator/slab/list_links.h"
#include "allocator/slab/slab_pool.h"

// The most slabs that one call looks at, and how many of them come between two moments at which others get the
// orphanage's lock.
#define LOOKS 512u
#define PASS_SLABS 32u

// Slabs with fewer free blocks stay: a thread that adopted one would soon need the next.
#define FIRST_LIST HAK_LIST_SOME
#define LAST_LIST HAK_LIST_CARVE

// Whether only the slab's own descriptor says which of its blocks are free. If its remote chain has blocks, the heap
// has a notice of it, or will have one, and must still put them; the same while a detached chain is put in parts.
static bool is_settled(const struct hak_heap *heap, const struct hak_slab *slab) HAK_REQUIRES(hak_heap_role) {
  // Relaxed, both: a chain that another thread begins now finds the old owner or the new one. The old one passes the
  // notice on when it drains. Step G1 of remote.pml.
  if (atomic_load_explicit(&slab->remote, memory_order_relaxed) != 0) return false;
  return atomic_load_explicit(&heap->drain.rest, memory_order_relaxed) == 0 || heap->drain.rest_slab != slab;
}

// Gives the class's slabs away. Returns how many; *looks: how many may still be looked at.
static uint32_t give_class(struct hak_heap *heap, uint32_t class_id, uint32_t *looks) HAK_REQUIRES(hak_heap_role) {
  uint32_t given = 0;
  hak_lock_acquire(&hak_orphanage_lock);
  for (uint32_t list = FIRST_LIST; list <= LAST_LIST; list++) {
    struct hak_slab *next;
    for (struct hak_slab *slab = heap->classes[class_id].lists[list]; slab != NULL && *looks != 0; slab = next) {
      next = hak_slab_next(slab);
      if (--*looks % PASS_SLABS == 0) hak_lock_pass(&hak_orphanage_lock);
      if (!is_settled(heap, slab)) continue;
      given++;
      hak_heap_unlink(heap, slab);
      if (hak_slab_free_count(slab) == hak_slab_carved(slab)) {
        hak_pool_give(slab);
        continue;
      }
      // Release: a thread that frees into the slab and reads the new owner sees its present state. Step G2 of
      // remote.pml.
      atomic_store_explicit(&slab->owner, &hak_orphanage, memory_order_release);
      hak_heap_link(&hak_orphanage, slab);
    }
  }
  hak_heap_report(&hak_orphanage);
  hak_lock_release(&hak_orphanage_lock);
  return given;
}

// Whether the class's free blocks, in the slabs and in the bin, have not changed for this long. The bin's top moves
// with each call of the class that the thread makes.
static bool is_idle(struct hak_heap *heap, uint32_t class_id, uint64_t now, uint64_t idle_ms)
    HAK_REQUIRES(hak_heap_role) {
  struct hak_bin_idle *idle = &heap->classes[class_id].idle;
  const bool cached = hak_idle_cache_class_is_idle(heap, class_id, now, idle_ms);
  const uint32_t free_blocks = hak_class_free_blocks(&heap->classes[class_id]);
  return hak_idle_since_32(&idle->seen_free, &idle->seen_free_ms, free_blocks, now, idle_ms) && cached;
}

// For how long a class must not have changed. If the thread has hardly made a slow call for `idle_ms` and much of its
// heap is free, what its slabs hold is not what it works with.
static uint64_t long_enough(const struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role) {
  const bool hardly_used = now >= heap->idle.ticked_ms && now - heap->idle.ticked_ms >= idle_ms;
  const bool much = hak_should_share_slabs(hak_heap_free_bytes(heap), heap->slabs * HAK_SLAB_SIZE);
  return hardly_used && much ? 0 : idle_ms;
}

uint32_t hak_idle_slabs_give(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) {
  const uint64_t enough_ms = long_enough(heap, now, idle_ms);
  uint32_t looks = LOOKS;
  uint32_t given = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS && looks != 0; class_id++) {
    struct hak_class_heap *class_heap = &heap->classes[class_id];
    if (!is_idle(heap, class_id, now, enough_ms) || hak_class_with_room(class_heap) == 0) continue;
    given += give_class(heap, class_id, &looks);
    class_heap->idle.seen_free = hak_class_free_blocks(class_heap);
  }
  return given;
}
