// SPDX-License-Identifier: Apache-2.0
//
// Quarantine of small blocks, in HARDENED: a freed block first waits beside its thread's cache, and which one is used
// again next, and when, cannot be foretold. A class's quarantine has two halves. A freed block takes a random place of
// the first; the block that was there goes to the end of a queue, the second; what leaves the queue's front may be used
// again. So at least as many frees of the class as the queue is long lie between a block's free and its next use.
//
// The owner thread frees into it under a lock of its own, not the heap's, so that others can empty the quarantine of a
// thread that does nothing.
#ifndef HAKMEM_HEAP_QUARANTINE_H_
#define HAKMEM_HEAP_QUARANTINE_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Each half of a class's quarantine: at most so many blocks, or bytes; at least one block.
#define HAK_QUARANTINE_BLOCKS 512u
#define HAK_QUARANTINE_BYTES ((size_t)16 * 1024)

// The right to what is under the quarantine's lock: of the thread that has the lock of the quarantine in question.
extern struct hak_role hak_quarantine_role;

struct hak_quarantine {
  struct hak_lock lock;
  // Under the lock.
  void **places[HAK_CLASS_COUNT] HAK_GUARDED_BY(
      hak_quarantine_role);          // both halves; NULL: the class has no quarantine yet
  uint16_t halves[HAK_CLASS_COUNT];  // blocks in each; constant
  uint16_t fronts[HAK_CLASS_COUNT] HAK_GUARDED_BY(hak_quarantine_role);  // of the queues
  uint64_t swaps HAK_GUARDED_BY(hak_quarantine_role);
  // The owner thread's.
  uint32_t draws;  // random numbers until the seed is renewed
  uint64_t seed;
  // Under the heap's lock, of who looks whether the thread is idle.
  uint64_t seen_swaps HAK_GUARDED_BY(hak_heap_role);
  uint64_t seen_since_ms HAK_GUARDED_BY(hak_heap_role);
};

// Gives the heap a quarantine; false: no memory, it goes without. Under the heap's lock, as the next three.
bool hak_quarantine_attach(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// Returns all blocks to their slabs.
void hak_quarantine_flush(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);
// The same, by another thread than the heap's own, unless blocks went in during the last `idle_ms` before `now`
// (milliseconds), as far as earlier looks tell. Returns how many blocks.
uint32_t hak_quarantine_flush_idle(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role);
// And takes the quarantine from the heap.
void hak_quarantine_detach(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role);

// For fork, behind its gate (os/fork_gate.h) and with the heap's lock free: waits until the quarantine's is free too.
void hak_quarantine_wait_free(struct hak_heap *heap);
// And in its child, for a heap whose thread it does not have: nobody holds it.
void hak_quarantine_reset_lock(struct hak_heap *heap);

// All that follows is for a heap with a quarantine.

// Puts a freed block in; returns the one that may be used again instead: NULL, while the quarantine fills up. By the
// owner thread, as what hands out random numbers.
void *hak_quarantine_swap(struct hak_heap *heap, uint32_t class_id, void *block);
// Calls visit(block, class) for each block that is in.
void hak_quarantine_visit(const struct hak_heap *heap, void (*visit)(const void *block, uint32_t class_id));
// A number that cannot be foretold, 0 .. bound - 1.
uint32_t hak_quarantine_random(struct hak_heap *heap, uint32_t bound);
// Brings the blocks of an array into a random order.
void hak_quarantine_shuffle(struct hak_heap *heap, void **blocks, uint32_t count);

HAK_C_END

#endif  // HAKMEM_HEAP_QUARANTINE_H_
