// SPDX-License-Identifier: Apache-2.0
//
// Epochs: their time, their turns, and their rows.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/soak/soak.h"

static const char kHeader[] =
    "epoch,time_s,ops,ops_per_s,live_bytes,rss_kib,private_dirty_kib,anon_huge_kib,mapped_kib,committed_kib,vmas,"
    "minor_faults,major_faults,mmap_calls,munmap_calls,madvise_calls,mprotect_calls,mremap_calls,brk_calls,p50_ns,"
    "p99_ns,p999_ns,max_ns,phase\n";
static const char kLatencyHeader[] = "epoch,low_ns,high_ns,count\n";

// Counts since the start. A row has the differences from the row before it.
struct tally {
  uint64_t operations, minor, major;
  uint64_t calls[CALL_KINDS];
  uint64_t latency[LATENCY_BUCKETS];
};

static struct {
  const struct soak_settings *s;
  struct counts *lanes;
  int csv, latency;
  uint64_t start, begin, deadline, number;
  uint64_t first_ops;  // operations of the first thread when the epoch began
  bool calls_known;
  struct tally before, now;
  _Atomic(uint64_t) peak_live;
  uint64_t start_rss_kib;
} t;

// ---- Counters -----------------------------------------------------------------------------------

void counts_init(void) {
  const size_t bytes = MAX_LANES * sizeof *t.lanes;
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) soak_fail("mmap of %zu bytes: %s", bytes, strerror(errno));
  harness_add(bytes);
  t.lanes = p;
  memset(t.lanes, 0, bytes);
  for (uint32_t i = 0; i < MAX_LANES; i++) t.lanes[i].until_sample = SAMPLE_EVERY;
}

struct counts *counts_of(uint32_t lane) { return &t.lanes[lane]; }

struct totals counts_total(void) {
  uint64_t operations = 0, allocated = 0, freed = 0;
  // Reads `freed` first: then a block that is passed on meanwhile counts as live, instead of making the difference
  // negative.
  for (uint32_t i = 0; i < MAX_LANES; i++) freed += atomic_load(&t.lanes[i].freed);
  for (uint32_t i = 0; i < MAX_LANES; i++) {
    allocated += atomic_load(&t.lanes[i].allocated);
    operations += atomic_load_explicit(&t.lanes[i].operations, memory_order_relaxed);
  }
  return (struct totals){operations, allocated - freed};
}

void peak_live_note(void) {
  const uint64_t live = counts_total().live;
  uint64_t known = atomic_load_explicit(&t.peak_live, memory_order_relaxed);
  while (live > known && !atomic_compare_exchange_weak(&t.peak_live, &known, live)) {
  }
}

uint64_t peak_live(void) { return atomic_load(&t.peak_live); }
uint64_t start_rss_kib(void) { return t.start_rss_kib; }

static void take_tally(struct tally *to) {
  struct rusage own, children;
  getrusage(RUSAGE_SELF, &own);
  getrusage(RUSAGE_CHILDREN, &children);
  to->minor = (uint64_t)(own.ru_minflt + children.ru_minflt);
  to->major = (uint64_t)(own.ru_majflt + children.ru_majflt);
  t.calls_known = tracer_read(to->calls);
  to->operations = counts_total().operations;
  for (uint32_t b = 0; b < LATENCY_BUCKETS; b++) {
    to->latency[b] = 0;
    for (uint32_t i = 0; i < MAX_LANES; i++) {
      to->latency[b] += atomic_load_explicit(&t.lanes[i].latency[b], memory_order_relaxed);
    }
  }
}

static uint64_t take_longest(void) {
  uint64_t longest = 0;
  for (uint32_t i = 0; i < MAX_LANES; i++) {
    const uint64_t ns = atomic_exchange_explicit(&t.lanes[i].longest_ns, 0, memory_order_relaxed);
    if (ns > longest) longest = ns;
  }
  return longest;
}

// ---- Rows ---------------------------------------------------------------------------------------

static void write_all(int fd, const char *text, size_t length, const char *what) {
  for (size_t done = 0; done < length;) {
    const ssize_t n = write(fd, text + done, length - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) soak_fail("%s: %s", what, strerror(errno));
    done += (size_t)n;
  }
}

static int open_output(const char *name) {
  if (strcmp(name, "-") == 0) return STDOUT_FILENO;
  const int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) soak_fail("%s: %s", name, strerror(errno));
  return fd;
}

// The end of the bucket with the sample at `share` of all, but at most the longest time.
static uint64_t percentile(double share, uint64_t longest) {
  uint64_t count = 0, below = 0;
  for (uint32_t b = 0; b < LATENCY_BUCKETS; b++) count += t.now.latency[b] - t.before.latency[b];
  const uint64_t rank = (uint64_t)(share * (double)count);
  for (uint32_t b = 0; b < LATENCY_BUCKETS; b++) {
    below += t.now.latency[b] - t.before.latency[b];
    if (below > rank) return latency_low(b + 1) - 1 < longest ? latency_low(b + 1) - 1 : longest;
  }
  return longest;
}

static void write_latency(void) {
  static char line[96];
  for (uint32_t b = 0; b < LATENCY_BUCKETS; b++) {
    const uint64_t count = t.now.latency[b] - t.before.latency[b];
    if (count == 0) continue;
    const int n = snprintf(line, sizeof line, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n", t.number,
                           latency_low(b), latency_low(b + 1), count);
    write_all(t.latency, line, (size_t)n, t.s->latency);
  }
}

static void write_row(uint64_t end, const char *phase) {
  static char row[1024];
  static const double kShares[] = {0.5, 0.99, 0.999};
  take_tally(&t.now);
  const struct process_memory m = process_memory_read();
  const uint64_t ops = t.now.operations - t.before.operations;
  const double seconds = (double)(end > t.begin ? end - t.begin : 1) / 1e9;
  const uint64_t longest = take_longest();
  peak_live_note();
  size_t n = (size_t)snprintf(row, sizeof row,
                              "%" PRIu64 ",%.6f,%" PRIu64 ",%.1f,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
                              ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64,
                              t.number, (double)(end - t.start) / 1e9, ops, (double)ops / seconds, counts_total().live,
                              m.rss_kib, m.private_dirty_kib, m.anon_huge_kib, m.mapped_kib, m.committed_kib, m.vmas,
                              t.now.minor - t.before.minor, t.now.major - t.before.major);
  for (int k = 0; k < CALL_KINDS; k++) {
    const int64_t calls = t.calls_known ? (int64_t)(t.now.calls[k] - t.before.calls[k]) : -1;
    n += (size_t)snprintf(row + n, sizeof row - n, ",%" PRId64, calls);
  }
  for (int i = 0; i < 3; i++) {
    n += (size_t)snprintf(row + n, sizeof row - n, ",%" PRIu64, percentile(kShares[i], longest));
  }
  n += (size_t)snprintf(row + n, sizeof row - n, ",%" PRIu64 ",%s\n", longest, phase);
  write_all(t.csv, row, n, t.s->csv);
  if (t.s->latency) write_latency();
  t.before = t.now;
  t.number++;
}

// ---- Epochs -------------------------------------------------------------------------------------

void timeline_init(const struct soak_settings *s) {
  t.s = s;
  t.csv = open_output(s->csv);
  write_all(t.csv, kHeader, sizeof kHeader - 1, s->csv);
  if (s->latency) {
    t.latency = open_output(s->latency);
    write_all(t.latency, kLatencyHeader, sizeof kLatencyHeader - 1, s->latency);
  }
  signal(SIGPIPE, SIG_IGN);  // a neighbour may have ended
  process_memory_init();
  memset(&t.before, 0, sizeof t.before);
  memset(&t.now, 0, sizeof t.now);
  t.start = s->start_ns ? s->start_ns : now_ns();
}

void timeline_start(void) {
  // Takes the page faults of this code, and the memory that printing a number needs, before anything is compared.
  char text[64];
  snprintf(text, sizeof text, "%.6f", 1.0);
  take_tally(&t.before);
  (void)process_memory_read();
  t.start_rss_kib = process_memory_read().rss_kib;
  if (!t.s->start_row) return;
  t.begin = now_ns();
  write_row(now_ns(), "start");
}

static void pass_turn(void) {
  if (t.s->turn_out < 0) return;
  while (write(t.s->turn_out, "t", 1) < 0 && errno == EINTR) {
  }
}

static void wait_turn(void) {
  static bool waited;
  if (t.s->turn_in < 0) return;
  const bool mine = t.s->turn_first && !waited;
  waited = true;
  char byte;
  ssize_t n = 1;
  while (!mine && (n = read(t.s->turn_in, &byte, 1)) < 0 && errno == EINTR) {
  }
  if (n < 0) soak_fail("--turns: %s", strerror(errno));
  if (n == 0) soak_fail("--turns: the worker before this one has ended");
}

void epoch_open(void) {
  t.begin = now_ns();
  t.deadline = t.begin + t.s->epoch_ns;
  t.first_ops = atomic_load_explicit(&t.lanes[0].operations, memory_order_relaxed);
}

bool epoch_begin_of(uint64_t least) {
  wait_turn();
  epoch_open();
  // Every epoch is complete; writing the rows made this one a little late.
  const bool late = t.begin + t.s->epoch_ns / 2 > t.start + t.s->duration_ns;
  if (t.number < least || (!late && (t.s->max_ops == 0 || t.before.operations < t.s->max_ops))) return true;
  pass_turn();
  return false;
}

bool epoch_begin(void) { return epoch_begin_of(0); }

uint64_t epoch_deadline(void) { return t.deadline; }

bool epoch_lasts(void) {
  if (t.s->epoch_ops == 0) return now_ns() < t.deadline;
  return atomic_load_explicit(&t.lanes[0].operations, memory_order_relaxed) - t.first_ops < t.s->epoch_ops;
}

void epoch_end(const char *phase) {
  write_row(now_ns(), phase);
  pass_turn();
}
