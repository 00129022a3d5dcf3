// SPDX-License-Identifier: Apache-2.0
//
// Replays a trace on the process's malloc: each thread of the trace is a thread here, and makes its calls in their
// order. A thread waits for a block that another one has yet to allocate, and does not run far ahead of the slowest, so
// that about as much is live at once as in the program. Each page of a block is written to, because the trace does not
// tell which ones the program used. Blocks are checked when they are freed.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench/lib/command_line.h"
#include "bench/replay/trace.h"
#include "bench/workloads/checked.h"

enum { AHEAD = 10000, MILLION = 1000000, REST_STEP_MS = 100 };

// How far a thread is: the index of its next call.
struct progress {
  _Alignas(64) _Atomic(uint64_t) at;
};

static struct trace trace;
static _Atomic(unsigned char *) *blocks;
static struct progress *progress;
static uint32_t *starts;  // by thread, its first call; by call, the thread's next one: `following`
static uint32_t *following;

static void usage(FILE *to) {
  fprintf(to,
          "usage: replay_worker [--check] [--rounds N] [--rest-ms N] TRACE\n"
          "  --check    only read the trace, and print what is in it\n"
          "  --rounds   how often it is replayed; the time is that of all\n"
          "  --rest-ms  how long the process rests, with a call each 100 ms, before its memory at the end is read\n");
}

const struct command_line command_line = {.program = "replay_worker", .usage = usage};

// The trace is not usable: one line, without the usage.
static _Noreturn void bad(const char *path, const char *what) {
  fprintf(stderr, "replay_worker: %s: %s\n", path, what);
  exit(2);
}

static void load(const char *path) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  struct stat facts;
  if (file < 0 || fstat(file, &facts) != 0) bad(path, strerror(errno));
  if (!S_ISREG(facts.st_mode)) bad(path, "not a file");
  const uint64_t size = (uint64_t)facts.st_size;
  if (size == 0) bad(path, "not a trace of //bench:record");
  const void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
  if (bytes == MAP_FAILED) bad(path, strerror(errno));
  close(file);
  const uint64_t most = trace_most_calls(size) + 1;
  trace.calls = scratch_map(most * sizeof *trace.calls);
  trace.owners = scratch_map(most * sizeof *trace.owners);
  const char *wrong = trace_read(bytes, size, &trace);
  if (wrong) bad(path, wrong);
  const uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  if (trace.peak_bytes > memory / 2) bad(path, "needs more than half of this machine's memory");
}

static void prepare(void) {
  blocks = scratch_map(trace.blocks * sizeof *blocks);
  progress = scratch_map(trace.threads * sizeof *progress);
  starts = scratch_map(trace.threads * sizeof *starts);
  following = scratch_map(trace.count * sizeof *following);
  for (uint64_t i = 0; i < trace.threads; i++) starts[i] = (uint32_t)trace.count;
  for (uint64_t i = trace.count; i-- > 0;) {
    following[i] = starts[trace.calls[i].thread];
    starts[trace.calls[i].thread] = (uint32_t)i;
  }
}

// Touches what realloc has not kept. A block of 0 bytes has no contents.
static void fill(unsigned char *p, uint64_t kept, uint64_t size, uint32_t block) {
  if (size == 0) return;
  for (uint64_t at = kept; at < size; at += PAGE_BYTES) p[at] = 0x5A;
  const uint32_t part = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
  struct cell c;
  cell_fill(&c, p, part, block);
}

static void check(const unsigned char *p, uint64_t size, uint32_t block) {
  const uint32_t part = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
  if (size && !cell_is_intact(p, part, block)) wrong_block("lost its contents", size);
}

// Another thread may have to allocate it first.
static unsigned char *block_when_there(uint32_t block) {
  unsigned char *p;
  while (!(p = atomic_load_explicit(&blocks[block], memory_order_acquire))) sched_yield();
  return p;
}

static uint64_t slowest(void) {
  uint64_t least = UINT64_MAX;
  for (uint64_t i = 0; i < trace.threads; i++) {
    const uint64_t at = atomic_load_explicit(&progress[i].at, memory_order_acquire);
    if (at < least) least = at;
  }
  return least;
}

static void *allocate(const struct trace_call *c, unsigned char *old) {
  void *p = NULL;
  switch (c->op) {
    case TRACE_MALLOC:
      p = malloc(c->size);
      break;
    case TRACE_CALLOC:
      p = calloc(1, c->size);
      if (p && c->size && (((unsigned char *)p)[0] | ((unsigned char *)p)[c->size - 1])) {
        wrong_block("is from calloc and not zero", c->size);
      }
      break;
    case TRACE_REALLOC:
      p = realloc(old, c->size ? c->size : 1);
      break;
    default: {
      const size_t alignment = (size_t)1 << c->alignment_bits;
      if (posix_memalign(&p, alignment < sizeof(void *) ? sizeof(void *) : alignment, c->size) != 0) p = NULL;
      if ((uintptr_t)p % alignment != 0) wrong_block("is not aligned", c->size);
    }
  }
  if (!p) out_of_memory(c->size);
  return p;
}

static void replay(const struct trace_call *c) {
  unsigned char *old = NULL;
  uint64_t old_size = 0;
  if (c->op == TRACE_FREE || c->op == TRACE_REALLOC) {
    old = block_when_there(c->block);
    atomic_store_explicit(&blocks[c->block], NULL, memory_order_relaxed);
    old_size = trace.calls[trace.owners[c->block]].size;
    check(old, old_size, c->block);
  }
  if (c->op == TRACE_FREE) {
    free(old);
    return;
  }
  unsigned char *p = allocate(c, old);
  // What realloc moved begins as before.
  if (old && old_size >= TAGGED && c->size >= TAGGED && memcmp(p, &c->block, TAGGED) != 0) {
    wrong_block("lost its contents in realloc", c->size);
  }
  fill(p, old ? old_size : 0, c->size, c->made);
  atomic_store_explicit(&blocks[c->made], p, memory_order_release);
}

static void replay_body(struct lane *lane) {
  uint32_t i = starts[lane->index];
  atomic_store_explicit(&progress[lane->index].at, i, memory_order_release);
  lane_start(lane);
  uint64_t calls = 0, allowed = 0;
  for (; i < trace.count; i = following[i]) {
    atomic_store_explicit(&progress[lane->index].at, i, memory_order_release);
    while (i >= allowed && i >= (allowed = slowest() + AHEAD)) sched_yield();
    replay(&trace.calls[i]);
    calls++;
  }
  // An ended thread holds nobody up.
  atomic_store_explicit(&progress[lane->index].at, UINT64_MAX - AHEAD, memory_order_release);
  lane_end(lane, calls);
}

static void free_rest(void) {
  for (uint64_t i = 0; i < trace.blocks; i++) {
    unsigned char *p = atomic_load_explicit(&blocks[i], memory_order_relaxed);
    if (!p) continue;
    check(p, trace.calls[trace.owners[i]].size, (uint32_t)i);
    free(p);
    atomic_store_explicit(&blocks[i], NULL, memory_order_relaxed);
  }
}

// Idle, but for a call now and then: many allocators return memory only during calls.
static void rest(uint64_t ms) {
  for (uint64_t passed = 0; passed < ms; passed += REST_STEP_MS) {
    nanosleep(&(struct timespec){0, REST_STEP_MS * 1000000L}, NULL);
    void *p = malloc(64);
    if (!p) out_of_memory(64);
    free(p);
  }
}

int main(int argc, char **argv) {
  // stdio would take its buffer from the allocator under test.
  static char out_buffer[4096];
  setvbuf(stdout, out_buffer, _IOFBF, sizeof out_buffer);
  const char *path = NULL, *value;
  bool only_check = false;
  uint64_t rounds = 1, rest_ms = 0;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0) {
      usage(stdout);
      return fflush(stdout) == 0 ? 0 : 1;
    }
    if (strcmp(argv[i], "--check") == 0) {
      only_check = true;
    } else if ((value = option_value("--rounds", argc, argv, &i))) {
      rounds = number("--rounds", value, 1, MILLION);
    } else if ((value = option_value("--rest-ms", argc, argv, &i))) {
      rest_ms = number("--rest-ms", value, 0, MILLION);
    } else if (argv[i][0] == '-' || path) {
      refuse("unknown argument '%s'", argv[i]);
    } else {
      path = argv[i];
    }
  }
  if (!path) refuse("which trace?");
  load(path);
  printf("Calls = %" PRIu64 "\nThreads = %" PRIu64 "\nBlocks = %" PRIu64 "\nPeak = %" PRIu64 " bytes\n", trace.count,
         trace.threads, trace.blocks, trace.peak_bytes);
  if (only_check) return fflush(stdout) == 0 ? 0 : 1;

  prepare();
  const struct settings settings = {.name = "replay", .threads = (uint32_t)trace.threads};
  const uint64_t start_kib = resident_kib("VmRSS");
  uint64_t ns = 0, operations = 0;
  for (uint64_t round = 0; round < rounds; round++) {
    const struct result r = lanes_run(&settings, NULL, replay_body);
    ns += r.nanoseconds;
    operations += r.operations;
    free_rest();
    for (uint64_t i = 0; i < trace.threads; i++) atomic_store_explicit(&progress[i].at, 0, memory_order_relaxed);
  }
  rest(rest_ms);
  const uint64_t end_kib = resident_kib("VmRSS"), peak_kib = resident_kib("VmHWM");
  allocator_print();
  printf("Operations = %" PRIu64 "\nTime = %.6f s\n", operations, (double)ns / 1e9);
  printf("Throughput = %.0f ops/s\n", (double)operations * 1e9 / (double)(ns ? ns : 1));
  printf("Start RSS = %" PRIu64 " KiB\nPeak RSS = %" PRIu64 " KiB\nEnd RSS = %" PRIu64 " KiB\n", start_kib, peak_kib,
         end_kib);
  if (fflush(stdout) != 0 || ferror(stdout)) {
    perror("replay_worker: stdout");
    return 1;
  }
  return 0;
}
