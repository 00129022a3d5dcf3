// SPDX-License-Identifier: Apache-2.0
//
// Two processors that are near each other, or far, measured by how long a cache line takes between them: what the
// system says of their topology may be wrong in a virtual machine.
#include "bench/workloads/pin.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/workloads/workload.h"

enum { PINGS = 100 };

static struct {
  _Alignas(64) _Atomic(uint32_t) ball;  // even: this thread's turn
  int partner;
} game;

static void wait_for(uint32_t turn) {
  // Both threads have a processor of their own; another process may have it for a while.
  while (atomic_load_explicit(&game.ball, memory_order_acquire) != turn) {
  }
}

bool pin_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

static void *partner_main(void *unused) {
  (void)unused;
  if (!pin_to(game.partner)) {
    fprintf(stderr, "random_mixed: cannot run on processor %d\n", game.partner);
    exit(1);
  }
  for (uint32_t i = 0; i < PINGS; i++) {
    wait_for(2 * i + 1);
    atomic_store_explicit(&game.ball, 2 * i + 2, memory_order_release);
  }
  return NULL;
}

// The shortest round trip, because another process may have run in between.
static uint64_t ping_ns(int partner) {
  game.partner = partner;
  atomic_store_explicit(&game.ball, 0, memory_order_relaxed);
  pthread_t thread;
  if (pthread_create(&thread, NULL, partner_main, NULL) != 0) {
    fprintf(stderr, "random_mixed: cannot start a thread\n");
    exit(1);
  }
  uint64_t least = UINT64_MAX;
  for (uint32_t i = 0; i < PINGS; i++) {
    const uint64_t begin = now_ns();
    atomic_store_explicit(&game.ball, 2 * i + 1, memory_order_release);
    wait_for(2 * i + 2);
    const uint64_t ns = now_ns() - begin;
    if (ns < least) least = ns;
  }
  pthread_join(thread, NULL);
  return least;
}

bool pin_choose(bool near, int cpus[2], uint64_t *round_trip_ns) {
  cpu_set_t before;
  if (sched_getaffinity(0, sizeof before, &before) != 0 || CPU_COUNT(&before) < 2) return false;
  cpus[0] = cpus[1] = -1;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET((size_t)cpu, &before)) continue;
    if (cpus[0] < 0) {
      cpus[0] = cpu;
      if (!pin_to(cpu)) return false;
      continue;
    }
    const uint64_t ns = ping_ns(cpu);
    if (cpus[1] >= 0 && (near ? ns >= *round_trip_ns : ns <= *round_trip_ns)) continue;
    cpus[1] = cpu;
    *round_trip_ns = ns;
  }
  return sched_setaffinity(0, sizeof before, &before) == 0;
}
