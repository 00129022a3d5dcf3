// SPDX-License-Identifier: Apache-2.0
//
// usage: triggers_child exit | quick | fork | own | pause N | busy | grow STEP... | last N
//
// A program without a word of hakmem, for triggers_test.py. Each holds 1,000 blocks of 1,000 bytes; then
//   exit    it ends
//   quick   it ends by _exit
//   fork    its child holds 10 blocks of 5,000 bytes more, and both end
//   own     it has a handler of SIGUSR2 of its own, sends itself that signal, and ends
//   pause   it waits for N signals and makes no other call
//   busy    4 threads allocate and free, and get all signals, until standard input ends
//   grow    does the steps: N: holds N MiB more, in blocks of 1 MiB; -N: frees as much, the latest first; fork: the
//   rest
//           is done by a child
//   last    N times, it sleeps for more than a second, allocates two blocks and frees them
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HELD 1000
#define HELD_BY_CHILD 10
#define THREADS 4
#define GROWN_MAX 1000

static void *held[HELD + HELD_BY_CHILD];

// The profiles show their names.
__attribute__((noinline)) static void holds_blocks(void) {
  for (int i = 0; i < HELD; i++) held[i] = malloc(1000);
}
__attribute__((noinline)) static void child_holds_blocks(void) {
  for (int i = 0; i < HELD_BY_CHILD; i++) held[HELD + i] = malloc(5000);
}

static void *grown[GROWN_MAX];
static int grown_count;

__attribute__((noinline)) static void grows(int count) {
  for (; count > 0 && grown_count < GROWN_MAX; count--) grown[grown_count++] = malloc((size_t)1 << 20);
}

// Returns the exit status.
static int run_grow(char **step) {
  for (; *step != NULL; step++) {
    const int count = atoi(*step);
    if (strcmp(*step, "fork") == 0) {
      const pid_t child = fork();
      int status = 0;
      if (child < 0 || (child > 0 && waitpid(child, &status, 0) != child)) return 4;
      if (child > 0) return status == 0 ? 0 : 5;
    } else {
      grows(count);
      for (int left = count; left < 0 && grown_count > 0; left++) free(grown[--grown_count]);
    }
  }
  return 0;
}

static void run_last(int times) {
  for (; times > 0; times--) {
    const struct timespec more_than_a_second = {.tv_sec = 1, .tv_nsec = 50000000};
    if (nanosleep(&more_than_a_second, NULL) != 0) abort();
    for (int i = 0; i < 2; i++) free(held[HELD] = malloc(100));
  }
}

// Without stdio, which allocates.
static void say(const char *text) {
  if (write(STDOUT_FILENO, text, strlen(text)) < 0) abort();
}

static void own_handler(int signal) {
  (void)signal;
  say("own\n");
}

static atomic_bool stop;

static void *work(void *argument) {
  void *blocks[64] = {NULL};
  // Relaxed: nothing else is read by it.
  for (size_t i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
    void **block = &blocks[i * 7 % 64];
    free(*block);
    *block = malloc(16 + i * 37 % 3000);
  }
  for (size_t i = 0; i < 64; i++) free(blocks[i]);
  return argument;
}

static void run_busy(void) {
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    if (pthread_create(&threads[i], NULL, work, NULL) != 0) abort();
  }
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  say("ready\n");
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) continue;
  // Relaxed: see above.
  atomic_store_explicit(&stop, 1, memory_order_relaxed);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  holds_blocks();
  if (strcmp(argv[1], "quick") == 0) _exit(0);
  if (strcmp(argv[1], "fork") == 0) {
    const pid_t child = fork();
    if (child < 0) return 3;
    int status = 0;
    if (child == 0) {
      child_holds_blocks();
    } else if (waitpid(child, &status, 0) != child || status != 0) {
      return 4;
    }
  } else if (strcmp(argv[1], "own") == 0) {
    const struct sigaction action = {.sa_handler = own_handler};
    if (sigaction(SIGUSR2, &action, NULL) != 0 || raise(SIGUSR2) != 0) return 5;
  } else if (strcmp(argv[1], "pause") == 0 && argc == 3) {
    // Blocked except while it waits, so that none comes before.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    say("ready\n");
    for (int left = atoi(argv[2]); left > 0; left--) {
      sigsuspend(&before);
      say("woken\n");
    }
  } else if (strcmp(argv[1], "busy") == 0) {
    run_busy();
  } else if (strcmp(argv[1], "grow") == 0) {
    return run_grow(argv + 2);
  } else if (strcmp(argv[1], "last") == 0 && argc == 3) {
    run_last(atoi(argv[2]));
  } else if (strcmp(argv[1], "exit") != 0) {
    return 2;
  }
  return 0;
}
