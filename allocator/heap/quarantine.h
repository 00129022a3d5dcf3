// SPDX-License-Identifier: Apache-2.0
//
// Quarantine of small blocks, in HARDENED. A freed block waits beside its thread's cache. Which block is used again
// next, and when, is unpredictable. A class's quarantine has two halves. A freed block takes a random place in the
// first half. The block that was there goes to the end of the second half, which is a queue. The block that leaves the
// front of the queue may be used again. So between a block's free and its next use there are at least as many frees of
// the class as the queue is long.
//
// The owner thread frees into the quarantine under the quarantine's own lock, not the heap's, so that other threads can
// empty the quarantine of an idle thread.
#ifndef HAKMEM_HEAP_QUARANTINE_H_
#define HAKMEM_HEAP_QUARANTINE_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The most blocks, and bytes, in each half of a class's quarantine; it holds at least one block.
#define HAK_QUARANTINE_BLOCKS 512u
#define HAK_QUARANTINE_BYTES ((size_t)16 * 1024)

// The right to what is under the quarantine's lock. The thread has it that holds the lock of the quarantine in
// question.
extern struct hak_role hak_quarantine_role;

struct hak_quarantine {
  struct hak_lock lock;
  // Under the lock.
  void **places[HAK_CLASS_IDS] HAK_GUARDED_BY(
      hak_quarantine_role);        // both halves; NULL: the class has no quarantine yet
  uint16_t halves[HAK_CLASS_IDS];  // blocks in each; constant
  uint16_t fronts[HAK_CLASS_IDS] HAK_GUARDED_BY(hak_quarantine_role);  // of the queues
  uint64_t swaps HAK_GUARDED_BY(hak_quarantine_role);
  // Only the owner thread's.
  uint32_t draws;  // random numbers until the seed is renewed
  uint64_t seed;
  // Under the heap's lock, for the thread that checks whether the owner is idle.
  uint64_t seen_swaps HAK_GUARDED_BY(hak_heap_role);
  uint64_t seen_since_ms HAK_GUARDED_BY(hak_heap_role);
};

// Gives the heap a quarantine. False: out of memory, and the heap has none. Under the heap's lock, as the next three
// functions.
bool hak_quarantine_attach(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// Returns all blocks to their slabs.
void hak_quarantine_flush(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// The same, by another thread than the heap's own, unless blocks went in during the last `idle_ms` before `now`
// (milliseconds), as far as earlier checks tell. Returns how many blocks.
uint32_t hak_quarantine_flush_idle(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role);
// The same, and frees the quarantine.
void hak_quarantine_detach(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// For fork, after its gate is closed (os/fork_gate.h) and the heap's lock is free: waits until the quarantine's lock is
// free too.
void hak_quarantine_wait_free(struct hak_heap *heap);
// In the child of a fork, for a heap whose thread does not exist there: no thread holds the lock.
void hak_quarantine_reset_lock(struct hak_heap *heap);

// The functions below are for a heap with a quarantine.

// Puts a freed block into the quarantine. Returns the block that may be used again instead; NULL while the quarantine
// fills up. Called by the owner thread, as the functions for random numbers.
void *hak_quarantine_swap(struct hak_heap *heap, uint32_t class_id, void *block);
// Calls visit(block, class) for each block in the quarantine.
void hak_quarantine_visit(const struct hak_heap *heap, void (*visit)(const void *block, uint32_t class_id));
// Calls visit(block, context) for each block of the class, while the quarantine's lock is kept free (os/fork_gate.h).
void hak_quarantine_visit_class(const struct hak_quarantine *quarantine, uint32_t class_id,
                                void (*visit)(const void *block, void *context), void *context);
// An unpredictable number, 0 .. bound - 1.
uint32_t hak_quarantine_random(struct hak_heap *heap, uint32_t bound);
// Brings the blocks of an array into a random order.
void hak_quarantine_shuffle(struct hak_heap *heap, void **blocks, uint32_t count);

HAK_C_END

#endif  // HAKMEM_HEAP_QUARANTINE_H_
