// SPDX-License-Identifier: Apache-2.0
//
// The C library's allocation functions, in a C program without a test library, for C libraries that have none; linked
// in every way.
#include <errno.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int failures;

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      fprintf(stderr, "FAILED %s:%d: %s\n", __FILE__, __LINE__, #condition); \
      failures++;                                                            \
    }                                                                        \
  } while (0)

// Sizes that the compiler does not know, so that it neither removes a call nor warns.
static volatile size_t huge = SIZE_MAX;
static volatile size_t none = 0;
static volatile size_t odd = 48;

static unsigned char pattern(size_t id, size_t offset) { return (unsigned char)(id * 131 + offset * 7 + 1); }

static void fill(unsigned char *block, size_t id, size_t size) {
  for (size_t i = 0; i < size; i++) block[i] = pattern(id, i);
}

static bool holds(const unsigned char *block, size_t id, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (block[i] != pattern(id, i)) return false;
  }
  return true;
}

static hak_stats stats(void) {
  hak_stats now = {.version = HAK_STATS_VERSION};
  CHECK(hak_stats_get(&now) == 0);
  return now;
}

// The C library's own functions allocate here too.
static void test_in_use(void) {
  const uint64_t before = stats().live_blocks;
  char *volatile copy = strdup("text");
  char *line = NULL;
  size_t room = 0;
  FILE *file = tmpfile();
  CHECK(file != NULL && fputs("a line\n", file) >= 0);
  rewind(file);
  CHECK(getline(&line, &room, file) == 7);
  CHECK(stats().live_blocks >= before + 2);
  CHECK(hak_usable_size(copy) >= 5 && malloc_usable_size(line) >= 7);
  fclose(file);
  free(line);
  free(copy);
}

static void test_sizes(void) {
  enum { COUNT = 400 };
  static unsigned char *blocks[COUNT];
  static size_t sizes[COUNT];
  size_t size = 1;
  for (size_t i = 0; i < COUNT; i++, size = size * 21 / 20 + 1) {
    if (size > ((size_t)4 << 20)) size = i;
    sizes[i] = size;
    blocks[i] = malloc(size);
    CHECK(blocks[i] != NULL && (uintptr_t)blocks[i] % 16 == 0 && malloc_usable_size(blocks[i]) >= size);
    fill(blocks[i], i, size);
  }
  for (size_t i = 0; i < COUNT; i++) {
    CHECK(holds(blocks[i], i, sizes[i]));
    const size_t other = sizes[COUNT - 1 - i];
    unsigned char *moved = realloc(blocks[i], other);
    CHECK(moved != NULL && holds(moved, i, other < sizes[i] ? other : sizes[i]));
    blocks[i] = moved;
  }
  for (size_t i = 0; i < COUNT; i++) free(blocks[i]);
  // In memory that was used before.
  for (size_t i = 0; i < COUNT; i++) {
    unsigned char *zero = calloc(sizes[i], 1);
    CHECK(zero != NULL);
    for (size_t at = 0; at < sizes[i]; at++) CHECK(zero[at] == 0);
    free(zero);
  }
  CHECK(hak_heap_verify());
}

static void test_alignment(void) {
  for (size_t align = sizeof(void *); align <= (size_t)1 << 21; align *= 2) {
    void *block = NULL;
    CHECK(posix_memalign(&block, align, 100) == 0 && (uintptr_t)block % align == 0);
    free(block);
    block = aligned_alloc(align, 3 * align);
    CHECK(block != NULL && (uintptr_t)block % align == 0);
    free(block);
    block = memalign(align, 1);
    CHECK(block != NULL && (uintptr_t)block % align == 0);
    free(block);
  }
}

static void test_errors(void) {
  errno = 0;
  CHECK(malloc(huge) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(calloc(huge / 2, 4) == NULL && errno == ENOMEM);
  // The compiler assumes too much about a block after a failed realloc.
  unsigned char *volatile block = malloc(100);
  fill(block, 1, 100);
  errno = 0;
  CHECK(realloc(block, huge) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(reallocarray(block, huge / 2, 4) == NULL && errno == ENOMEM);
  CHECK(holds(block, 1, 100));
  void *untouched = block;
  errno = 7;
  CHECK(posix_memalign(&untouched, 3, 100) == EINVAL && untouched == block && errno == 7);
  CHECK(posix_memalign(&untouched, 64, huge) == ENOMEM && untouched == block && errno == 7);
  free(block);
  free(NULL);
  CHECK(errno == 7);
  errno = 0;
  CHECK(aligned_alloc(odd, 96) == NULL && errno == EINVAL);
  void *empty = malloc(none);
  void *other = malloc(none);
  CHECK(empty != NULL && other != NULL && empty != other);
  free(other);
  CHECK(realloc(empty, none) == NULL);
}

// ---- Threads -------------------------------------------------------------------------------------

enum { THREADS = 4, SLOTS = 64, ROUNDS = 20000 };
static _Atomic(unsigned char *) slots[SLOTS];
static pthread_key_t key;

// While a thread ends.
static void late(void *value) {
  free(value);
  free(malloc(1000));
}

// Exchanges blocks with the others: any thread frees the block of a slot.
static void *exchange(void *argument) {
  uint64_t random = (uintptr_t)argument * UINT64_C(0x9E3779B97F4A7C15) + 1;
  void *of_thread = calloc(1, 64);
  CHECK(of_thread != NULL && pthread_setspecific(key, of_thread) == 0);
  for (size_t round = 0; round < ROUNDS; round++) {
    random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    const size_t size = (random >> 33) % (round % 500 == 0 ? 300000 : 2000) + sizeof(size_t) + 1;
    unsigned char *block = malloc(size);
    if (block == NULL) {
      CHECK(block != NULL);
      break;
    }
    memcpy(block, &size, sizeof size);
    block[size - 1] = (unsigned char)size;
    // Acquire and release: the thread that takes the block sees what was written into it.
    block = atomic_exchange_explicit(&slots[random >> 58], block, memory_order_acq_rel);
    if (block == NULL) continue;
    size_t told;
    memcpy(&told, block, sizeof told);
    CHECK(block[told - 1] == (unsigned char)told);
    free(block);
  }
  return NULL;
}

static void test_threads(void) {
  CHECK(pthread_key_create(&key, late) == 0);
  for (int generation = 0; generation < 3; generation++) {
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
      CHECK(pthread_create(&threads[i], NULL, exchange, (void *)(i + 1)) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  }
  for (size_t i = 0; i < SLOTS; i++) free(slots[i]);
  CHECK(hak_heap_verify());
}

static atomic_bool stop;

static void *churn(void *argument) {
  while (!stop) free(malloc(500));
  return argument;
}

static void test_fork(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, churn, NULL) == 0);
  for (int i = 0; i < 20; i++) {
    const pid_t child = fork();
    if (child == 0) {
      for (size_t size = 1; size < 100000; size *= 3) free(malloc(size));
      _exit(hak_heap_verify() ? 42 : 1);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 42);
  }
  stop = true;
  CHECK(pthread_join(thread, NULL) == 0);
}

// Whether a misuse ended the program.
static void test_misuse(void) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    char *volatile block = malloc(100000);
    free(block);
    free(block);
    _exit(0);
  }
  close(ends[1]);
  char text[200] = "";
  const ssize_t length = read(ends[0], text, sizeof text - 1);
  close(ends[0]);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
  CHECK(length > 0 && strncmp(text, "hakmem: ", 8) == 0);
}

int main(void) {
  test_in_use();
  test_sizes();
  test_alignment();
  test_errors();
  test_threads();
  test_fork();
  test_misuse();
  const hak_stats end = stats();
#ifdef __GLIBC__
  const char *const library = "glibc";
#else
  const char *const library = "a C library that is not glibc";
#endif
  printf("%s on %s, %llu live blocks at the end: %s\n", hak_version(), library, (unsigned long long)end.live_blocks,
         failures == 0 ? "passed" : "FAILED");
  return failures == 0 ? 0 : 1;
}
