// SPDX-License-Identifier: Apache-2.0
//
// freeall: grows to the peak, frees everything in a random order, and measures when the memory is returned, with no
// further calls or with a trickle of calls. With several threads, each frees its neighbour's blocks, then sleeps.
#include "bench/soak/soak.h"

enum { MIN = 16, TRICKLE_PER_SECOND = 5, TRICKLE_SIZE = 100 };

static struct population populations[MAX_LANES];
static const struct soak_settings *settings;
static pthread_barrier_t barrier;

static void fill(uint32_t lane) {
  while (populations[lane].live < settings->peak_bytes / settings->threads) {
    population_add(&populations[lane], counts_of(lane), MIN, settings->max_size);
  }
}

static void drain(uint32_t lane, struct counts *c) {
  while (populations[lane].count > 0) population_drop(&populations[lane], c);
}

static void *thread_main(void *arg) {
  const uint32_t lane = (uint32_t)(uintptr_t)arg;
  fill(lane);
  pthread_barrier_wait(&barrier);  // the main thread measures the peak
  pthread_barrier_wait(&barrier);
  drain((lane + 1) % settings->threads, counts_of(lane));
  pthread_barrier_wait(&barrier);  // all blocks are free
  pthread_barrier_wait(&barrier);  // never passed: the thread sleeps until the process ends
  return NULL;
}

static void trickle(uint64_t begin, uint64_t until, struct counts *c, uint64_t *state) {
  static uint64_t next;
  if (next == 0) next = begin + 1000000000 / TRICKLE_PER_SECOND;
  for (; settings->trickle != TRICKLE_NONE && next < until; next += 1000000000 / TRICKLE_PER_SECOND) {
    sleep_until(next);
    const bool one = settings->trickle == TRICKLE_ONE;
    block_give(c, block_take(c, one ? TRICKLE_SIZE : size_between(random_next(state), MIN, settings->max_size)));
  }
  sleep_until(until);
}

void freeall_run(const struct soak_settings *s) {
  static const struct {
    uint64_t second;
    const char *phase;
  } kRows[] = {{1, "after_1s"}, {2, "after_2s"}, {5, "after_5s"}, {12, "after_12s"}};
  const bool alone = s->threads == 1;
  struct counts *own = counts_of(alone ? 0 : s->threads);
  uint64_t state = random_start(s->seed, s->threads);
  settings = s;
  const size_t mean = (MIN + s->max_size) / 2;
  for (uint32_t i = 0; i < s->threads; i++) {
    population_init(&populations[i], s->peak_bytes / s->threads / mean * 5 / 4 + 1024, s->seed + i);
  }
  if (!alone) {
    crew_init(s->threads);
    pthread_barrier_init(&barrier, NULL, s->threads + 1);
  }
  timeline_start();
  epoch_open();
  if (alone) {
    fill(0);
  } else {
    for (uint32_t i = 0; i < s->threads; i++) {
      pthread_t thread;
      crew_start(i, &thread, thread_main, (void *)(uintptr_t)i);
    }
    pthread_barrier_wait(&barrier);
  }
  epoch_end("peak");
  epoch_open();
  if (alone) {
    drain(0, own);
  } else {
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
  }
  const uint64_t freed = now_ns();
  epoch_end("freed");
  for (size_t i = 0; i < sizeof kRows / sizeof *kRows; i++) {
    const uint64_t after = kRows[i].second * 1000000000;
    if (after > s->duration_ns) break;
    epoch_open();
    trickle(freed, freed + after, own, &state);
    epoch_end(kRows[i].phase);
  }
}
