// SPDX-License-Identifier: Apache-2.0
//
// Pauses for idle_cache_race_test, and hak_idle_cache_steal compiled with them.
#include "allocator/heap/test_pause.h"

#include <sched.h>
#include <unistd.h>

#include "allocator/os/barrier.h"

static uint32_t random_below(uint32_t n) {
  static _Thread_local uint64_t state;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33) % n;
}

void hak_test_spin(uint32_t times) {
  for (uint32_t i = 0; i < times; i++) __asm__ __volatile__("" ::: "memory");
}

void hak_test_pause(void) {
  switch (random_below(8)) {
    case 0:
      usleep(random_below(50));
      return;
    case 1:
    case 2:
      sched_yield();
      return;
    default:
      hak_test_spin(random_below(10000));
  }
}

void hak_test_pause_seldom(void) {
  if (random_below(16) == 0) hak_test_pause();
}

void (*hak_test_at_barrier)(void);

static bool slow_barrier(void) {
  hak_test_pause();
  if (hak_test_at_barrier != NULL) hak_test_at_barrier();
  const bool done = hak_os_barrier();
  hak_test_pause();
  return done;
}

// The thief, with other names.
#define hak_stolen_blocks hak_test_stolen_blocks
#define hak_idle_cache_steal hak_test_slow_steal
#define hak_idle_cache_is_quiet hak_test_is_quiet
#define hak_idle_cache_class_is_idle hak_test_class_is_idle
#define hak_idle_cache_trip hak_test_trip
#define hak_idle_cache_count_is_large hak_test_count_is_large
#define hak_idle_cache_uncount hak_test_uncount
#define hak_idle_cache_settle hak_test_settle
#define hak_os_barrier slow_barrier
#define __atomic_exchange_n(slot, value, order) (hak_test_pause_seldom(), __atomic_exchange_n(slot, value, order))
#include "allocator/heap/idle_cache.c"
