// SPDX-License-Identifier: Apache-2.0
//
// The recorder: preloaded into a program, it writes each call of malloc and its relatives to a file, and passes it on
// to the C library. The file is a row of records in memory that is shared with it. A call takes the next record by one
// atomic addition, which is also its place in the order; there is no lock and no system call. record.py reads the file.
//
// Order: a block is taken out before it is freed, and put in after it was allocated. So an address that is used again
// is never put in before it was taken out.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

// glibc's own names of its functions.
void *__libc_malloc(size_t size);
void __libc_free(void *p);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

// What record.py reads. `op` is 0 as long as the record is not written.
enum op { OP_NONE, OP_MALLOC, OP_CALLOC, OP_ALIGNED, OP_FREE, OP_REALLOC_BEGIN, OP_REALLOC_END };
struct record {
  uint64_t address, size, time_ns;
  uint16_t thread;
  uint8_t alignment_bits;
  _Atomic(uint8_t) op;
  uint32_t unused;
};
_Static_assert(sizeof(struct record) == 32, "record.py reads records of 32 bytes");

enum { NAMES = 16 };
static struct record *records;
static uint64_t count;
static _Atomic(uint64_t) next;
static _Atomic(uint32_t) threads;
static atomic_bool on;
static _Thread_local uint32_t thread_number __attribute__((tls_model("initial-exec")));

static void stop_in_child(void) { atomic_store_explicit(&on, false, memory_order_relaxed); }

// A process that has called exec has a number that was used before.
static int open_file(const char *folder) {
  char name[4096];
  for (int i = 0; i < NAMES; i++) {
    const int length = snprintf(name, sizeof name, "%s/raw.%ld.%d", folder, (long)getpid(), i);
    if (length < 0 || (size_t)length >= sizeof name) return -1;
    const int file = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file >= 0 || errno != EEXIST) return file;
  }
  return -1;
}

// Before this constructor the dynamic linker and other libraries make a few calls, which are not recorded.
__attribute__((constructor)) static void start(void) {
  const char *folder = getenv("HAKMEM_BENCH_RECORD"), *most = getenv("HAKMEM_BENCH_RECORD_CALLS");
  if (!folder || !most) return;
  const int kept = errno, file = open_file(folder);
  count = strtoull(most, NULL, 10);
  const size_t bytes = count * sizeof *records;
  if (file >= 0 && count > 0 && ftruncate(file, (off_t)bytes) == 0) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (p != MAP_FAILED && pthread_atfork(NULL, NULL, stop_in_child) == 0) {
      records = p;
      atomic_store_explicit(&on, true, memory_order_release);
    }
  }
  if (file >= 0) close(file);
  errno = kept;
}

static void note(enum op op, const void *address, size_t size, size_t alignment) {
  if (!atomic_load_explicit(&on, memory_order_acquire)) return;
  const uint64_t place = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
  if (place >= count) {
    atomic_store_explicit(&on, false, memory_order_relaxed);
    return;
  }
  if (thread_number == 0) thread_number = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
  struct timespec t;
  // Exact to a few milliseconds, and much cheaper than the exact clock.
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  struct record *r = &records[place];
  r->address = (uintptr_t)address;
  r->size = size;
  r->time_ns = (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
  r->thread = (uint16_t)thread_number;
  r->alignment_bits = alignment ? (uint8_t)__builtin_ctzll(alignment) : 0;
  atomic_store_explicit(&r->op, (uint8_t)op, memory_order_release);
}

EXPORT void *malloc(size_t size) {
  void *p = __libc_malloc(size);
  if (p) note(OP_MALLOC, p, size, 0);
  return p;
}

EXPORT void free(void *p) {
  if (p) note(OP_FREE, p, 0, 0);
  __libc_free(p);
}

EXPORT void *calloc(size_t number, size_t size) {
  void *p = __libc_calloc(number, size);
  if (p) note(OP_CALLOC, p, number * size, 0);
  return p;
}

EXPORT void *realloc(void *p, size_t size) {
  if (!p) return malloc(size);
  if (size == 0) {
    note(OP_FREE, p, 0, 0);
    return __libc_realloc(p, 0);
  }
  note(OP_REALLOC_BEGIN, p, 0, 0);
  void *moved = __libc_realloc(p, size);
  note(OP_REALLOC_END, moved, size, 0);
  return moved;
}

EXPORT void *memalign(size_t alignment, size_t size) {
  void *p = __libc_memalign(alignment, size);
  if (p) note(OP_ALIGNED, p, size, alignment);
  return p;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

EXPORT int posix_memalign(void **out, size_t alignment, size_t size) {
  if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
  const int kept = errno;
  void *p = memalign(alignment, size);
  errno = kept;
  if (!p) return ENOMEM;
  *out = p;
  return 0;
}

EXPORT void *valloc(size_t size) { return memalign((size_t)sysconf(_SC_PAGESIZE), size); }
