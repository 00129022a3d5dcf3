// SPDX-License-Identifier: Apache-2.0
//
// Runs one workload on the process's malloc for a given time, in epochs, and writes one row of CSV for each. README.md
// in this folder says what the workloads and the columns are.
#include <errno.h>
#include <inttypes.h>
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
  // Straight to the file descriptor: stdio may be in use, and would take memory.
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

// The kernel's high-water mark of resident memory. It counts in batches: uncertain by some 100 KiB.
static uint64_t peak_rss_kib(void) {
  static const char kField[] = "\nVmHWM:";
  char text[4096] = "";
  FILE *status = fopen("/proc/self/status", "re");
  if (status) {
    text[fread(text, 1, sizeof text - 1, status)] = '\0';
    fclose(status);
  }
  const char *at = strstr(text, kField);
  return at ? strtoull(at + sizeof kField - 1, NULL, 10) : 0;
}

int main(int argc, char **argv) {
  // stdio would take its buffer from the allocator under test.
  static char out_buffer[4096];
  setvbuf(stdout, out_buffer, _IOFBF, sizeof out_buffer);

  struct soak_settings s;
  options_parse(&s, argc, argv);
  if (s.trace) tracer_start(argv);
  counts_init();
  latency_init();
  timeline_init(&s);
  s.run(&s);

  if (strcmp(s.csv, "-") == 0) return 0;
  const uint64_t peak = peak_rss_kib();  // what follows allocates
  uint64_t calls[CALL_KINDS];
  allocator_print();
  printf("Workload = %s ws=%" PRIu32 " seed=%" PRIu64 "\n", s.workload, s.ws, s.seed);
  printf("Operations = %" PRIu64 "\n", counts_total().operations);
  printf("Start RSS = %" PRIu64 " KiB\n", start_rss_kib());
  printf("Harness = %" PRIu64 " KiB\n", harness_bytes() / 1024);
  printf("Peak RSS = %" PRIu64 " KiB\n", peak);
  printf("Peak live = %" PRIu64 " bytes\n", peak_live());
  printf("System calls = %s\n", tracer_read(calls) ? "counted" : "not counted");
  if (fflush(stdout) != 0 || ferror(stdout)) soak_fail("stdout: %s", strerror(errno));
  return 0;
}
