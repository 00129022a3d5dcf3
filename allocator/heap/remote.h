// SPDX-License-Identifier: Apache-2.0
//
// Remote frees: blocks that a thread returns to slabs it does not own, a batch at a time.
#ifndef HAKMEM_HEAP_REMOTE_H_
#define HAKMEM_HEAP_REMOTE_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// A chain of blocks of one slab, linked by tiny_nextptr.
struct hak_chain {
  struct hak_slab *slab;
  uint32_t first;  // index of the first block, plus 1; 0: the chain is empty
  uint32_t count;
  void *last;  // the last block, whose link is not written yet
};

// Puts `block` at the head of the chain.
void hak_chain_add(struct hak_chain *chain, void *block);

// Pushes the chain's blocks to their slab, whichever heap owns it, by one compare-and-swap, and notifies the owner if
// needed. Returns their bytes, which the caller adds to hak_heaps_free_bytes.
uint64_t hak_remote_push(const struct hak_chain *chain) HAK_REQUIRES(hak_heap_role);

// Detaches the slab's remote chain: returns the word that `remote` held. Called by the owner, only on the notice of the
// slab.
uint64_t hak_remote_detach(struct hak_slab *slab);

// Puts the first blocks of a detached chain into the slab's bitmap, at most `most`. Returns the rest of the chain; 0:
// nothing is left, and the slab may be gone. Called by the owner.
uint64_t hak_remote_put(struct hak_heap *owner, struct hak_slab *slab, uint64_t chain, uint32_t most)
    HAK_REQUIRES(hak_heap_role);

// Collects all of the slab's remote blocks into its bitmap. Called by the owner, only on the notice of the slab.
void hak_remote_collect(struct hak_heap *owner, struct hak_slab *slab) HAK_REQUIRES(hak_heap_role);

// Notifies the owner of `slab` that its remote chain is no longer empty.
void hak_remote_notify(struct hak_slab *slab) HAK_REQUIRES(hak_heap_role);

// The three functions below are called under the lock of `heap`.

// Collects all blocks that other threads freed into this heap's slabs since the last time.
void hak_remote_drain(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// Collects as many of them as one call of the program should: a bounded number of blocks and of slabs, the earliest
// first. The rest waits for the next call. True: some still wait.
bool hak_remote_drain_some(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// The most blocks that hak_remote_drain_some collects.
#define HAK_DRAIN_BLOCKS 256u
// The same for one step of the reclaim work, which a call does seldom: more blocks, but so few that the call, and the
// heap's own thread, which may wait for the lock, lose about a millisecond at most.
bool hak_remote_drain_slice(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
#define HAK_DRAIN_SLICE_BLOCKS 4096u
// Whether any blocks wait. Relaxed: a hint, the drain checks again.
HAK_INLINE bool hak_remote_is_waiting(const struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  const struct hak_slab *pending = atomic_load_explicit(&heap->pending, memory_order_relaxed);
  return (pending != HAK_PENDING_END && pending != HAK_PENDING_CLOSED) || heap->drain.slabs != NULL ||
         atomic_load_explicit(&heap->drain.rest, memory_order_relaxed) != 0;
}

HAK_C_END

#endif  // HAKMEM_HEAP_REMOTE_H_
