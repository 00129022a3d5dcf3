// SPDX-License-Identifier: Apache-2.0
//
// What the parts of latency_worker share: the kinds of calls, their histograms, and what runs beside.
//
// The harness takes no memory from malloc while calls are measured: histograms and slots are static or from mmap.
#ifndef HAKMEM_BENCH_LATENCY_LATENCY_H_
#define HAKMEM_BENCH_LATENCY_LATENCY_H_

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/lib/ticks.h"
#include "bench/workloads/workload.h"

// Each kind of call, and its name on the command line and in the output. CLOCK measures nothing: what it shows is the
// clock's own cost, which every other kind contains, and how long the machine takes this thread its processor away.
#define LATENCY_KINDS(X)            \
  X(CLOCK, "clock")                 \
  X(MALLOC_SMALL, "malloc-small")   \
  X(MALLOC_MEDIUM, "malloc-medium") \
  X(MALLOC_LARGE, "malloc-large")   \
  X(FREE_SMALL, "free-small")       \
  X(FREE_MEDIUM, "free-medium")     \
  X(FREE_LARGE, "free-large")       \
  X(FREE_REMOTE, "free-remote")     \
  X(REALLOC, "realloc")             \
  X(CALLOC, "calloc")               \
  X(ALIGNED, "aligned")

#define LATENCY_ENUM(name, text) KIND_##name,
enum kind { LATENCY_KINDS(LATENCY_ENUM) KINDS };
#undef LATENCY_ENUM

// ---- Histograms (latency_worker.c) --------------------------------------------------------------

void histogram_add(enum kind kind, uint64_t ticks);

// Evaluates `call` and records how long it took.
#define TIMED(kind, call)                        \
  do {                                           \
    const uint64_t begin_ = ticks_before();      \
    call;                                        \
    histogram_add(kind, ticks_after() - begin_); \
  } while (0)

// ---- The measured calls (latency_calls.c) -------------------------------------------------------

// Maps what the calls need.
void calls_init(uint64_t seed);
// Makes at least `calls` calls of each kind, of large blocks a tenth of that.
void calls_run(uint64_t calls);

// ---- What another thread does meanwhile (latency_beside.c) --------------------------------------

enum beside { BESIDE_NONE, BESIDE_TRIM, BESIDE_FORK, BESIDE_FREE, BESIDE_THREADS, BESIDES };
extern const char *const kBeside[BESIDES];

// Starts the other thread. False: this allocator has no call that trims. `bytes`: how much BESIDE_FREE frees at a time.
bool beside_start(enum beside what, uint64_t bytes);
// How often it has done its work.
uint64_t beside_times(void);
void beside_stop(void);

#endif  // HAKMEM_BENCH_LATENCY_LATENCY_H_
