// SPDX-License-Identifier: Apache-2.0
//
// Runs one workload on the process's malloc for a given time, in epochs, and writes one row of CSV for each. README.md
// explains the workloads and the columns.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/soak/soak.h"

// The kernel's high-water mark of resident memory. It counts in batches, so it is uncertain by about 100 KiB.
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
  const uint64_t peak = peak_rss_kib();  // the code below allocates
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
