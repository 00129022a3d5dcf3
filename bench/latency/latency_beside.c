// SPDX-License-Identifier: Apache-2.0
//
// What another thread does while calls are measured.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/latency/latency.h"

enum { PIECE = 64 << 10, PAGE = 4096, LEFT = 200 };

const char *const kBeside[BESIDES] = {"none", "trim", "fork", "free", "threads"};

static enum beside kind;
static _Atomic(uint64_t) times;
static atomic_bool stop;
static pthread_t other;
static uint64_t free_bytes;
static void **pieces;
static void *trim_function;
static int trim_form;

// ---- trim: each allocator's own call ------------------------------------------------------------

// POSIX gives pointers to objects and to functions one representation, but ISO C has no cast between them.
#define AS_FUNCTION(type)       \
  (((union {                    \
     void *object;              \
     __typeof__(type) function; \
   }){.object = trim_function}) \
       .function)

static const char *const kTrim[] = {"malloc_trim", "mi_collect", "mallctl", "MallocExtension_ReleaseFreeMemory"};

static const void *object_of(const char *name, void **symbol) {
  *symbol = dlsym(RTLD_DEFAULT, name);
  Dl_info info;
  return *symbol && dladdr(*symbol, &info) != 0 ? info.dli_fbase : NULL;
}

// The call must be of the object that malloc comes from: glibc's malloc_trim is in every process.
static bool find_trim(void) {
  void *symbol;
  const void *allocator = object_of("malloc", &symbol);
  for (trim_form = 0; trim_form < 4; trim_form++) {
    if (object_of(kTrim[trim_form], &symbol) == allocator) {
      trim_function = symbol;
      return true;
    }
  }
  return false;
}

static void trim(void) {
  switch (trim_form) {
    case 0:
      AS_FUNCTION(int (*)(size_t))(0);
      break;
    case 1:
      AS_FUNCTION(void (*)(bool))(true);
      break;
    case 2:  // 4096 stands for all arenas
      AS_FUNCTION(int (*)(const char *, void *, size_t *, void *, size_t))("arena.4096.purge", NULL, NULL, NULL, 0);
      break;
    default:
      AS_FUNCTION(void (*)(void))();
  }
}

// ---- The others ---------------------------------------------------------------------------------

static void fail(const char *what) {
  fprintf(stderr, "latency_worker: %s: %s\n", what, strerror(errno));
  _exit(1);
}

static void fork_once(void) {
  const pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) _exit(0);
  int status;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail("waitpid");
  }
  if (status != 0) {
    fprintf(stderr, "latency_worker: a child ended with wait status %d\n", status);
    _exit(1);
  }
}

static void *touched(size_t size) {
  unsigned char *p = malloc(size);
  if (!p) out_of_memory(size);
  for (size_t at = 0; at < size; at += PAGE) p[at] = 0x5A;
  return p;
}

// Half of it as one block, half in pieces.
static void free_much(void) {
  const size_t half = free_bytes / 2, count = half / PIECE;
  void *whole = touched(half);
  for (size_t i = 0; i < count; i++) pieces[i] = touched(PIECE);
  for (size_t i = 0; i < count; i++) free(pieces[i]);
  free(whole);
}

// A thread that frees half of its blocks and leaves the others.
static void *short_main(void *arg) {
  void **left = arg;
  for (int i = 0; i < LEFT; i++) {
    const size_t size = 16 + (size_t)i * 37 % 1000;
    left[i] = touched(size);
    free(touched(size));
  }
  return NULL;
}

static void thread_once(void) {
  void *left[LEFT];
  pthread_t thread;
  errno = pthread_create(&thread, NULL, short_main, left);
  if (errno != 0) fail("cannot start a thread");
  pthread_join(thread, NULL);
  for (int i = 0; i < LEFT; i++) free(left[i]);
}

static void *other_main(void *unused) {
  (void)unused;
  static void (*const work[BESIDES])(void) = {NULL, trim, fork_once, free_much, thread_once};
  static const long pause_us[BESIDES] = {0, 10000, 20000, 10000, 1000};
  while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
    work[kind]();
    atomic_fetch_add_explicit(&times, 1, memory_order_relaxed);
    nanosleep(&(struct timespec){0, pause_us[kind] * 1000}, NULL);
  }
  return NULL;
}

bool beside_start(enum beside what, uint64_t bytes) {
  kind = what;
  free_bytes = bytes;
  if (kind == BESIDE_NONE) return true;
  if (kind == BESIDE_TRIM && !find_trim()) return false;
  if (kind == BESIDE_FREE) pieces = scratch_map(bytes / 2 / PIECE * sizeof *pieces);
  errno = pthread_create(&other, NULL, other_main, NULL);
  if (errno != 0) fail("cannot start a thread");
  return true;
}

uint64_t beside_times(void) { return kind == BESIDE_NONE ? 1 : atomic_load_explicit(&times, memory_order_relaxed); }

void beside_stop(void) {
  if (kind == BESIDE_NONE) return;
  atomic_store_explicit(&stop, true, memory_order_relaxed);
  pthread_join(other, NULL);
}
