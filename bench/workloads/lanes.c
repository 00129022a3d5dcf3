// SPDX-License-Identifier: Apache-2.0
//
// The helpers around the workloads' loops: threads with a common start, clock, scratch memory, resident memory.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench/lib/noop.h"
#include "bench/workloads/workload.h"

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void *scratch_map(size_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    fprintf(stderr, "random_mixed: no memory for the harness: mmap of %zu bytes: %s\n", bytes, strerror(errno));
    exit(1);
  }
  return p;
}

_Noreturn void out_of_memory(size_t size) {
  // Writes to the file descriptor: memory has just run out, and another thread may hold a lock of stdio.
  char line[96];
  int n = snprintf(line, sizeof line, "random_mixed: the allocator returned NULL for %zu bytes\n", size);
  if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) _exit(1);
  _exit(1);
}

_Noreturn void wrong_block(const char *what, size_t size) {
  char line[128];
  int n = snprintf(line, sizeof line, "random_mixed: the allocator is wrong: a block %s (%zu bytes)\n", what, size);
  if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) _exit(1);
  _exit(1);
}

uint64_t resident_kib(const char *field) {
  char text[8192];
  int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  if (n <= 0) return 0;
  text[n] = '\0';
  const char *at = strstr(text, field);
  return at ? strtoull(at + strlen(field) + 1, NULL, 10) : 0;
}

#pragma weak hakmem_bench_noop_enter
#pragma weak hakmem_bench_noop_leave

void floor_enter(void) {
  if (hakmem_bench_noop_enter) hakmem_bench_noop_enter();
}

void floor_leave(void) {
  if (hakmem_bench_noop_leave) hakmem_bench_noop_leave();
}

void lane_start(struct lane *lane) {
  if (lane->start) pthread_barrier_wait(lane->start);
  lane->span.begin = now_ns();
}

void lane_end(struct lane *lane, uint64_t operations) {
  lane->span.end = now_ns();
  lane->span.operations = operations;
}

struct starter {
  struct lane lane;
  void (*body)(struct lane *);
};

static void *starter_main(void *arg) {
  struct starter *s = arg;
  s->body(&s->lane);
  return NULL;
}

struct result lanes_run(const struct settings *s, void *group, void (*body)(struct lane *)) {
  size_t bytes = s->threads * sizeof(struct starter);
  struct starter *starters = scratch_map(bytes);
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, s->threads);
  for (uint32_t i = 0; i < s->threads; i++) {
    starters[i].lane =
        (struct lane){.settings = s, .group = group, .index = i, .start = s->threads > 1 ? &start : NULL};
    starters[i].body = body;
    if (s->threads == 1) {
      body(&starters[0].lane);
      break;
    }
    int error = pthread_create(&starters[i].lane.thread, NULL, starter_main, &starters[i]);
    if (error != 0) {
      fprintf(stderr, "random_mixed: cannot start thread %" PRIu32 " of %" PRIu32 ": %s\n", i + 1, s->threads,
              strerror(error));
      exit(1);
    }
  }
  struct result r = {0, 0};
  uint64_t begin = UINT64_MAX, end = 0;
  for (uint32_t i = 0; i < s->threads; i++) {
    if (s->threads > 1) pthread_join(starters[i].lane.thread, NULL);
    const struct span *span = &starters[i].lane.span;
    if (span->begin < begin) begin = span->begin;
    if (span->end > end) end = span->end;
    r.operations += span->operations;
  }
  r.nanoseconds = end - begin;
  pthread_barrier_destroy(&start);
  munmap(starters, bytes);
  return r;
}
