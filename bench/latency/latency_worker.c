// SPDX-License-Identifier: Apache-2.0
//
// Measures single calls of the process's malloc and its relatives, and prints for each kind the percentiles and the
// maximum in nanoseconds. README.md explains the kinds.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench/latency/latency.h"
#include "bench/lib/command_line.h"

#define LATENCY_NAME(name, text) text,
static const char *const kKinds[KINDS] = {LATENCY_KINDS(LATENCY_NAME)};

// ---- Histograms: 32 buckets for each power of two, so a percentile is exact to 3 % --------------

enum { SUB_BITS = 5, SUBS = 1 << SUB_BITS, BUCKETS = 40 << SUB_BITS };

static struct histogram {
  uint64_t calls, max, buckets[BUCKETS];
} histograms[KINDS];
static uint64_t ns_per_tick;

static uint32_t bucket_of(uint64_t ns) {
  if (ns < SUBS) return (uint32_t)ns;
  const uint32_t shift = (uint32_t)(63 - __builtin_clzll(ns)) - SUB_BITS;
  const uint32_t b = (shift << SUB_BITS) + (uint32_t)(ns >> shift);
  return b < BUCKETS ? b : BUCKETS - 1;
}

static uint64_t low_of(uint32_t b) {
  if (b < SUBS) return b;
  const uint32_t shift = (b >> SUB_BITS) - 1;
  return (uint64_t)((b & (SUBS - 1)) + SUBS) << shift;
}

void histogram_add(enum kind kind, uint64_t ticks) {
  struct histogram *h = &histograms[kind];
  const uint64_t ns = ticks_to_ns(ticks, ns_per_tick);
  h->calls++;
  h->buckets[bucket_of(ns)]++;
  if (ns > h->max) h->max = ns;
}

// The least value that at least `parts` in 10,000 of the calls do not exceed, rounded down to its bucket.
static uint64_t percentile(const struct histogram *h, uint64_t parts) {
  const uint64_t wanted = (h->calls * parts + 9999) / 10000;
  uint64_t seen = 0;
  for (uint32_t b = 0; b < BUCKETS; b++) {
    seen += h->buckets[b];
    if (seen >= wanted) return low_of(b);
  }
  return h->max;
}

// ---- What workload.h declares -------------------------------------------------------------------

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void *scratch_map(size_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    perror("latency_worker: no memory for the harness");
    exit(1);
  }
  return p;
}

// Both write to the file descriptor: another thread may hold a lock of stdio.
static _Noreturn void end_with(const char *what, size_t size) {
  char line[128];
  const int n = snprintf(line, sizeof line, "latency_worker: %s (%zu bytes)\n", what, size);
  if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) _exit(1);
  _exit(1);
}

_Noreturn void out_of_memory(size_t size) { end_with("the allocator returned NULL", size); }

_Noreturn void wrong_block(const char *what, size_t size) {
  char text[96];
  snprintf(text, sizeof text, "the allocator is wrong: a block %s", what);
  end_with(text, size);
}

// ---- Command line and output --------------------------------------------------------------------

static void usage(FILE *to) {
  fprintf(to,
          "usage: latency_worker [--calls N] [--beside none|trim|fork|free|threads] [--free-mib N] [--seed N]\n"
          "  --calls     measured calls of each kind; of large blocks a tenth\n"
          "  --beside    what another thread does meanwhile; the calls are repeated until it has done so once\n"
          "  --free-mib  how much --beside free frees at a time\n");
}

const struct command_line command_line = {.program = "latency_worker", .usage = usage};

static void print_kind(enum kind kind) {
  static const uint64_t parts[] = {5000, 9900, 9990, 9999};
  const struct histogram *h = &histograms[kind];
  printf("%s = %" PRIu64, kKinds[kind], h->calls);
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    // A bucket's lower end may lie below the bucket's values, but never above the maximum.
    printf(" %" PRIu64, percentile(h, parts[i]));
  }
  printf(" %" PRIu64 "\n", h->max);
}

int main(int argc, char **argv) {
  // stdio would take its buffer from the allocator under test.
  static char out_buffer[4096];
  setvbuf(stdout, out_buffer, _IOFBF, sizeof out_buffer);

  uint64_t calls = 200000, free_mib = 2048, seed = 1;
  enum beside beside = BESIDE_NONE;
  for (int i = 1; i < argc; i++) {
    const char *value;
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      usage(stdout);
      return fflush(stdout) == 0 ? 0 : 1;
    }
    if ((value = option_value("--calls", argc, argv, &i))) {
      calls = number("--calls", value, 1, 1000000000);
    } else if ((value = option_value("--beside", argc, argv, &i))) {
      beside = (enum beside)choice("--beside", value, kBeside, BESIDES);
    } else if ((value = option_value("--free-mib", argc, argv, &i))) {
      free_mib = number("--free-mib", value, 1, 1 << 20);
    } else if ((value = option_value("--seed", argc, argv, &i))) {
      seed = number("--seed", value, 0, UINT64_MAX);
    } else {
      refuse("unknown argument '%s'", argv[i]);
    }
  }

  ns_per_tick = ticks_measure_rate();
  calls_init(seed);
  calls_run((calls + 9) / 10);               // warm-up
  memset(histograms, 0, sizeof histograms);  // its page faults are not measured either
  const bool possible = beside_start(beside, free_mib << 20);
  if (possible) {
    do {
      calls_run(calls);
    } while (beside_times() == 0);
    beside_stop();
  }

  allocator_print();
  printf("Beside = %s, %" PRIu64 " times\n", kBeside[beside], possible ? beside_times() : 0);
  if (!possible) printf("Skipped = the allocator has no call that trims\n");
  for (int kind = 0; possible && kind < KINDS; kind++) print_kind((enum kind)kind);
  if (fflush(stdout) != 0 || ferror(stdout)) {
    perror("latency_worker: stdout");
    return 1;
  }
  return 0;
}
