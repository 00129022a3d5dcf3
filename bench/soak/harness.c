// SPDX-License-Identifier: Apache-2.0
//
// What all parts of soak_worker may call: the clock, failures, memory of the harness.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench/soak/soak.h"

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void sleep_until(uint64_t ns) {
  const struct timespec until = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {
  }
}

_Noreturn void soak_fail(const char *format, ...) {
  // Writes to the file descriptor: stdio may be in use, and would allocate memory.
  char line[512];
  va_list args;
  va_start(args, format);
  int n = snprintf(line, sizeof line, "soak_worker: ");
  n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
  va_end(args);
  size_t length = (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
  line[length++] = '\n';
  if (write(STDERR_FILENO, line, length) < 0) _exit(1);
  _exit(1);
}

_Noreturn void out_of_memory(size_t size) { soak_fail("the allocator returned NULL for %zu bytes", size); }

void *scratch_map(size_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) soak_fail("mmap of %zu bytes: %s", bytes, strerror(errno));
  return p;
}
