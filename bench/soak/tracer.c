// SPDX-License-Identifier: Apache-2.0
//
// Counts the memory system calls of the worker, its threads and its children by kind. The process that the user started
// traces them, and counts in a page that both share. The worker is a newly executed program, not a fork of a process in
// which the allocator has already started.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/soak/soak.h"

static const char kVariable[] = "HAKMEM_BENCH_SOAK_COUNTS";  // the file descriptor of the shared page

static _Atomic(uint64_t) *shared;  // NULL: nothing is counted

static void say(const char *what) {
  fprintf(stderr, "soak_worker: system calls are not counted: %s: %s\n", what, strerror(errno));
}

static void *map_page(int fd) {
  void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return page == MAP_FAILED ? NULL : page;
}

// The child waits until it is traced, and becomes the worker. If it ends before that, the parent knows that it failed.
static _Noreturn void become_worker(int go, int fd, char **argv) {
  char byte, number[16], path[4096];
  if (read(go, &byte, 1) != 1) _exit(1);
  close(go);
  snprintf(number, sizeof number, "%d", fd);
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length < 0 || setenv(kVariable, number, 1) != 0) _exit(1);
  path[length] = '\0';
  if (!call_filter_install()) {
    say("seccomp");
    unsetenv(kVariable);
    setenv(kVariable, "none", 1);
  }
  execv(path, argv);
  fprintf(stderr, "soak_worker: %s: %s\n", path, strerror(errno));
  _exit(1);
}

// Follows the worker to its end. Processes that it started end with this process (PTRACE_O_EXITKILL).
static _Noreturn void follow(pid_t worker) {
  for (;;) {
    int status;
    const pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0) {
      if (errno == EINTR) continue;
      fprintf(stderr, "soak_worker: waitpid: %s\n", strerror(errno));
      _exit(1);
    }
    if (WIFSTOPPED(status)) {
      const int kind = call_tracer_kind(thread, status);
      // Relaxed: a count. The kernel's stop orders it before the thread continues.
      if (kind < CALL_KINDS) atomic_fetch_add_explicit(&shared[kind], 1, memory_order_relaxed);
      if (!call_tracer_resume(thread, status)) {
        fprintf(stderr, "soak_worker: ptrace: %s\n", strerror(errno));
        _exit(1);
      }
    } else if (thread == worker) {
      if (!WIFSIGNALED(status)) _exit(WEXITSTATUS(status));
      fprintf(stderr, "soak_worker: ended by signal %d\n", WTERMSIG(status));
      _exit(128 + WTERMSIG(status));
    }
  }
}

static void attach(const char *fd) {
  char *end;
  const long number = strtol(fd, &end, 10);
  if (*fd == '\0' || *end != '\0') return;  // "none"
  shared = map_page((int)number);
  if (!shared) say("mmap");
  close((int)number);
}

void tracer_start(char **argv) {
  const char *started = getenv(kVariable);
  if (started) {
    attach(started);
    return;
  }
  const int fd = memfd_create("soak_counts", 0);
  if (fd < 0 || ftruncate(fd, PAGE) != 0 || !(shared = map_page(fd))) {
    say("shared memory");
    return;
  }
  int go[2];
  const pid_t child = pipe(go) == 0 ? fork() : -1;
  if (child < 0) {
    shared = NULL;
    say("fork");
    return;
  }
  if (child == 0) {
    close(go[1]);
    become_worker(go[0], fd, argv);
  }
  close(go[0]);
  if (!call_tracer_seize(child)) {
    say("ptrace");
    close(go[1]);  // ends the child
    close(fd);
    munmap(shared, PAGE);
    shared = NULL;
    waitpid(child, NULL, 0);
    return;
  }
  close(fd);
  if (write(go[1], "", 1) != 1) soak_fail("pipe: %s", strerror(errno));
  close(go[1]);
  follow(child);
}

bool tracer_read(uint64_t calls[CALL_KINDS]) {
  for (int k = 0; k < CALL_KINDS; k++) {
    calls[k] = shared ? atomic_load_explicit(&shared[k], memory_order_relaxed) : 0;
  }
  return shared != NULL;
}
