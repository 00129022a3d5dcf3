// SPDX-License-Identifier: Apache-2.0
//
// A clock for single calls: the processor's counter, which must run at a constant rate (constant_tsc). The clock of the
// system takes longer to read than a malloc.
#ifndef HAKMEM_BENCH_LIB_TICKS_H_
#define HAKMEM_BENCH_LIB_TICKS_H_

#include <stdint.h>

#include "bench/workloads/workload.h"

#if defined(__x86_64__)
#include <x86intrin.h>

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

// The nanoseconds of a tick, in fixed point with 32 fraction bits. Takes 20 ms.
static inline uint64_t ticks_measure_rate(void) {
  const uint64_t wanted = UINT64_C(20000000);
  const uint64_t ns = now_ns(), ticks = ticks_before();
  uint64_t ns_passed;
  do {
    ns_passed = now_ns() - ns;
  } while (ns_passed < wanted);
  const uint64_t ticks_passed = ticks_after() - ticks;
  return (ns_passed << 32) / (ticks_passed ? ticks_passed : 1);
}

static inline uint64_t ticks_to_ns(uint64_t ticks, uint64_t ns_per_tick) {
  // A counter that steps back between processors would give an absurd number; 2^40 ticks are minutes.
  return ticks >> 40 ? 0 : (uint64_t)(((unsigned __int128)ticks * ns_per_tick) >> 32);
}

#endif  // HAKMEM_BENCH_LIB_TICKS_H_
