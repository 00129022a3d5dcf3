// SPDX-License-Identifier: Apache-2.0
//
// The workloads without slots: blocks freed only by another thread, short-lived threads, growing blocks, and one pair
// repeated.
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench/workloads/workload.h"

static inline void *take(size_t size) {
  unsigned char *p = malloc(size);
  if (!p) out_of_memory(size);
  p[0] = 0x5A;
  return p;
}

static inline size_t random_size(uint64_t bits, const struct settings *s) {
  return s->min + random_below((uint32_t)bits, s->max - s->min + 1);
}

// ---- pure_remote: thread 2k allocates, thread 2k+1 frees, a bounded queue between them ----------

enum { LINE = 64 };

struct queue {
  _Alignas(LINE) _Atomic(uint64_t) head;  // blocks taken out so far; written by the consumer
  _Alignas(LINE) _Atomic(uint64_t) tail;  // blocks put in so far; written by the producer
  _Alignas(LINE) void **ring;
};

static void wait_a_little(unsigned *spins) {
  if (++*spins % 64 == 0) {
    sched_yield();  // with fewer processors than threads, the other side needs this processor
  } else {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

static void produce(struct queue *q, const struct settings *s, uint64_t *state, uint64_t count) {
  uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
  uint64_t head = atomic_load_explicit(&q->head, memory_order_acquire);
  uint32_t at = (uint32_t)(tail % s->ws);
  for (uint64_t i = 0; i < count; i++) {
    for (unsigned spins = 0; tail - head == s->ws; wait_a_little(&spins)) {
      head = atomic_load_explicit(&q->head, memory_order_acquire);
    }
    q->ring[at] = take(random_size(random_next(state), s));
    if (++at == s->ws) at = 0;
    atomic_store_explicit(&q->tail, ++tail, memory_order_release);
  }
}

static void consume(struct queue *q, const struct settings *s, uint64_t count) {
  uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
  uint64_t tail = atomic_load_explicit(&q->tail, memory_order_acquire);
  uint32_t at = (uint32_t)(head % s->ws);
  for (uint64_t i = 0; i < count; i++) {
    for (unsigned spins = 0; tail == head; wait_a_little(&spins)) {
      tail = atomic_load_explicit(&q->tail, memory_order_acquire);
    }
    free(q->ring[at]);
    if (++at == s->ws) at = 0;
    atomic_store_explicit(&q->head, ++head, memory_order_release);
  }
}

static void pure_remote_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct queue *q = (struct queue *)lane->group + lane->index / 2;
  uint64_t state = random_start(s->seed, lane->index);
  const uint64_t warm_up = s->cycles / 10;
  floor_enter();
  if (lane->index % 2 == 0) {
    produce(q, s, &state, warm_up);
    lane_start(lane);
    produce(q, s, &state, s->cycles);
  } else {
    consume(q, s, warm_up);
    lane_start(lane);
    consume(q, s, s->cycles);
  }
  lane_end(lane, s->cycles);
  floor_leave();
}

struct result pure_remote_run(const struct settings *s) {
  const size_t pairs = s->threads / 2, ring_bytes = s->ws * sizeof(void *);
  struct queue *queues = scratch_map(pairs * sizeof *queues);
  for (size_t i = 0; i < pairs; i++) {
    queues[i].ring = scratch_map(ring_bytes);
    memset(queues[i].ring, 0, ring_bytes);
  }
  struct result r = lanes_run(s, queues, pure_remote_body);
  for (size_t i = 0; i < pairs; i++) munmap(queues[i].ring, ring_bytes);
  munmap(queues, pairs * sizeof *queues);
  return r;
}

// ---- churn: threads that live for LIFE cycles; each frees the blocks of the one before it -------

enum { LIFE = 1000 };

struct life {
  const struct settings *settings;
  void **slots;
  uint64_t state;
  uint64_t cycles;
  uint64_t operations;
};

static void *life_main(void *arg) {
  struct life *life = arg;
  const struct settings *s = life->settings;
  floor_enter();
  for (uint32_t i = 0; i < s->ws; i++) {
    if (!life->slots[i]) continue;
    free(life->slots[i]);
    life->slots[i] = NULL;
    life->operations++;
  }
  for (uint64_t i = 0; i < life->cycles; i++) {
    const uint64_t bits = random_next(&life->state);
    void **slot = &life->slots[random_below((uint32_t)(bits >> 32), s->ws)];
    if (*slot) {
      free(*slot);
      *slot = NULL;
    } else {
      *slot = take(random_size(bits, s));
    }
  }
  life->operations += life->cycles;
  floor_leave();
  return NULL;
}

static void live(struct life *life, uint64_t cycles) {
  for (; cycles; cycles -= life->cycles) {
    life->cycles = cycles < LIFE ? cycles : LIFE;
    pthread_t thread;
    int error = pthread_create(&thread, NULL, life_main, life);
    if (error != 0) {
      fprintf(stderr, "random_mixed: cannot start a thread: %s\n", strerror(error));
      exit(1);
    }
    pthread_join(thread, NULL);
  }
}

static void churn_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  const size_t bytes = s->ws * sizeof(void *);
  struct life life = {.settings = s, .slots = scratch_map(bytes), .state = random_start(s->seed, lane->index)};
  live(&life, s->cycles / 10);
  life.operations = 0;
  lane_start(lane);
  live(&life, s->cycles);
  for (uint32_t i = 0; i < s->ws; i++) {
    if (life.slots[i]) life.operations++;
    free(life.slots[i]);
  }
  lane_end(lane, life.operations);
  munmap(life.slots, bytes);
}

struct result churn_run(const struct settings *s) { return lanes_run(s, NULL, churn_body); }

// ---- realloc: buffers that grow by half until they pass `max`, as a string builder does ---------

struct buffer {
  unsigned char *bytes;
  size_t size;
};

static void grow(struct buffer *buffers, const struct settings *s, uint64_t *state, uint64_t cycles) {
  for (uint64_t i = 0; i < cycles; i++) {
    struct buffer *b = &buffers[random_below((uint32_t)(random_next(state) >> 32), s->ws)];
    const size_t size = b->size + b->size / 2 + s->min;
    if (size > s->max) {
      free(b->bytes);
      *b = (struct buffer){NULL, 0};
      continue;
    }
    unsigned char *p = realloc(b->bytes, size);
    if (!p) out_of_memory(size);
    p[0] = 0x5A;
    p[size - 1] = 0x5A;
    *b = (struct buffer){p, size};
  }
}

static void realloc_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  const size_t bytes = s->ws * sizeof(struct buffer);
  struct buffer *buffers = scratch_map(bytes);
  uint64_t state = random_start(s->seed, lane->index);
  uint64_t drained = 0;
  memset(buffers, 0, bytes);
  floor_enter();
  grow(buffers, s, &state, s->cycles / 10);
  lane_start(lane);
  grow(buffers, s, &state, s->cycles);
  for (uint32_t i = 0; i < s->ws; i++) {
    if (!buffers[i].bytes) continue;
    free(buffers[i].bytes);
    drained++;
  }
  lane_end(lane, s->cycles + drained);
  floor_leave();
  munmap(buffers, bytes);
}

struct result realloc_run(const struct settings *s) { return lanes_run(s, NULL, realloc_body); }

// ---- pair: malloc(min) and free at once, for counting instructions ------------------------------

// A fixed warm-up, so that two runs differ only by their cycles.
enum { PAIR_WARM_UP = 10000 };

static void pair_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  const size_t size = s->min;
  floor_enter();
  for (uint64_t i = 0; i < PAIR_WARM_UP; i++) free(take(size));
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) free(take(size));
  lane_end(lane, 2 * s->cycles);
  floor_leave();
}

struct result pair_run(const struct settings *s) { return lanes_run(s, NULL, pair_body); }
