// SPDX-License-Identifier: Apache-2.0
//
// A program that hook_test.py starts with wrappers and the allocator preloaded: allocates in several threads and calls
// each function that may be wrapped. With the argument "cancel": in a thread whose cancellation is pending.
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void allocate(void) {
  static const size_t sizes[] = {1, 40, 600, 3000, 20000, 70000, 400000, 1500000, 3000000};
  enum { SIZES = sizeof sizes / sizeof sizes[0], EACH = 40 };
  void *blocks[SIZES * EACH];
  for (int turn = 0; turn < 3; turn++) {
    size_t count = 0;
    for (size_t i = 0; i < SIZES; i++) {
      for (size_t k = 0; k < EACH && k * sizes[i] < 6000000; k++) {
        blocks[count] = calloc(1, sizes[i]);
        if (blocks[count] == NULL) abort();
        memset(blocks[count++], 1, sizes[i] < 4096 ? sizes[i] : 4096);
      }
    }
    blocks[0] = realloc(blocks[0], 5000000);
    while (count > 0) free(blocks[--count]);
    malloc_trim(0);
  }
}

static void *run(void *unused) {
  allocate();
  return unused;
}

static void destroy(void *value) { free(value); }

// Calls each function that hook.c wraps at least once.
static void call_all(void) {
  struct timespec time = {.tv_sec = 0, .tv_nsec = 1000000};
  struct pollfd nothing = {.fd = -1, .events = 0};
  sigset_t mask;
  struct rlimit limit;
  char byte = 0;
  pthread_key_t key;
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const int file = open("/dev/null", O_RDWR);
  const int other = openat(AT_FDCWD, "/dev/null", O_RDONLY);
  void *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (file < 0 || other < 0 || map == MAP_FAILED || write(file, "x", 1) != 1 || read(other, &byte, 1) != 0) abort();
  close(file);
  close(other);
  mprotect(map, page, PROT_READ);
  madvise(map, page, MADV_DONTNEED);
  map = mremap(map, 2 * page, page, 0);
  munmap(map, page);
  if (getrandom(&byte, 1, 0) != 1) abort();
  clock_gettime(CLOCK_MONOTONIC, &time);
  time = (struct timespec){.tv_sec = 0, .tv_nsec = 1000000};
  nanosleep(&time, NULL);
  poll(&nothing, 1, 0);
  sigprocmask(SIG_SETMASK, NULL, &mask);
  pthread_sigmask(SIG_SETMASK, NULL, &mask);
  getrlimit(RLIMIT_AS, &limit);
  if (getenv("HOOK") == NULL || secure_getenv("HOOK") == NULL) abort();
  getauxval(AT_PAGESZ);
  prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
  syscall(SYS_gettid);
  pthread_key_create(&key, destroy);
  pthread_setspecific(key, malloc(100));
}

static void must(int right) {
  if (!right) abort();
}

// The same for hook_memory.c. Built with -fno-builtin, so that these are calls.
static void call_all_of_memory(void) {
  char text[32] = "a text of letters";
  char copy[32];
  must(memcpy(copy, text, sizeof text) == copy && memcmp(copy, text, sizeof text) == 0);
  must(bcmp(copy, text, sizeof text) == 0 && strcmp(copy, text) == 0 && strncmp(copy, text, 5) == 0);
  must(memmove(copy + 1, copy, 17) == copy + 1 && strncmp(copy, "aa text", 7) == 0);
  must(memset(copy, 'x', 3) == copy && memchr(copy, 'e', sizeof copy) == copy + 4);
  must(strlen(text) == 17 && strnlen(text, 3) == 3 && strcspn(text, "fx") == 4);
  must(strchr(text, 'f') == text + 8 && strstr(text, "of") == text + 7);
}

static void *run_cancelled(void *unused) {
  pthread_cancel(pthread_self());  // Pending until the next cancellation point.
  allocate();
  malloc_stats();
  FILE *out = fdopen(dup(STDOUT_FILENO), "w");
  setvbuf(out, NULL, _IONBF, 0);
  malloc_info(0, out);
  static char *volatile twice;
  if (getenv("MISUSE") != NULL) {
    twice = malloc(100);
    free(twice);
    free(twice);
  }
  pthread_testcancel();
  return unused;
}

static int cancelled(void) {
  pthread_t thread;
  void *result = NULL;
  pthread_create(&thread, NULL, run_cancelled, NULL);
  pthread_join(thread, &result);
  allocate();
  puts(result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "cancel") == 0) return cancelled();
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    if (pthread_create(&threads[i], &attributes, run, NULL) != 0) abort();
  }
  allocate();
  call_all();
  call_all_of_memory();
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  malloc_stats();
  const pid_t child = fork();
  if (child == 0) {
    allocate();
    _exit(0);
  }
  int status = 1;
  waitpid(child, &status, 0);
  int (*calls)(void);
  *(void **)(void *)&calls = dlsym(RTLD_DEFAULT, "hook_calls");
  if (status != 0 || calls == NULL || calls() == 0) {
    puts("no call came by");
    return 1;
  }
  puts("done");
  return 0;
}
