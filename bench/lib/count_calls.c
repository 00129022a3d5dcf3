// SPDX-License-Identifier: Apache-2.0
//
// count_calls REPORT LIBRARY COMMAND...: runs COMMAND with LIBRARY preloaded ("-" for none), counts the memory system
// calls of it and of all processes and threads that it starts, from its exec on, and writes one line "KIND COUNT" for
// each kind to REPORT. Ends when the last of these processes has ended, with the command's status, 128 + signal if a
// signal ended it, 125 on an error of its own. call_tracer.h says which calls count.
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/lib/call_tracer.h"

enum { OWN_ERROR = 125, CANNOT_RUN = 127 };

static const char *const kNames[CALL_KINDS] = {"mmap", "munmap", "madvise", "mprotect", "mremap", "brk"};

static _Noreturn void give_up(const char *what) {
  fprintf(stderr, "count_calls: %s: %s\n", what, strerror(errno));
  _exit(OWN_ERROR);
}

// The child's part: waits until the parent traces it, then becomes the command.
static _Noreturn void become(int go, const char *library, char **command) {
  char byte;
  if (read(go, &byte, 1) != 1) _exit(OWN_ERROR);
  close(go);
  if (strcmp(library, "-") == 0) {
    unsetenv("LD_PRELOAD");
  } else if (setenv("LD_PRELOAD", library, 1) != 0) {
    give_up("LD_PRELOAD");
  }
  if (!call_filter_install()) give_up("seccomp filter");
  execvp(command[0], command);
  fprintf(stderr, "count_calls: %s: %s\n", command[0], strerror(errno));
  _exit(CANNOT_RUN);
}

// Follows the traced processes until none is left; returns the wait status of the first one.
static int trace(pid_t first, uint64_t *counts) {
  int result = 0;
  for (;;) {
    int status;
    const pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0) {
      if (errno == EINTR) continue;
      if (errno == ECHILD) return result;
      give_up("waitpid");
    }
    if (WIFSTOPPED(status)) {
      const int kind = call_tracer_kind(thread, status);
      if (kind < CALL_KINDS) counts[kind]++;
      if (!call_tracer_resume(thread, status)) give_up("ptrace");
    } else if (thread == first) {
      result = status;
    }
  }
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fputs("usage: count_calls REPORT LIBRARY|- COMMAND...\n", stderr);
    return 2;
  }
  FILE *report = fopen(argv[1], "we");
  if (!report) give_up(argv[1]);
  int go[2];
  if (pipe(go) != 0) give_up("pipe");
  const pid_t child = fork();
  if (child < 0) give_up("fork");
  if (child == 0) {
    close(go[1]);
    become(go[0], argv[2], argv + 3);
  }
  close(go[0]);
  if (!call_tracer_seize(child)) give_up("ptrace");  // the child sees the pipe's end
  if (write(go[1], "", 1) != 1) give_up("pipe");
  close(go[1]);

  uint64_t counts[CALL_KINDS] = {0};
  const int status = trace(child, counts);
  for (int k = 0; k < CALL_KINDS; k++) fprintf(report, "%s %" PRIu64 "\n", kNames[k], counts[k]);
  if (fclose(report) != 0) give_up(argv[1]);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
