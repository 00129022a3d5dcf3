// SPDX-License-Identifier: Apache-2.0
//
// Remote frees: pushing chains, notifying owners, and draining.
#include "allocator/heap/remote.h"

#include "allocator/block/block_check.h"
#include "allocator/block/poison.h"
#include "allocator/block/tiny_nextptr.h"
#include "allocator/os/report.h"

void hak_chain_add(struct hak_chain *chain, void *block) {
  const uint32_t index = hak_slab_index_of_freed(chain->slab, block);
  hak_block_before_link(block, chain->slab->class_id);
  if (chain->first == 0) {
    chain->last = block;
  } else {
    tiny_nextptr_store(block, chain->first);
  }
  chain->first = index + 1;
  chain->count++;
}

uint64_t hak_remote_push(const struct hak_chain *chain) {
  struct hak_slab *slab = chain->slab;
  const uint64_t bytes = (uint64_t)chain->count * slab->stride;  // Before the push: after it the slab may be gone.
  // Relaxed: a guess that the compare-and-swap checks. Step R1 of remote.pml.
  uint64_t seen = atomic_load_explicit(&slab->remote, memory_order_relaxed);
  uint64_t next;
  do {
    // The first block of the slab's chain is freed again. This finds a double free at once, also if no thread cache can
    // find it.
    if (HAK_UNLIKELY((uint32_t)seen == chain->first)) {
      hak_fatal_block("double free", hak_slab_block(slab, chain->first - 1), slab->stride);
    }
    tiny_nextptr_store(chain->last, (uint32_t)seen);
    next = ((seen >> 32) + chain->count) << 32 | chain->first;
    // Release: the owner that takes the chain sees the links, and all that was done with the blocks before. Acquire: a
    // thread that finds the chain empty comes after the owner that emptied it. So it may write pending_next, which that
    // owner has read. Step R2 of remote.pml.
  } while (
      !atomic_compare_exchange_weak_explicit(&slab->remote, &seen, next, memory_order_acq_rel, memory_order_relaxed));
  if (seen == 0) hak_remote_notify(slab);
  return bytes;
}

// Puts `slab` on the pending list of `owner`; false when that heap is closed.
static bool push_pending(struct hak_heap *owner, struct hak_slab *slab) {
  // Relaxed: a guess that the compare-and-swap checks; nothing is read through a closed list. Step R4 of remote.pml.
  struct hak_slab *head = atomic_load_explicit(&owner->pending, memory_order_relaxed);
  do {
    if (head == HAK_PENDING_CLOSED) return false;
    slab->pending_next = head;
    // Release: the thread that drains the list sees pending_next. Step R5 of remote.pml.
  } while (
      !atomic_compare_exchange_weak_explicit(&owner->pending, &head, slab, memory_order_release, memory_order_relaxed));
  return true;
}

void hak_remote_notify(struct hak_slab *slab) {
  for (;;) {
    // Acquire: pairs with the store that gave the slab to its present owner. Step R3 of remote.pml.
    struct hak_heap *owner = atomic_load_explicit(&slab->owner, memory_order_acquire);
    if (HAK_UNLIKELY(owner == NULL)) {
      // All blocks of the slab were free, even without the one that was just pushed. Relaxed: only for the message.
      const uint64_t pushed = (uint32_t)atomic_load_explicit(&slab->remote, memory_order_relaxed);
      hak_fatal("double free", hak_slab_block(slab, (uint32_t)pushed - 1));
    }
    if (owner != &hak_orphanage) {
      // A heap gives its slabs away before it closes its list, so the next load finds the new owner. A heap that was
      // opened again meanwhile passes the notice on when it drains.
      if (push_pending(owner, slab)) return;
      continue;
    }
    hak_lock_acquire(&hak_orphanage_lock);
    // Relaxed: slabs become orphans, or stop being orphans, under this lock. Step R6 of remote.pml.
    const bool still_orphan = atomic_load_explicit(&slab->owner, memory_order_relaxed) == &hak_orphanage;
    if (still_orphan) hak_remote_collect(&hak_orphanage, slab);
    hak_lock_release(&hak_orphanage_lock);
    if (still_orphan) return;
  }
}

uint64_t hak_remote_detach(struct hak_slab *slab) {
  // Acquire: pairs with the pushes; everything done with the blocks before is visible. Release: pairs with the next
  // push to the empty chain, which may write pending_next. Step R7 of remote.pml.
  const uint64_t taken = atomic_exchange_explicit(&slab->remote, 0, memory_order_acq_rel);
  const uint32_t link = (uint32_t)taken;
  const uint32_t capacity = slab->capacity;
  if (HAK_UNLIKELY(link == 0 || link > capacity)) hak_fatal("corrupted block", slab);
  return taken;
}

uint64_t hak_remote_put(struct hak_heap *owner, struct hak_slab *slab, uint64_t chain, uint32_t most) {
  uint64_t link = (uint32_t)chain;
  const uint32_t count = (uint32_t)(chain >> 32);
  const uint32_t rest = count > most ? count - most : 0;
  const uint32_t capacity = slab->capacity;
  owner->reported_bytes += (uint64_t)(count - rest) * slab->stride;  // The threads that freed them reported them.
  for (uint32_t left = count; left > rest; left--) {
    const uint32_t index = (uint32_t)link - 1;
    void *block = hak_slab_block(slab, index);
    link = tiny_nextptr_load(block);
    if (HAK_UNLIKELY(link > capacity)) {
      hak_fatal_block(hak_slab_bit(slab, index) ? "double free" : "corrupted block", block, slab->stride);
    }
    // Every block except the last links to another one. If the links are valid and the length is wrong, a block is in
    // the chain twice.
    if (HAK_UNLIKELY((link == 0) != (left == 1))) hak_fatal_block("double free", block, slab->stride);
    // If the chain goes on although all other blocks of the slab are free, a block is in it twice. To continue would
    // use a slab that is gone.
    if (HAK_UNLIKELY(left > 1 && hak_slab_free_count(slab) + 1 == hak_slab_carved(slab))) {
      hak_fatal_block("double free", hak_slab_block(slab, (uint32_t)link - 1), slab->stride);
    }
    hak_poison_link(block);
    // The last block may empty the slab and return it to the pool: the slab is not touched afterwards.
    hak_heap_put(owner, slab, block);
  }
  return (uint64_t)rest << 32 | link;
}

void hak_remote_collect(struct hak_heap *owner, struct hak_slab *slab) {
  hak_remote_put(owner, slab, hak_remote_detach(slab), UINT32_MAX);
  if (owner == &hak_orphanage) hak_heap_report(owner);  // The orphanage has no slow calls that would report.
}

// ---- Draining -----------------------------------------------------------------------------------

// The cost of a slab for a drain, in blocks, in addition to its blocks.
#define DRAIN_SLAB 8u

// Reads the slab only if something is left, because otherwise the slab may be gone.
static void set_rest(struct hak_heap *heap, struct hak_slab *slab, uint64_t rest) HAK_REQUIRES(hak_heap_role) {
  heap->drain.rest_slab = slab;
  // Relaxed: under the heap's lock; statistics read.
  if (rest != 0) atomic_store_explicit(&heap->drain.rest_class, slab->class_id, memory_order_relaxed);
  atomic_store_explicit(&heap->drain.rest, rest, memory_order_relaxed);
}
static uint64_t get_rest(const struct hak_heap *heap) {
  return atomic_load_explicit(&heap->drain.rest, memory_order_relaxed);
}

// Detaches the chain of the next waiting slab, for `drain` to put. False: the slab was not this heap's, or no slab
// waits.
static bool next_chain(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  if (heap->drain.slabs == NULL) {
    // Relaxed: the exchange checks again; a notice that arrives now is for the next drain. Step H1 of remote.pml.
    struct hak_slab *const pending = atomic_load_explicit(&heap->pending, memory_order_relaxed);
    if (HAK_LIKELY(pending == HAK_PENDING_END) || pending == HAK_PENDING_CLOSED) return false;
    // Acquire: pairs with the pushes of the notifiers. Step H2 of remote.pml.
    heap->drain.slabs = atomic_exchange_explicit(&heap->pending, HAK_PENDING_END, memory_order_acquire);
  }
  struct hak_slab *slab = heap->drain.slabs;
  heap->drain.slabs = hak_pending_slab(slab->pending_next);
  // Acquire: as in hak_remote_notify. This heap's lock keeps the answer valid. Step H3 of remote.pml.
  if (atomic_load_explicit(&slab->owner, memory_order_acquire) == heap) {
    set_rest(heap, slab, hak_remote_detach(slab));
    return true;
  }
  hak_remote_notify(slab);  // Meant for the thread that had this heap record before.
  return false;
}

// Collects at most `most` blocks; each slab counts as some blocks too.
static void drain(struct hak_heap *heap, uint64_t most) HAK_REQUIRES(hak_heap_role) {
  while (most > 0 && hak_remote_is_waiting(heap)) {
    most -= most < DRAIN_SLAB ? most : DRAIN_SLAB;
    if (get_rest(heap) == 0 && !next_chain(heap)) continue;
    struct hak_slab *slab = heap->drain.rest_slab;
    const uint64_t chain = get_rest(heap);
    const uint64_t bound = most != 0 ? most : 1;
    const uint64_t rest = hak_remote_put(heap, slab, chain, bound < UINT32_MAX ? (uint32_t)bound : UINT32_MAX);
    const uint64_t taken = (chain >> 32) - (rest >> 32);
    most -= taken < most ? taken : most;
    set_rest(heap, slab, rest);
  }
}

void hak_remote_drain(struct hak_heap *heap) { drain(heap, UINT64_MAX); }

bool hak_remote_drain_slice(struct hak_heap *heap) {
  drain(heap, HAK_DRAIN_SLICE_BLOCKS);
  return hak_remote_is_waiting(heap);
}

bool hak_remote_drain_some(struct hak_heap *heap) {
  if (HAK_LIKELY(!hak_remote_is_waiting(heap))) return false;
  drain(heap, HAK_DRAIN_BLOCKS);
  return hak_remote_is_waiting(heap);
}
