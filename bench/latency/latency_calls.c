// SPDX-License-Identifier: Apache-2.0
//
// The calls that are measured. Every block is checked outside the measured time: it keeps its contents while it lives,
// and is zero or aligned where it must be.
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "bench/latency/latency.h"

enum { RING = 1024, BUFFERS = 64, MIN = 16 };

// A block, with the number that its first and last bytes hold.
struct block {
  unsigned char *p;
  uint32_t size, tag;
};

struct range {
  enum kind take, give;
  uint32_t slots, min, max, share;  // share: one call in so many of those asked for
};

static const struct range kRanges[] = {
    {KIND_MALLOC_SMALL, KIND_FREE_SMALL, 4096, MIN, 1024, 1},
    {KIND_MALLOC_MEDIUM, KIND_FREE_MEDIUM, 512, 1025, 32768, 1},
    {KIND_MALLOC_LARGE, KIND_FREE_LARGE, 32, 32769, 1048576, 10},
};
enum { RANGES = sizeof kRanges / sizeof *kRanges, SLOTS = 4096 };

static struct block *slots;
static uint64_t state;
static uint32_t last_tag;

static struct block filled(unsigned char *p, uint32_t size) {
  if (!p) out_of_memory(size);
  const struct block b = {p, size, ++last_tag};
  memcpy(p, &b.tag, sizeof b.tag);
  memcpy(p + size - sizeof b.tag, &b.tag, sizeof b.tag);
  return b;
}

static void check(const struct block *b) {
  uint32_t first, last;
  memcpy(&first, b->p, sizeof first);
  memcpy(&last, b->p + b->size - sizeof last, sizeof last);
  if (first != b->tag || last != b->tag) wrong_block("lost its contents", b->size);
}

static uint32_t size_between(uint64_t bits, uint32_t min, uint32_t max) {
  return min + random_below((uint32_t)bits, max - min + 1);
}

static struct block *random_slot(uint64_t bits, uint32_t count) {
  return &slots[random_below((uint32_t)(bits >> 32), count)];
}

// Frees the slot's block, if it has one, without timing it.
static void empty(struct block *b) {
  if (b->p) check(b);
  free(b->p);
  b->p = NULL;
}

static void free_all(uint32_t count) {
  for (uint32_t i = 0; i < count; i++) empty(&slots[i]);
}

static void clock_alone(uint64_t calls) {
  for (uint64_t i = 0; i < calls; i++) TIMED(KIND_CLOCK, __asm__ volatile("" :: : "memory"));
}

// Slots that are filled and freed at random.
static void take_and_give(const struct range *r, uint64_t calls) {
  for (uint64_t given = 0; given < calls;) {
    const uint64_t bits = random_next(&state);
    struct block *b = random_slot(bits, r->slots);
    if (b->p) {
      check(b);
      TIMED(r->give, free(b->p));
      b->p = NULL;
      given++;
      continue;
    }
    const uint32_t size = size_between(bits, r->min, r->max);
    unsigned char *p;
    TIMED(r->take, p = malloc(size));
    *b = filled(p, size);
  }
  free_all(r->slots);
}

// ---- Blocks of another thread -------------------------------------------------------------------

static struct {
  _Alignas(64) _Atomic(uint64_t) put;
  _Alignas(64) _Atomic(uint64_t) taken;
  uint64_t count, seed;
  struct block ring[RING];
} remote;

static void *remote_main(void *unused) {
  (void)unused;
  uint64_t random = remote.seed;
  for (uint64_t i = 0; i < remote.count; i++) {
    while (i - atomic_load_explicit(&remote.taken, memory_order_acquire) == RING) sched_yield();
    const uint32_t size = size_between(random_next(&random), MIN, 1024), tag = (uint32_t)i;
    struct block b = {malloc(size), size, tag};
    if (!b.p) out_of_memory(size);
    memcpy(b.p, &tag, sizeof tag);
    memcpy(b.p + size - sizeof tag, &tag, sizeof tag);
    remote.ring[i % RING] = b;
    atomic_store_explicit(&remote.put, i + 1, memory_order_release);
  }
  return NULL;
}

static void free_remote(uint64_t calls) {
  atomic_store_explicit(&remote.put, 0, memory_order_relaxed);
  atomic_store_explicit(&remote.taken, 0, memory_order_relaxed);
  remote.count = calls;
  remote.seed = random_next(&state);
  pthread_t thread;
  if (pthread_create(&thread, NULL, remote_main, NULL) != 0) {
    fprintf(stderr, "latency_worker: cannot start a thread\n");
    exit(1);
  }
  for (uint64_t i = 0; i < calls; i++) {
    while (atomic_load_explicit(&remote.put, memory_order_acquire) == i) sched_yield();
    const struct block b = remote.ring[i % RING];
    check(&b);
    TIMED(KIND_FREE_REMOTE, free(b.p));
    atomic_store_explicit(&remote.taken, i + 1, memory_order_release);
  }
  pthread_join(thread, NULL);
}

// ---- realloc, calloc, aligned -------------------------------------------------------------------

static void grow(uint64_t calls) {
  for (uint64_t done = 0; done < calls;) {
    struct block *b = random_slot(random_next(&state), BUFFERS);
    const uint32_t old = b->size, size = b->p ? old + old / 2 : MIN;
    if (size > 1048576) {
      empty(b);
      continue;
    }
    unsigned char *p = b->p;
    TIMED(KIND_REALLOC, p = realloc(p, size));
    done++;
    if (!p) out_of_memory(size);
    if (b->p) check(&(struct block){p, old, b->tag});
    *b = filled(p, size);
  }
  free_all(BUFFERS);
}

static bool is_zero(const unsigned char *p, uint32_t size) { return p[0] == 0 && memcmp(p, p + 1, size - 1) == 0; }

static void zeroed(uint64_t calls) {
  for (uint64_t done = 0; done < calls;) {
    const uint64_t bits = random_next(&state);
    struct block *b = random_slot(bits, 512);
    if (b->p) {
      empty(b);
      continue;
    }
    const uint32_t size = size_between(bits, MIN, 16384);
    unsigned char *p;
    TIMED(KIND_CALLOC, p = calloc(1, size));
    done++;
    if (!p) out_of_memory(size);
    if (!is_zero(p, size)) wrong_block("is from calloc and not zero", size);
    memset(p, 0xA5, size);
    *b = filled(p, size);
  }
  free_all(512);
}

static void aligned(uint64_t calls) {
  for (uint64_t done = 0; done < calls;) {
    const uint64_t bits = random_next(&state);
    struct block *b = random_slot(bits, 512);
    if (b->p) {
      empty(b);
      continue;
    }
    const size_t alignment = (size_t)32 << (bits % 8);
    // Odd, because mimalloc 2.0.9 misaligns blocks whose size is a multiple of an alignment of 256 to 1,024.
    const uint32_t size = size_between(bits, MIN, 4095) | 1;
    void *p = NULL;
    int error;
    TIMED(KIND_ALIGNED, error = posix_memalign(&p, alignment, size));
    done++;
    if (error != 0) out_of_memory(size);
    if ((uintptr_t)p % alignment != 0) wrong_block("is not aligned", size);
    *b = filled(p, size);
  }
  free_all(512);
}

void calls_init(uint64_t seed) {
  slots = scratch_map(SLOTS * sizeof *slots);
  memset(slots, 0, SLOTS * sizeof *slots);  // page faults of the harness before any call is measured
  memset(remote.ring, 0, sizeof remote.ring);
  state = random_start(seed, 0);
}

void calls_run(uint64_t calls) {
  clock_alone(calls);
  for (int i = 0; i < RANGES; i++) take_and_give(&kRanges[i], (calls + kRanges[i].share - 1) / kRanges[i].share);
  free_remote(calls);
  grow(calls);
  zeroed(calls);
  aligned(calls);
}
