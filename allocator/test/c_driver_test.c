// SPDX-License-Identifier: Apache-2.0
//
// A program in C whose threads make random calls of the interface and check what the blocks hold. It needs neither the
// C++ library nor googletest, so the whole allocator can run under MemorySanitizer, which must know every library.
// Usage: c_driver_test [SEED]. Exit code 0: all is well.
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS 3
#define BLOCKS 512
#define STEPS 30000

struct block {
  unsigned char *start;
  size_t size;
  unsigned char fill;
};

struct thread {
  uint64_t random;
  struct block blocks[BLOCKS];
};

// Blocks on their way to another thread, which frees them.
static _Atomic(unsigned char *) mailbox[64];

static uint64_t next_random(struct thread *thread) {
  thread->random ^= thread->random << 13;
  thread->random ^= thread->random >> 7;
  thread->random ^= thread->random << 17;
  return thread->random;
}
static size_t below(struct thread *thread, size_t bound) { return (size_t)(next_random(thread) % bound); }

static void require(bool holds, const char *what) {
  if (holds) return;
  printf("FAILED: %s\n", what);
  exit(1);
}

// Mostly small sizes, some of every other order.
static size_t draw_size(struct thread *thread) {
  const size_t order = below(thread, 16);
  return below(thread, order < 12 ? 600 : order < 15 ? 40000 : (size_t)3 << 20);
}

static void fill(struct thread *thread, struct block *block) {
  block->fill = (unsigned char)next_random(thread);
  memset(block->start, block->fill, block->size);
}

// Whether all bytes are `byte`: the first is, and each is as the one before. By one call, since a sanitizer makes a
// loop over bytes many times slower.
static bool all_are(const unsigned char *start, size_t size, unsigned char byte) {
  return size == 0 || (start[0] == byte && memcmp(start, start + 1, size - 1) == 0);
}

static void check(const struct block *block, size_t size) {
  require(all_are(block->start, size, block->fill), "a block changed by itself");
}

static void allocate(struct thread *thread, struct block *block) {
  block->size = draw_size(thread);
  switch (below(thread, 4)) {
    case 0:
      block->start = hak_calloc(1, block->size);
      require(block->start == NULL || all_are(block->start, block->size, 0), "calloc's zeros");
      break;
    case 1: {
      const size_t align = (size_t)16 << below(thread, 9);
      block->start = hak_memalign(align, block->size);
      require((uintptr_t)block->start % align == 0, "an alignment");
      break;
    }
    default:
      block->start = hak_malloc(block->size);
  }
  require(block->start != NULL, "a block");
  require(hak_usable_size(block->start) >= block->size, "a usable size");
  fill(thread, block);
}

static void resize(struct thread *thread, struct block *block) {
  const size_t size = 1 + draw_size(thread);
  unsigned char *const moved = hak_realloc(block->start, size);
  require(moved != NULL, "a resized block");
  block->start = moved;
  check(block, size < block->size ? size : block->size);
  block->size = size;
  fill(thread, block);
}

static void release(struct thread *thread, struct block *block) {
  check(block, block->size);
  unsigned char *start = block->start;
  if (below(thread, 4) == 0) {
    // Acquire and release: the block's bytes pass to the thread that frees it.
    start = atomic_exchange_explicit(&mailbox[below(thread, 64)], start, memory_order_acq_rel);
    hak_free(start);
  } else if (below(thread, 2) == 0) {
    hak_free_sized(start, block->size);
  } else {
    hak_free(start);
  }
  block->start = NULL;
}

static void fork_once(void) {
  const pid_t child = fork();
  if (child == 0) {
    void *const block = hak_malloc(1000);
    memset(block, 1, 1000);
    hak_free(block);
    _exit(hak_heap_verify() ? 0 : 1);
  }
  int status = 1;
  require(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child");
}

static void step(struct thread *thread) {
  struct block *block = &thread->blocks[below(thread, BLOCKS)];
  const size_t choice = below(thread, 10000);
  if (choice == 0) {
    hak_trim(0);
  } else if (choice == 1) {
    hak_thread_flush();
  } else if (choice == 2) {
    hak_stats stats = {.version = HAK_STATS_VERSION};
    require(hak_stats_get(&stats) == 0 && stats.live_blocks != 0, "statistics");
  } else if (choice == 3) {
    fork_once();
  } else if (block->start == NULL) {
    allocate(thread, block);
  } else if (choice % 4 == 0) {
    resize(thread, block);
  } else {
    release(thread, block);
  }
}

static void *run(void *argument) {
  struct thread *const thread = argument;
  for (int i = 0; i < STEPS; i++) step(thread);
  for (int i = 0; i < BLOCKS; i++) {
    if (thread->blocks[i].start != NULL) release(thread, &thread->blocks[i]);
  }
  return NULL;
}

int main(int argc, char **argv) {
  static struct thread threads[THREADS];
  const char *const given = argc > 1 ? argv[1] : getenv("HAK_TEST_SEED");
  const uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
  printf("HAK_TEST_SEED=%llu repeats this run's random choices\n", (unsigned long long)seed);
  // The second round's threads take over what the first round's left.
  for (int round = 0; round < 2; round++) {
    pthread_t ids[THREADS];
    for (int i = 0; i < THREADS; i++) {
      threads[i].random = (seed + 1) * 0x9E3779B97F4A7C15u + (uint64_t)(round * THREADS + i) * 0x1234567u + 1;
      require(pthread_create(&ids[i], NULL, run, &threads[i]) == 0, "a thread");
    }
    for (int i = 0; i < THREADS; i++) require(pthread_join(ids[i], NULL) == 0, "the end of a thread");
  }
  for (size_t i = 0; i < sizeof mailbox / sizeof *mailbox; i++) hak_free(mailbox[i]);
  require(hak_heap_verify(), "the heap");
  hak_stats stats = {.version = HAK_STATS_VERSION};
  require(hak_stats_get(&stats) == 0 && stats.live_blocks == 0, "no live block at the end");
  puts("the blocks held what was written");
  return 0;
}
