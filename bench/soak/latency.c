// SPDX-License-Identifier: Apache-2.0
//
// The time of a malloc or free, measured for one call in SAMPLE_EVERY, so that reading the clock costs little
// throughput. The clock is the processor's counter, which must run at a constant rate (constant_tsc).
#include <time.h>

#include "bench/soak/soak.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum { SUBS = 1 << LATENCY_SUB_BITS };

static uint64_t ns_per_tick;  // fixed point with 32 fraction bits

#if defined(__x86_64__)
static inline uint64_t ticks_before(void) {
  _mm_lfence();  // earlier instructions must not count
  return __rdtsc();
}

static inline uint64_t ticks_after(void) {
  unsigned cpu;
  return __rdtscp(&cpu);
}
#elif defined(__aarch64__)
static inline uint64_t ticks_before(void) {
  uint64_t t;
  __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(t)::"memory");
  return t;
}

static inline uint64_t ticks_after(void) { return ticks_before(); }
#else
static inline uint64_t ticks_before(void) { return now_ns(); }
static inline uint64_t ticks_after(void) { return now_ns(); }
#endif

void latency_init(void) {
  const uint64_t wanted = UINT64_C(20000000);
  const uint64_t ns = now_ns(), ticks = ticks_before();
  uint64_t ns_passed;
  do {
    ns_passed = now_ns() - ns;
  } while (ns_passed < wanted);
  const uint64_t ticks_passed = ticks_after() - ticks;
  ns_per_tick = (ns_passed << 32) / (ticks_passed ? ticks_passed : 1);
}

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
  // A counter that steps back between processors would give an absurd number; 2^40 ticks are minutes.
  const uint64_t ns = ticks >> 40 ? 0 : (uint64_t)(((unsigned __int128)ticks * ns_per_tick) >> 32);
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
