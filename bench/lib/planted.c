// SPDX-License-Identifier: Apache-2.0
//
// Allocators with a planted fault, for the tests of the benchmarks: the C library's malloc, except for what the
// variable HAKMEM_BENCH_PLANT names.
//   slow       every 997th malloc takes 2 ms
//   twice      malloc returns a block a second time while it is in use
//   spoiled    malloc changes the contents of a block that is in use
//   shared     every block of 16 bytes is the same block
//   dirty      calloc returns memory that is not zero
//   unaligned  an aligned block is not aligned
//   lost       realloc loses the contents
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

// glibc's own names of its functions.
void *__libc_malloc(size_t size);
void __libc_free(void *p);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

enum { EVERY = 997, SMALL = 16 };

static _Atomic(uint64_t) calls;

static bool planted(const char *name) {
  const char *plant = getenv("HAKMEM_BENCH_PLANT");
  return plant && strcmp(plant, name) == 0;
}

static bool is_turn(void) { return (atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + 1) % EVERY == 0; }

// The last block of each thread that is still in use.
static _Thread_local struct {
  unsigned char *p;
  size_t size;
} last;

static _Alignas(16) unsigned char shared[16];

EXPORT void *malloc(size_t size) {
  if (size == sizeof shared && planted("shared")) return shared;
  if (planted("slow") && is_turn()) nanosleep(&(struct timespec){0, 2000000}, NULL);
  if (last.p && planted("twice") && last.size >= size && is_turn()) return last.p;
  if (last.p && planted("spoiled") && is_turn()) last.p[0] ^= 0xFF;
  unsigned char *p = __libc_malloc(size);
  if (size >= SMALL) {
    last.p = p;
    last.size = size;
  }
  return p;
}

EXPORT void free(void *p) {
  if (p == shared) return;
  if (p == last.p) last.p = NULL;
  __libc_free(p);
}

EXPORT void *calloc(size_t count, size_t size) {
  unsigned char *p = __libc_calloc(count, size);
  if (p && count * size >= SMALL && planted("dirty") && is_turn()) p[count * size - 1] = 1;
  return p;
}

EXPORT void *realloc(void *p, size_t size) {
  if (p == last.p) last.p = NULL;
  unsigned char *moved = __libc_realloc(p, size);
  if (p && moved && size >= SMALL && planted("lost") && is_turn()) memset(moved, 0xEE, SMALL / 2);
  return moved;
}

EXPORT void *memalign(size_t alignment, size_t size) {
  unsigned char *p = __libc_memalign(alignment, size + SMALL);
  return p && planted("unaligned") && is_turn() ? p + SMALL : p;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

EXPORT int posix_memalign(void **out, size_t alignment, size_t size) {
  void *p = memalign(alignment, size);
  if (!p) return ENOMEM;
  *out = p;
  return 0;
}
