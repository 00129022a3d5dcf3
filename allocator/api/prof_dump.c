// SPDX-License-Identifier: Apache-2.0
//
// Heap profiles of the sampler's stacks; include/hakmem/pprof.h documents the functions.
#include <errno.h>
#include <hakmem/hakmem.h>
#include <hakmem/pprof.h>
#include <time.h>
#include <unistd.h>

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/pprof/profile.h"
#include "allocator/pprof/profile_file.h"

#define PATH_BYTES 4096

// The writer and the path, of the thread that has exchanged `busy` with true.
static HAK_ATOMIC(bool) busy;
static struct hak_pprof pprof;
static char path[PATH_BYTES];

static int is_there(const hak_prof_stack *stack, void *argument) {
  (void)stack;
  (void)argument;
  return 1;
}

// Returns 0, or why no profile can be written now.
static int begin(void) {
  if (hak_prof_visit_stacks(is_there, NULL) == ENOTSUP) return ENOTSUP;
  // Acquire: pairs with the release in end.
  return atomic_exchange_explicit(&busy, true, memory_order_acquire) ? EBUSY : 0;
}
static void end(void) {
  atomic_store_explicit(&busy, false, memory_order_release);  // Release: see begin.
}

static int64_t rounded(double value) { return value < 9e18 ? (int64_t)(value + 0.5) : INT64_MAX; }

static int add(const hak_prof_stack *stack, void *argument) {
  (void)argument;
  const int64_t values[HAK_PPROF_HEAP_VALUES] = {rounded(stack->alloc_objects), rounded(stack->alloc_bytes),
                                                 rounded(stack->inuse_objects), rounded(stack->inuse_bytes)};
  hak_pprof_add(&pprof, stack->frame, stack->frames, values);
  return 0;
}

// The decimal number that a setting's text begins with.
static int64_t number_of(const char *text) {
  int64_t number = 0;
  while (text != NULL && *text >= '0' && *text <= '9') number = number * 10 + (*text++ - '0');
  return number;
}

static uint64_t now_ns(void) {
  struct timespec now = {.tv_sec = 0};
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// By the thread that has begun.
static int write_profile(hak_gzip_sink *sink, void *context) {
  const int64_t period = number_of(hak_config_get("HAKMEM_PROF_SAMPLE_KB", NULL)) * 1024;
  const struct hak_pprof_about about = {.types = hak_pprof_heap_types,
                                        .values = HAK_PPROF_HEAP_VALUES,
                                        .first = HAK_PPROF_HEAP_VALUES - 1,
                                        .period_type = {"space", "bytes"},
                                        .period = period != 0 ? period : 1,
                                        .time_ns = now_ns()};
  hak_pprof_begin(&pprof, sink, context, &about);
  hak_pprof_add_process(&pprof);
  hak_pprof_comment(&pprof, hak_version());
  hak_prof_visit_stacks(add, NULL);
  return hak_pprof_end(&pprof);
}

int hak_prof_write(int (*write)(void *context, const void *bytes, size_t size), void *context) {
  if (write == NULL) return EINVAL;
  int error = begin();
  if (error != 0) return error;
  error = write_profile(write, context);
  end();
  return error;
}

static int dump(const char *pattern) {
  static uint64_t number;
  if (!hak_pprof_path(path, sizeof path, pattern, (uint64_t)getpid(), number++)) return EINVAL;
  int file = hak_pprof_create(path);
  if (file < 0) return -file;
  return hak_pprof_close(file, path, write_profile(hak_pprof_write, &file));
}

int hak_prof_dump(const char *pattern) {
  if (pattern == NULL) return EINVAL;
  int error = begin();
  if (error != 0) return error;
  error = dump(pattern);
  end();
  return error;
}
