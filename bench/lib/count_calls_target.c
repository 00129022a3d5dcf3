// SPDX-License-Identifier: Apache-2.0
//
// The program that count_calls_test counts: `count_calls_target MODE N` makes N of each counted system call, in the way
// that MODE says. The C library's own calls are the same for every N.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 3, CHILDREN = 2, BYTES = 65536 };

static int rounds;
static volatile sig_atomic_t signals;

static void need(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "count_calls_target: %s: %s\n", what, strerror(errno));
  _exit(1);
}

static void calls(void) {
  for (int i = 0; i < rounds; i++) {
    char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(p != MAP_FAILED, "mmap");
    need(madvise(p, BYTES, MADV_DONTNEED) == 0, "madvise");
    need(mprotect(p, BYTES, PROT_READ) == 0, "mprotect");
    p = mremap(p, BYTES, 2 * (size_t)BYTES, MREMAP_MAYMOVE);
    need(p != MAP_FAILED, "mremap");
    need(munmap(p, 2 * (size_t)BYTES) == 0, "munmap");
    need(syscall(SYS_brk, NULL) > 0, "brk");
    (void)syscall(SYS_getppid);  // a call that does not count
  }
}

static void *thread_main(void *unused) {
  (void)unused;
  calls();
  return NULL;
}

static void threads(void) {
  pthread_t all[THREADS];
  for (int i = 0; i < THREADS; i++) need(pthread_create(&all[i], NULL, thread_main, NULL) == 0, "pthread_create");
  for (int i = 0; i < THREADS; i++) need(pthread_join(all[i], NULL) == 0, "pthread_join");
}

// Forked children make the calls, then execute this program, which makes them once more.
static void forks(char *program, char *count) {
  for (int i = 0; i < CHILDREN; i++) {
    const pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
      calls();
      char *const again[] = {program, (char[]){"calls"}, count, NULL};
      execv(program, again);
      _exit(1);
    }
    int status;
    need(waitpid(child, &status, 0) == child && status == 0, "child");
  }
}

static void on_signal(int signal) {
  (void)signal;
  signals = signals + 1;
}

// Each signal must arrive once, and a stopped child must be stopped for its parent too, until it gets SIGCONT.
static void signals_and_stops(void) {
  const struct sigaction action = {.sa_handler = on_signal};
  need(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
  for (int i = 0; i < 10; i++) raise(SIGUSR1);
  need(signals == 10, "ten signals");
  const pid_t child = fork();
  need(child >= 0, "fork");
  if (child == 0) {
    raise(SIGSTOP);
    calls();
    _exit(7);
  }
  int status;
  need(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "stop");
  usleep(50000);
  need(waitpid(child, &status, WNOHANG) == 0, "still stopped");
  need(kill(child, SIGCONT) == 0, "SIGCONT");
  need(waitpid(child, &status, WCONTINUED) == child, "goes on");
  if (WIFCONTINUED(status)) need(waitpid(child, &status, 0) == child, "end");
  need(WIFEXITED(status) && WEXITSTATUS(status) == 7, "status of the stopped child");
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const char *mode = argv[1];
  rounds = atoi(argv[2]);
  if (strcmp(mode, "calls") == 0) {
    calls();
  } else if (strcmp(mode, "threads") == 0) {
    threads();
  } else if (strcmp(mode, "forks") == 0) {
    forks(argv[0], argv[2]);
  } else if (strcmp(mode, "signals") == 0) {
    signals_and_stops();
  } else if (strcmp(mode, "status") == 0) {
    return rounds;
  } else if (strcmp(mode, "kill") == 0) {
    raise(rounds);
  } else if (strcmp(mode, "preload") == 0) {
    puts(getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "none");
  } else {
    return 2;
  }
  return 0;
}
