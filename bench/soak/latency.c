// SPDX-License-Identifier: Apache-2.0
//
// The time of a malloc or free, measured for one call in SAMPLE_EVERY, so that reading the clock costs little
// throughput.
#include "bench/lib/ticks.h"
#include "bench/soak/soak.h"

enum { SUBS = 1 << LATENCY_SUB_BITS };

static uint64_t ns_per_tick;  // fixed point with 32 fraction bits

void latency_init(void) { ns_per_tick = ticks_measure_rate(); }

uint32_t latency_bucket(uint64_t ns) {
  if (ns < SUBS) return (uint32_t)ns;
  const uint32_t shift = (uint32_t)(63 - __builtin_clzll(ns)) - LATENCY_SUB_BITS;
  const uint32_t b = (shift << LATENCY_SUB_BITS) + (uint32_t)(ns >> shift);
  return b < LATENCY_BUCKETS ? b : LATENCY_BUCKETS - 1;
}

uint64_t latency_low(uint32_t b) {
  if (b < SUBS) return b;
  const uint32_t shift = (b >> LATENCY_SUB_BITS) - 1;
  return (uint64_t)((b & (SUBS - 1)) + SUBS) << shift;
}

static void record(struct counts *c, uint64_t ticks) {
  const uint64_t ns = ticks_to_ns(ticks, ns_per_tick);
  counts_add(&c->latency[latency_bucket(ns)], 1);
  if (ns > atomic_load_explicit(&c->longest_ns, memory_order_relaxed)) {
    atomic_store_explicit(&c->longest_ns, ns, memory_order_relaxed);
  }
  c->until_sample = SAMPLE_EVERY;
}

__attribute__((noinline)) void *latency_malloc(struct counts *c, size_t size) {
  const uint64_t begin = ticks_before();
  void *p = malloc(size);
  record(c, ticks_after() - begin);
  return p;
}

__attribute__((noinline)) void latency_free(struct counts *c, void *p) {
  const uint64_t begin = ticks_before();
  free(p);
  record(c, ticks_after() - begin);
}
