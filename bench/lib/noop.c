// SPDX-License-Identifier: Apache-2.0
//
// The no-op floor: an allocator that does almost nothing, for random_mixed under LD_PRELOAD. The time of a workload on
// it is the harness's own time, which no allocator can undercut.
//
// Between hakmem_bench_noop_enter and _leave a thread's malloc cycles through a small region of its own, and hands out
// blocks again although they are in use. Only the workloads, which never read a block, work with that. Everything else
// (outside the two calls; calloc and aligned blocks anywhere) gets memory that is never reused.
#include "bench/lib/noop.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))
#define THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))

enum {
  ALIGNMENT = 16,
  SMALL_REGION = 256 << 10,  // fits into the second-level cache
  LARGE_REGION = 8 << 20,
  LARGE = SMALL_REGION / 4,  // blocks of this size or more come from the large region
  POOL = 64,                 // small regions kept for the next thread
};

struct region {
  char *begin, *next, *end;
};

// Empty outside enter and leave, so that every malloc fails the only test of its fast path.
static THREAD_LOCAL struct region t_small;
static THREAD_LOCAL struct region t_large;
static THREAD_LOCAL bool t_inside;
static _Atomic(char *) g_pool[POOL];

static char *map(size_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

static size_t round_up(size_t n, size_t to) { return (n + to - 1) & ~(to - 1); }

// Memory that is never handed out again: each thread bumps a pointer through chunks that it maps.
static void *permanent(size_t alignment, size_t size) {
  static THREAD_LOCAL struct region chunk;
  if (size > PTRDIFF_MAX - alignment) {
    errno = ENOMEM;
    return NULL;
  }
  char *p = (char *)round_up((uintptr_t)chunk.next, alignment);
  if (!chunk.next || p > chunk.end || (size_t)(chunk.end - p) < size) {
    size_t bytes = round_up(size + alignment, 1 << 20);
    char *begin = map(bytes);
    if (!begin) {
      errno = ENOMEM;
      return NULL;
    }
    chunk = (struct region){begin, begin, begin + bytes};
    p = (char *)round_up((uintptr_t)begin, alignment);
  }
  chunk.next = p + round_up(size, ALIGNMENT);
  return p;
}

EXPORT void hakmem_bench_noop_enter(void) {
  char *begin = NULL;
  for (int i = 0; i < POOL && !begin; i++) begin = atomic_exchange(&g_pool[i], NULL);
  if (!begin) begin = map(SMALL_REGION);
  if (!begin) return;
  memset(begin, 0, SMALL_REGION);
  t_small = (struct region){begin, begin, begin + SMALL_REGION};
  t_inside = true;
}

EXPORT void hakmem_bench_noop_leave(void) {
  char *begin = t_small.begin;
  t_small = (struct region){NULL, NULL, NULL};
  t_inside = false;
  for (int i = 0; i < POOL && begin; i++) {
    char *empty = NULL;
    if (atomic_compare_exchange_strong(&g_pool[i], &empty, begin)) begin = NULL;
  }
  if (begin) munmap(begin, SMALL_REGION);
  if (t_large.begin) munmap(t_large.begin, LARGE_REGION);
  t_large = (struct region){NULL, NULL, NULL};
}

__attribute__((noinline)) static void *malloc_slow(size_t size) {
  if (!t_inside || size > LARGE_REGION) return permanent(ALIGNMENT, size);
  if (size < LARGE) {
    t_small.next = t_small.begin + round_up(size, ALIGNMENT);
    return t_small.begin;
  }
  if (!t_large.begin) {
    char *begin = map(LARGE_REGION);
    if (!begin) return permanent(ALIGNMENT, size);
    t_large = (struct region){begin, begin, begin + LARGE_REGION};
  }
  if ((size_t)(t_large.end - t_large.next) < size) t_large.next = t_large.begin;
  void *p = t_large.next;
  t_large.next += round_up(size, ALIGNMENT);
  return p;
}

EXPORT void *malloc(size_t size) {
  char *p = t_small.next;
  if (__builtin_expect(size >= LARGE || (size_t)(t_small.end - p) < size + ALIGNMENT, 0)) return malloc_slow(size);
  t_small.next = p + round_up(size, ALIGNMENT);
  return p;
}

EXPORT void free(void *p) { (void)p; }

EXPORT void *calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  return permanent(ALIGNMENT, bytes);  // fresh from mmap, so zero
}

// A workload's block moves without its contents, because its size is not known here. Outside, where the contents
// matter, realloc reports that there is no memory.
EXPORT void *realloc(void *p, size_t size) {
  if (!p || t_inside) return malloc(size);
  errno = ENOMEM;
  return NULL;
}

EXPORT void *memalign(size_t alignment, size_t size) {
  return permanent(alignment < ALIGNMENT ? ALIGNMENT : alignment, size);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

EXPORT int posix_memalign(void **out, size_t alignment, size_t size) {
  void *p = memalign(alignment, size);
  if (!p) return ENOMEM;
  *out = p;
  return 0;
}

EXPORT size_t malloc_usable_size(void *p) {
  (void)p;
  return 0;
}
