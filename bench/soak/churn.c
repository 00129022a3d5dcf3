// SPDX-License-Identifier: Apache-2.0
//
// churn: producers hold blocks and pass them on through bounded queues; consumers only free. No thread lives long, and
// its successor takes over a producer's blocks. So most blocks are freed by another thread than the one that allocated
// them, and many after that thread has ended.
#include <time.h>

#include "bench/soak/queue.h"

enum {
  PAIRS = 2,
  WORKERS = 2 * PAIRS,  // worker 2k allocates, worker 2k + 1 frees what it passes on
  QUEUE = 1024,         // blocks in the queue, few compared with those in the slots
  LIFE = 20000,         // blocks that a thread passes on, or frees, before it ends
  LOOK_EVERY = 64,      // blocks between two checks whether to pause
};

struct worker {
  struct counts *c;
  struct queue *queue;
  struct slots slots;  // a producer's; they outlive the thread
  pthread_t thread;
  uint32_t place;
  bool ended;  // under `lock`, as the following fields
};

static struct worker workers[WORKERS];
static struct queue queues[PAIRS];

// While `paused`, the threads wait for `resume`; the main thread waits on `changed` for threads that end or pause.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t resume = PTHREAD_COND_INITIALIZER;
static pthread_cond_t changed;
static _Atomic(bool) paused;
static uint32_t waiting, ended;

static void pause_here(void) {
  pthread_mutex_lock(&lock);
  waiting++;
  pthread_cond_signal(&changed);
  while (atomic_load(&paused)) pthread_cond_wait(&resume, &lock);
  waiting--;
  pthread_mutex_unlock(&lock);
}

static inline void look(void) {
  if (atomic_load_explicit(&paused, memory_order_relaxed)) pause_here();
}

// The other side of the queue needs the processor, or is paused.
static void yield_here(void) {
  look();
  sched_yield();
}

static void produce(struct worker *w) {
  for (uint32_t i = 0; i < LIFE; i++) {
    if (i % LOOK_EVERY == 0) look();
    const uint64_t bits = random_next(&w->slots.state);
    struct block *slot = &w->slots.blocks[random_below((uint32_t)(bits >> 32), w->slots.count)];
    if (slot->p) {
      while (!queue_put(w->queue, *slot)) yield_here();
    }
    *slot = block_take(w->c, size_between(bits, 16, 1039));
  }
}

static void consume(struct worker *w) {
  struct block b;
  for (uint32_t i = 0; i < LIFE; i++) {
    if (i % LOOK_EVERY == 0) look();
    while (!queue_take(w->queue, &b)) yield_here();
    block_give(w->c, b);
  }
}

static void *worker_main(void *arg) {
  struct worker *w = arg;
  if (w->place % 2 == 0) {
    produce(w);
  } else {
    consume(w);
  }
  pthread_mutex_lock(&lock);
  w->ended = true;
  ended++;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
  return NULL;
}

// Starts a successor for every thread that has ended. Called under the lock.
static void replace_ended(void) {
  for (uint32_t i = 0; i < WORKERS; i++) {
    struct worker *w = &workers[i];
    if (!w->ended) continue;
    w->ended = false;
    ended--;
    pthread_mutex_unlock(&lock);
    pthread_join(w->thread, NULL);
    crew_start(i, &w->thread, worker_main, w);
    pthread_mutex_lock(&lock);
  }
}

static void run_epoch(void) {
  const uint64_t deadline = epoch_deadline();
  const struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000), .tv_nsec = (long)(deadline % 1000000000)};
  pthread_mutex_lock(&lock);
  atomic_store(&paused, false);
  pthread_cond_broadcast(&resume);
  do {
    replace_ended();
    if (ended == 0) pthread_cond_timedwait(&changed, &lock, &until);
    peak_live_note();
  } while (epoch_lasts());
  atomic_store(&paused, true);
  while (waiting + ended < WORKERS) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
}

void churn_run_epochs(const struct soak_settings *s) {
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&changed, &monotonic);
  crew_init(WORKERS);
  const uint32_t share = s->ws / PAIRS ? s->ws / PAIRS : 1;
  for (uint32_t i = 0; i < PAIRS; i++) queue_init(&queues[i], QUEUE);
  for (uint32_t i = 0; i < WORKERS; i++) {
    workers[i] = (struct worker){.c = counts_of(i), .queue = &queues[i / 2], .place = i};
    if (i % 2 == 0) slots_init(&workers[i].slots, share, s->seed + i);
  }
  timeline_start();
  atomic_store(&paused, true);
  for (uint32_t i = 0; i < WORKERS; i++) crew_start(i, &workers[i].thread, worker_main, &workers[i]);
  while (epoch_begin_of(1)) {
    run_epoch();
    epoch_end("churn");
  }
}
