// SPDX-License-Identifier: Apache-2.0
//
// The workloads of one thread: steady, spike and phase.
#include "bench/soak/soak.h"

enum {
  CHUNK = 1024,  // cycles between two readings of the clock
  MIN = 16,
  MAX = 1039,
  LEAST_MEAN = 400,  // below the mean block of any phase, for the capacity of a population
  SPIKE_KEEP = 50,   // one block in this many outlives the spike
  PHASE_KEEP = 16,
  LARGE_MIN = 2048,
  LARGE_MAX = 32768,
};

// ---- steady: random slots are filled and freed --------------------------------------------------

static void walk_epoch(struct slots *slots, uint32_t ws, struct counts *c) {
  do {
    slots_walk(slots, ws, c, CHUNK);
    peak_live_note();
  } while (epoch_lasts());
}

enum { TROUGH_STEP_NS = 10000000 };

// Nine slots in ten are freed for good.
static void thin_out(struct slots *slots, uint32_t keep, struct counts *c) {
  for (uint32_t i = keep; i < slots->count; i++) {
    if (!slots->blocks[i].p) continue;
    block_give(c, slots->blocks[i]);
    slots->blocks[i].p = NULL;
  }
}

void steady_run(const struct soak_settings *s) {
  struct counts *c = counts_of(0);
  struct slots slots;
  slots_init(&slots, s->ws, s->seed);
  timeline_start();
  while (epoch_begin()) {
    walk_epoch(&slots, s->ws, c);
    epoch_end("steady");
  }
  if (!s->trough) return;
  const uint32_t keep = s->ws / 10 ? s->ws / 10 : 1;
  epoch_open();
  thin_out(&slots, keep, c);
  // A little activity from time to time, at fixed counts and not by the clock, so that the same blocks are live with
  // every allocator.
  for (uint64_t steps = s->epoch_ns / TROUGH_STEP_NS; steps > 0; steps--) {
    slots_walk(&slots, keep, c, CHUNK);
    sleep_until(now_ns() + TROUGH_STEP_NS);
  }
  epoch_end("trough");
}

// ---- spike: grow to a peak, hold it, free nearly all, continue with little ----------------------

static void churn_population(struct population *p, struct counts *c, uint32_t low, uint32_t high, uint64_t bytes) {
  for (uint32_t i = 0; i < CHUNK; i++) {
    population_drop(p, c);
    while (p->live < bytes) population_add(p, c, low, high);
  }
  peak_live_note();
}

void spike_run(const struct soak_settings *s) {
  static const char *const kPhases[] = {"peak", "plateau", "trough", "settled"};
  struct counts *c = counts_of(0);
  struct slots slots;
  struct population spike;
  slots_init(&slots, s->ws, s->seed);
  population_init(&spike, s->peak_bytes / LEAST_MEAN + CHUNK, s->seed);
  timeline_start();
  for (uint32_t step = 0; epoch_begin_of(4); step = (step + 1) % 4) {
    if (step == 0) {
      while (spike.live < s->peak_bytes) population_add(&spike, c, MIN, MAX);
    } else if (step == 2) {
      const size_t keep = spike.count / SPIKE_KEEP;
      while (spike.count > keep) population_drop(&spike, c);
    }
    do {
      slots_walk(&slots, s->ws, c, CHUNK);
      if (step < 2) churn_population(&spike, c, MIN, MAX, s->peak_bytes);
    } while (epoch_lasts());
    peak_live_note();
    epoch_end(kPhases[step]);
  }
}

// ---- phase: the same live bytes in small blocks, in large ones, in small ones again -------------

void phase_run(const struct soak_settings *s) {
  struct counts *c = counts_of(0);
  struct population p;
  population_init(&p, s->peak_bytes / LEAST_MEAN + CHUNK, s->seed);
  timeline_start();
  for (bool large = false; epoch_begin_of(3); large = !large) {
    const uint32_t low = large ? LARGE_MIN : MIN, high = large ? LARGE_MAX : MAX;
    const size_t keep = p.count / PHASE_KEEP;
    while (p.count > keep) population_drop(&p, c);
    while (p.live < s->peak_bytes) population_add(&p, c, low, high);
    do {
      churn_population(&p, c, low, high, s->peak_bytes);
    } while (epoch_lasts());
    epoch_end(large ? "large" : "small");
  }
}
