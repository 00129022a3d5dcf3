// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the random_mixed driver share: the settings of a run, its result, and the helpers around the loops.
#ifndef HAKMEM_BENCH_WORKLOAD_H_
#define HAKMEM_BENCH_WORKLOAD_H_

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum rng_kind { RNG_INDEPENDENT, RNG_SEED };
enum touch_kind { TOUCH_FIRST, TOUCH_ENDS, TOUCH_ALL };
enum { DRAG_EVERY = 1024 };
// The options of a loop: table.inc.
enum takes {
  NOTHING = 0,
  DRAG = 1,
  REMOTE = 2,
  RNG = 4,
  TOUCH = 8,
  EVEN_THREADS = 16,
  ONE_SIZE = 32,
  FIRST_TOUCH = 64,
  CHECKED = 128,
  LEAST_16 = 256,
  CXX = 512,
};
// What a row of table.inc asks of its loop besides the settings. The loops say what they do with it.
enum shape {
  SHAPE_NONE,
  // sweep: the distribution of the sizes
  SHAPE_UNIFORM,
  SHAPE_CXX,
  SHAPE_HEAVY,
  SHAPE_BESIDE,
  // hot: the order of the frees
  SHAPE_LIFO,
  SHAPE_FIFO,
  SHAPE_RANDOM,
  // handover: who gets the blocks; only in PAIR the receiver does not read them; in NEAR and FAR two processors that
  // are near each other or far run the threads
  SHAPE_PAIR,
  SHAPE_PAIR_READ,
  SHAPE_PAIR_NEAR,
  SHAPE_PAIR_FAR,
  SHAPE_RING,
  SHAPE_FAN_IN,
  // producer_consumer
  SHAPE_BOUNDED,
  SHAPE_UNBOUNDED,
  // realloc_growth
  SHAPE_VECTOR,
  SHAPE_STRING,
  SHAPE_PAGES,
  // sharing
  SHAPE_PASSIVE,
  SHAPE_ACTIVE,
  // cadence: milliseconds between two calls
  SHAPE_MS_1,
  SHAPE_MS_10,
  SHAPE_MS_100,
};

struct settings;
struct result;

struct loop {
  struct result (*run)(const struct settings *);
  enum takes takes;
};

struct settings {
  const char *name;         // the workload as named on the command line
  const struct loop *loop;  // which loop runs it
  uint64_t cycles;          // operations of one thread, without warm-up and drain
  uint32_t ws;              // slots of one thread (for pure_remote: length of the queue)
  uint64_t seed;
  uint32_t min, max;  // block size in bytes, both included
  enum rng_kind rng;
  uint32_t threads;
  uint32_t remote;  // percent of the frees that go through the exchange
  enum touch_kind touch;
  enum shape shape;
  uint32_t drag;  // multiplications in a row after every DRAG_EVERY cycles of the mixed loop
};

struct result {
  uint64_t operations;   // mallocs, frees and reallocs in the timed part, of all threads
  uint64_t nanoseconds;  // from the first thread's start to the last one's end
};

// The start and the end of one thread's timed part, and its operations.
struct span {
  uint64_t begin, end, operations;
};

// One thread of a run.
struct lane {
  const struct settings *settings;
  void *group;  // the data that the threads of one workload share
  uint32_t index;
  struct span span;
  pthread_barrier_t *start;
  pthread_t thread;
};

// Fills `*s` from the command line. A mistake prints the usage on stderr and exits 2; --help prints it on
// stdout and exits 0.
void settings_parse(struct settings *s, int argc, char **argv);
// Prints the settings as one line, "Workload = ...".
void settings_print(const struct settings *s);

// Runs body(lane) on settings->threads threads and adds up their spans. A single thread is the calling one, because
// some allocators are faster as long as a process has never had a second thread.
struct result lanes_run(const struct settings *s, void *group, void (*body)(struct lane *));
// Called by a body between the warm-up and the timed part.
void lane_start(struct lane *lane);
void lane_end(struct lane *lane, uint64_t operations);

// The loops, NAME_run of each.
#define LOOP(name, takes) struct result name##_run(const struct settings *s);
#define WORKLOAD(...)
#include "bench/workloads/table.inc"
#undef LOOP
#undef WORKLOAD

// Zeroed memory from mmap, so that the allocator under test has only the workload's blocks. Exits 1 if there is none.
void *scratch_map(size_t bytes);
// Reports that malloc or realloc returned NULL, and exits 1.
_Noreturn void out_of_memory(size_t size);
// Reports a wrong block: "the allocator is wrong: a block WHAT", and exits 1.
_Noreturn void wrong_block(const char *what, size_t size);
uint64_t now_ns(void);

// The no-op floor hands out memory again before it is freed, which only the workload's blocks tolerate. So it does that
// only between these two calls of a thread. They do nothing with other allocators.
void floor_enter(void);
void floor_leave(void);

// Prints "Allocator = NAME VERSION (LIBRARY)", from the symbols of the object that defines the process's malloc.
void allocator_print(void);
// Resident memory of this process in KiB from /proc/self/status: field "VmRSS" or "VmHWM" (its peak). getrusage is not
// used for the peak, because it includes the process that called exec.
uint64_t resident_kib(const char *field);

// A 64-bit generator whose steps do not wait for each other: a counter goes through a mixing function (SplitMix64).
static inline uint64_t random_next(uint64_t *state) {
  uint64_t x = *state += UINT64_C(0x9E3779B97F4A7C15);
  x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
  return x ^ (x >> 31);
}

// Maps 32 random bits to [0, bound) by multiplication: no division, and a bias below bound / 2^32.
static inline uint32_t random_below(uint32_t bits, uint32_t bound) {
  return (uint32_t)(((uint64_t)bits * bound) >> 32);
}

// A different starting state for each thread of a run.
static inline uint64_t random_start(uint64_t seed, uint32_t index) {
  uint64_t state = seed + ((uint64_t)index << 32);
  return random_next(&state);
}

#endif  // HAKMEM_BENCH_WORKLOAD_H_
