// SPDX-License-Identifier: Apache-2.0
//
// What the parts of soak_worker share: the settings of a run, the counters of its threads, the timeline of epochs, and
// blocks that are counted, timed and touched. README.md explains the columns.
//
// Each file calls only files before it in this order: harness, latency, process_memory, tracer, blocks, crew, timeline,
// the workloads (churn, fork_server, freeall, remote, single), options, soak_worker.
//
// From the start of the first epoch the harness takes no memory, neither from malloc nor from the operating system, so
// that only the allocator's and the workload's memory is counted.
#ifndef HAKMEM_BENCH_SOAK_SOAK_H_
#define HAKMEM_BENCH_SOAK_SOAK_H_

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "bench/lib/call_tracer.h"
#include "bench/workloads/workload.h"

// ---- Settings -----------------------------------------------------------------------------------

enum trickle { TRICKLE_NONE, TRICKLE_ONE, TRICKLE_MIXED };

struct soak_settings {
  const char *workload;
  void (*run)(const struct soak_settings *);
  uint64_t duration_ns, epoch_ns;
  uint64_t start_ns;      // CLOCK_MONOTONIC; 0: the time when the worker starts
  uint64_t epoch_ops;     // 0: an epoch lasts epoch_ns
  uint64_t max_ops;       // 0: no bound
  const char *csv;        // "-" means stdout
  const char *latency;    // NULL: no file
  int turn_in, turn_out;  // -1: no turns
  bool turn_first;
  bool trace;      // count memory system calls
  bool start_row;  // a row before the first block
  bool trough;     // steady: ends with a tenth of the slots
  uint32_t ws;     // slots; for consumer and churn also the length of a queue
  uint64_t seed;
  uint64_t peak_bytes;
  uint32_t max_size;
  uint32_t threads;
  uint32_t children;
  enum trickle trickle;
};

// Fills `*s` from the command line. A mistake prints the usage on stderr and exits 2; --help, --now and --identity
// print on stdout and exit 0.
void options_parse(struct soak_settings *s, int argc, char **argv);

// Reports a failure of the harness by one line on stderr, and exits 1.
__attribute__((format(printf, 1, 2))) _Noreturn void soak_fail(const char *format, ...);

void sleep_until(uint64_t ns);

// ---- Counters of one thread, in memory that child processes share -------------------------------

enum {
  MAX_LANES = 16,
  SAMPLE_EVERY = 17,  // a prime, so that samples do not fall into step with allocators' batches
  LATENCY_SUB_BITS = 4,
  LATENCY_BUCKETS = 40 << LATENCY_SUB_BITS,  // up to 2^43 ns
};

// Written by one thread at a time, read by any.
struct counts {
  _Alignas(64) _Atomic(uint64_t) operations;  // mallocs and frees
  _Atomic(uint64_t) allocated, freed;         // requested bytes
  _Atomic(uint64_t) longest_ns;               // since the last row
  uint32_t until_sample;
  _Alignas(64) _Atomic(uint64_t) latency[LATENCY_BUCKETS];
};

struct counts *counts_of(uint32_t lane);
void counts_init(void);

struct totals {
  uint64_t operations, live;
};
struct totals counts_total(void);
// Records the live bytes if they are a new maximum.
void peak_live_note(void);
uint64_t peak_live(void);

static inline void counts_add(_Atomic(uint64_t) *counter, uint64_t n) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

// ---- Latency ------------------------------------------------------------------------------------

void latency_init(void);
void *latency_malloc(struct counts *c, size_t size);
void latency_free(struct counts *c, void *p);
// Bucket `b` holds low <= ns < high.
uint64_t latency_low(uint32_t b);
uint32_t latency_bucket(uint64_t ns);

// ---- Blocks -------------------------------------------------------------------------------------

struct block {
  unsigned char *p;
  size_t size;
};

enum { PAGE = 4096 };

// malloc(size) with every page of it written to, so that live bytes are resident bytes.
static inline struct block block_take(struct counts *c, size_t size) {
  unsigned char *p;
  if (--c->until_sample == 0) {
    p = latency_malloc(c, size);
  } else {
    p = malloc(size);
  }
  if (!p) out_of_memory(size);
  for (size_t at = 0; at < size; at += PAGE) p[at] = 0x5A;
  p[size - 1] = 0x5A;
  counts_add(&c->operations, 1);
  counts_add(&c->allocated, size);
  return (struct block){p, size};
}

static inline void block_give(struct counts *c, struct block b) {
  if (--c->until_sample == 0) {
    latency_free(c, b.p);
  } else {
    free(b.p);
  }
  counts_add(&c->operations, 1);
  counts_add(&c->freed, b.size);
}

// Uniform in [low, high], both included.
static inline size_t size_between(uint64_t bits, uint32_t low, uint32_t high) {
  return low + random_below((uint32_t)bits, high - low + 1);
}

// Blocks in no order. The array belongs to the harness and is resident from the start.
struct population {
  struct block *blocks;
  size_t count, capacity;
  uint64_t state;  // of the random numbers
  uint64_t live;   // bytes
};

// The harness's memory, resident from the start. It is subtracted from RSS where RSS is compared with live bytes.
void *harness_map(size_t bytes);
uint64_t harness_bytes(void);
void harness_add(size_t bytes);

void population_init(struct population *p, size_t capacity, uint64_t seed);
void population_add(struct population *p, struct counts *c, uint32_t low, uint32_t high);
// Frees one block, chosen uniformly at random.
void population_drop(struct population *p, struct counts *c);

// Slots that are filled and freed at random. A slot with p == NULL is empty.
struct slots {
  struct block *blocks;
  uint32_t count;
  uint64_t state;
};

void slots_init(struct slots *s, uint32_t count, uint64_t seed);
// Fills or frees one of the first `ws` slots, `cycles` times.
void slots_walk(struct slots *s, uint32_t ws, struct counts *c, uint32_t cycles);

// ---- Timeline -----------------------------------------------------------------------------------

// Opens the files. Call it before anything is written.
void timeline_init(const struct soak_settings *s);
// Writes the row before the first block, if it was requested. All of the harness's memory must be resident.
void timeline_start(void);
// Waits for this process's turn. False: the time or --max-ops is used up.
bool epoch_begin(void);
// As epoch_begin, but the first `least` epochs take place however late it is, so that no phase is missing.
bool epoch_begin_of(uint64_t least);
// Whether the epoch continues: it has time left, or, with --epoch-ops, operations of the first thread.
bool epoch_lasts(void);
uint64_t epoch_deadline(void);
// For workloads with their own timing: begins an epoch without turns or limits.
void epoch_open(void);
// Writes the row, and passes the turn on.
void epoch_end(const char *phase);
uint64_t start_rss_kib(void);

// ---- The process --------------------------------------------------------------------------------

struct process_memory {
  uint64_t rss_kib, private_dirty_kib, anon_huge_kib, mapped_kib, committed_kib, vmas;
};
struct process_memory process_memory_read(void);
void process_memory_init(void);

// ---- System calls -------------------------------------------------------------------------------

// Starts the program again as a traced child, with the same arguments, and ends with its status. Returns only in the
// child, or, with a message on stderr, if system calls cannot be counted.
void tracer_start(char **argv);
// The calls of this process, its threads and its children so far. False: they are not counted.
bool tracer_read(uint64_t calls[CALL_KINDS]);

// ---- Threads with stacks of the harness ---------------------------------------------------------

// Maps the stacks for `count` threads at a time.
void crew_init(uint32_t count);
void crew_start(uint32_t place, pthread_t *thread, void *(*body)(void *), void *arg);

// ---- Workloads ----------------------------------------------------------------------------------

void steady_run(const struct soak_settings *s);
void spike_run(const struct soak_settings *s);
void phase_run(const struct soak_settings *s);
void churn_run_epochs(const struct soak_settings *s);
void fork_run(const struct soak_settings *s);
void freeall_run(const struct soak_settings *s);
void consumer_run(const struct soak_settings *s);
void short_threads_run(const struct soak_settings *s);

#endif  // HAKMEM_BENCH_SOAK_SOAK_H_
