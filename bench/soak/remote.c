// SPDX-License-Identifier: Apache-2.0
//
// Two workloads in which one thread frees the blocks of others: consumer (one thread allocates, another frees, through
// a bounded queue) and threads (thousands of short threads leave their blocks to one that frees them).
#include "bench/soak/queue.h"

static struct queue queue;
static _Atomic(bool) finished;
static _Atomic(bool) started;  // consumer: the queue has been full once

// Waits for `started`, so that the live maximum is a full queue with every allocator. Then frees blocks until
// `finished` is set and the queue is empty.
static void *free_main(void *arg) {
  struct counts *c = arg;
  struct block b;
  while (!atomic_load(&started) && !atomic_load(&finished)) sched_yield();
  for (;;) {
    const bool last = atomic_load(&finished);
    while (queue_take(&queue, &b)) block_give(c, b);
    if (last) return NULL;
    sched_yield();
  }
}

// ---- consumer -----------------------------------------------------------------------------------

enum { NOTE_EVERY = 64, OBJECTS = 10000000 };

struct producer {
  struct counts *c;
  uint64_t seed, objects;
};

static void *produce_main(void *arg) {
  const struct producer *p = arg;
  uint64_t state = random_start(p->seed, 0);
  for (uint64_t i = 0; i < p->objects; i++) {
    const struct block b = block_take(p->c, size_between(random_next(&state), 16, 1039));
    while (!queue_put(&queue, b)) {
      atomic_store(&started, true);
      sched_yield();
    }
    if (i % NOTE_EVERY == 0) peak_live_note();
  }
  atomic_store(&finished, true);
  return NULL;
}

// Writes a row for each epoch in which blocks pass, and one after all are freed.
void consumer_run(const struct soak_settings *s) {
  struct producer p = {.c = counts_of(0), .seed = s->seed, .objects = s->max_ops ? s->max_ops / 2 : OBJECTS};
  pthread_t threads[2];
  crew_init(2);
  queue_init(&queue, s->ws);
  timeline_start();
  epoch_open();
  crew_start(0, &threads[0], produce_main, &p);
  crew_start(1, &threads[1], free_main, counts_of(1));
  while (!atomic_load(&finished)) {
    if (epoch_lasts()) {
      const uint64_t soon = now_ns() + 1000000;
      sleep_until(soon < epoch_deadline() ? soon : epoch_deadline());
      continue;
    }
    epoch_end("consumer");
    epoch_open();
  }
  pthread_join(threads[0], NULL);
  pthread_join(threads[1], NULL);
  epoch_end("freed");
}

// ---- threads ------------------------------------------------------------------------------------

enum { AT_ONCE = 4, BLOCKS = 100, THREADS = 10000, THREADS_PER_ROW = 500, REAPER = AT_ONCE };

struct short_life {
  struct counts *c;
  uint64_t state;
  struct block blocks[BLOCKS];
};

static struct short_life lives[AT_ONCE];

static void *short_main(void *arg) {
  struct short_life *life = arg;
  for (int i = 0; i < BLOCKS; i++)
    life->blocks[i] = block_take(life->c, size_between(random_next(&life->state), 16, 1039));
  return NULL;
}

static void live_and_leave(void) {
  pthread_t threads[AT_ONCE];
  for (uint32_t i = 0; i < AT_ONCE; i++) crew_start(i, &threads[i], short_main, &lives[i]);
  for (uint32_t i = 0; i < AT_ONCE; i++) pthread_join(threads[i], NULL);
  peak_live_note();
  for (uint32_t i = 0; i < AT_ONCE; i++) {
    for (int k = 0; k < BLOCKS; k++) {
      while (!queue_put(&queue, lives[i].blocks[k])) sched_yield();
    }
  }
}

// Writes a row after every THREADS_PER_ROW threads, when all their blocks are freed.
void short_threads_run(const struct soak_settings *s) {
  pthread_t reaper;
  crew_init(AT_ONCE + 1);
  queue_init(&queue, 4 * AT_ONCE * BLOCKS);
  for (uint32_t i = 0; i < AT_ONCE; i++) {
    lives[i].c = counts_of(i);
    lives[i].state = random_start(s->seed, i);
  }
  timeline_start();
  epoch_open();
  atomic_store(&started, true);
  crew_start(REAPER, &reaper, free_main, counts_of(REAPER));
  for (uint32_t lived = AT_ONCE; lived <= THREADS; lived += AT_ONCE) {
    live_and_leave();
    if (lived % THREADS_PER_ROW != 0) continue;
    while (counts_total().live > 0) sched_yield();
    epoch_end(lived == THREADS_PER_ROW ? "first" : lived == THREADS ? "last" : "middle");
    epoch_open();
  }
  atomic_store(&finished, true);
  pthread_join(reaper, NULL);
}
