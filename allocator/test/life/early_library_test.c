// SPDX-License-Identifier: Apache-2.0
//
// Fork handlers that a library registers in its constructor before the first allocation, in a program with libhakmem.so
// preloaded, or one that contains the allocator. They run while other threads may still allocate, such as a thread that
// holds the library's lock. Settings from the environment are read that early too.
//
//   early_library_test LIBHAKMEM LIBRARY
//   early_program_test LIBRARY
#include <dlfcn.h>
#include <hakmem/hakmem.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 30000

static int to_worker[2];
static int from_worker[2];
static int prepared;
static int served;

static int use_heap(void) {
  void *small = malloc(100);
  void *large = malloc(300000);
  const int good = small != NULL && large != NULL;
  free(small);
  free(large);
  return good;
}

// Allocates once for each byte that it receives, in a way that takes the allocator's locks every time.
static void *worker(void *unused) {
  (void)unused;
  char byte;
  while (read(to_worker[0], &byte, 1) == 1) {
    if (!use_heap() || write(from_worker[1], &byte, 1) != 1) break;
  }
  return NULL;
}

// Imitates a handler that waits for a lock of the worker.
static void ask_worker(void) {
  prepared++;
  struct pollfd answer = {.fd = from_worker[0], .events = POLLIN};
  char byte = 0;
  if (write(to_worker[1], &byte, 1) != 1 || poll(&answer, 1, WAIT_MS) != 1) return;
  served += read(from_worker[0], &byte, 1) == 1;
}

static int in_child;
static void note_child(void) { in_child = use_heap(); }

static int set(const char *name, void (*handler)(void)) {
  void (**place)(void) = (void (**)(void))dlsym(RTLD_DEFAULT, name);
  if (place == NULL) return 0;
  *place = handler;
  return 1;
}

static int fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  return 1;
}

// hak_config_get of this program or of libhakmem.so; NULL: there is none.
static const char *(*config_get(void))(const char *name, const char **origin) {
#if HAK_TEST_ARCHIVE
  return hak_config_get;
#else
  const char *(*get)(const char *name, const char **origin);
  *(void **)&get = dlsym(RTLD_DEFAULT, "hak_config_get");
  return get;
#endif
}

static int preloaded(void) {
  const char *(*const get)(const char *name, const char **origin) = config_get();
  if (get == NULL) return fail("libhakmem.so is not there");
  const char *origin = NULL;
  const char *value = get("HAKMEM_IDLE_CACHE_MS", &origin);
  if (value == NULL || origin == NULL) return fail("hak_config_get");
  // FAST takes nothing from the environment.
  if (strcmp(origin, "fixed in this build") != 0 &&
      (strcmp(value, "1234") != 0 || strcmp(origin, "environment") != 0)) {
    fprintf(stderr, "%s from %s\n", value, origin);
    return fail("the environment was not read");
  }
  if (pipe(to_worker) != 0 || pipe(from_worker) != 0) return fail("pipe");
  pthread_t thread;
  if (pthread_create(&thread, NULL, worker, NULL) != 0) return fail("pthread_create");
  if (!set("early_prepare", ask_worker) || !set("early_child", note_child)) return fail("the library is not there");
  for (int forks = 1; forks <= 3; forks++) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);
      _exit(in_child && use_heap() ? 0 : 1);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return fail("the child");
    if (prepared != forks) return fail("the handler did not run");
    if (served != forks) return fail("a thread could not allocate while the handler ran");
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 1) return preloaded();
  if (argc != (HAK_TEST_ARCHIVE ? 2 : 3)) return 2;
  alarm(200);
  // With the purge thread, which starts as early, and without it.
  for (int background = 0; background < 2; background++) {
    const pid_t child = fork();
    if (child == 0) {
      char both[4096];
      char *first = realpath(argv[1], NULL);
      char *second = realpath(argv[argc - 1], NULL);
      if (first == NULL || second == NULL) _exit(2);
      snprintf(both, sizeof both, "%s:%s", first, second);
      setenv("LD_PRELOAD", both, 1);
      setenv("HAKMEM_IDLE_CACHE_MS", "1234", 1);
      setenv("HAKMEM_BACKGROUND", background ? "1" : "0", 1);
      execl("/proc/self/exe", argv[0], (char *)NULL);
      _exit(3);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
      fprintf(stderr, "background %d: status %#x\n", background, (unsigned)status);
      return 1;
    }
  }
  return 0;
}
