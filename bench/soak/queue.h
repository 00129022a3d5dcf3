// SPDX-License-Identifier: Apache-2.0
//
// A bounded queue of blocks from one thread to one other.
#ifndef HAKMEM_BENCH_SOAK_QUEUE_H_
#define HAKMEM_BENCH_SOAK_QUEUE_H_

#include <sched.h>

#include "bench/soak/soak.h"

struct queue {
  _Alignas(64) _Atomic(uint64_t) head;  // blocks taken out so far; written by the receiver
  _Alignas(64) _Atomic(uint64_t) tail;  // blocks put in so far; written by the sender
  _Alignas(64) struct block *ring;
  uint32_t length;
};

static inline void queue_init(struct queue *q, uint32_t length) {
  atomic_init(&q->head, 0);
  atomic_init(&q->tail, 0);
  q->ring = harness_map(length * sizeof *q->ring);
  q->length = length;
}

// False when the queue is full.
static inline bool queue_put(struct queue *q, struct block b) {
  const uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
  if (tail - atomic_load_explicit(&q->head, memory_order_acquire) == q->length) return false;
  q->ring[tail % q->length] = b;
  atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
  return true;
}

// False when the queue is empty.
static inline bool queue_take(struct queue *q, struct block *b) {
  const uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
  if (atomic_load_explicit(&q->tail, memory_order_acquire) == head) return false;
  *b = q->ring[head % q->length];
  atomic_store_explicit(&q->head, head + 1, memory_order_release);
  return true;
}

#endif  // HAKMEM_BENCH_SOAK_QUEUE_H_
