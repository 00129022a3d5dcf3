// SPDX-License-Identifier: Apache-2.0
//
// Driver of the benchmark workloads: parses the command line, runs one workload on the process's malloc, and prints
// throughput, memory and the allocator it found. bench/README.md explains the output.
#include <inttypes.h>
#include <stdio.h>

#include "bench/workloads/workload.h"

int main(int argc, char **argv) {
  // stdio would take its buffer from the allocator under test.
  static char out_buffer[4096];
  setvbuf(stdout, out_buffer, _IOFBF, sizeof out_buffer);

  struct settings s;
  settings_parse(&s, argc, argv);

  uint64_t start_kib = resident_kib("VmRSS");
  struct result r = s.loop->run(&s);
  uint64_t end_kib = resident_kib("VmRSS");
  uint64_t peak_kib = resident_kib("VmHWM");

  // Only now, because looking up symbols allocates.
  allocator_print();
  settings_print(&s);
  printf("Compiler = %s\n",
#if defined(__clang__)
         "clang " __clang_version__
#else
         "gcc " __VERSION__
#endif
  );
  printf("Operations = %" PRIu64 " (total of %" PRIu32 " thread%s)\n", r.operations, s.threads,
         s.threads == 1 ? "" : "s");
  printf("Time = %.6f s\n", (double)r.nanoseconds / 1e9);
  double seconds = (double)(r.nanoseconds ? r.nanoseconds : 1) / 1e9;
  printf("Throughput = %.0f ops/s\n", (double)r.operations / seconds);
  printf("Start RSS = %" PRIu64 " KiB\n", start_kib);
  printf("Peak RSS = %" PRIu64 " KiB\n", peak_kib);
  printf("End RSS = %" PRIu64 " KiB\n", end_kib);
  if (fflush(stdout) != 0 || ferror(stdout)) {
    perror("random_mixed: stdout");
    return 1;
  }
  return 0;
}
