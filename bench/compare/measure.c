// SPDX-License-Identifier: Apache-2.0
//
// measure REPORT LIBRARY COMMAND...: runs COMMAND with LIBRARY preloaded ("-" for none) and writes "wall_ns user_us
// sys_us peak_kib faults" to REPORT. Exits with the command's status, 128 + signal when a signal ended it, 125 on an
// error of its own.
//
// A process's peak RSS begins at that of the process that forked it, so a small program started by a large one, such as
// a Python interpreter, would report the large one's peak. This program is small.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OWN_ERROR = 125, CANNOT_RUN = 127 };

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t microseconds(struct timeval t) { return (int64_t)t.tv_sec * 1000000 + t.tv_usec; }

int main(int argc, char **argv) {
  if (argc < 4) {
    fputs("usage: measure REPORT LIBRARY|- COMMAND...\n", stderr);
    return 2;
  }
  FILE *report = fopen(argv[1], "we");
  if (!report) {
    fprintf(stderr, "measure: %s: %s\n", argv[1], strerror(errno));
    return OWN_ERROR;
  }
  const int64_t begin = now_ns();
  const pid_t child = fork();
  if (child == 0) {
    if (strcmp(argv[2], "-") == 0) {
      unsetenv("LD_PRELOAD");
    } else if (setenv("LD_PRELOAD", argv[2], 1) != 0) {
      _exit(OWN_ERROR);
    }
    execvp(argv[3], argv + 3);
    fprintf(stderr, "measure: %s: %s\n", argv[3], strerror(errno));
    _exit(CANNOT_RUN);
  }
  int status = 0;
  struct rusage usage;
  if (child < 0 || wait4(child, &status, 0, &usage) != child) {
    fprintf(stderr, "measure: %s\n", strerror(errno));
    return OWN_ERROR;
  }
  const int64_t end = now_ns();
  fprintf(report, "%" PRId64 " %" PRId64 " %" PRId64 " %ld %ld\n", end - begin, microseconds(usage.ru_utime),
          microseconds(usage.ru_stime), usage.ru_maxrss, usage.ru_minflt + usage.ru_majflt);
  if (fclose(report) != 0) {
    fprintf(stderr, "measure: %s: %s\n", argv[1], strerror(errno));
    return OWN_ERROR;
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
