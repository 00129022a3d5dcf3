// SPDX-License-Identifier: Apache-2.0
//
// Heap profiles of the sampler's stacks; include/hakmem/pprof.h documents the public functions.
#include "allocator/api/prof_dump.h"

#include <errno.h>
#include <hakmem/hakmem.h>
#include <hakmem/pprof.h>

#include "allocator/gate/gate.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/clock.h"
#include "allocator/os/new_file.h"
#include "allocator/os/report.h"
#include "allocator/os/sys_call.h"
#include "allocator/policy/config.h"
#include "allocator/pprof/profile.h"
#include "allocator/pprof/profile_file.h"
#include "allocator/prof/fragmentation.h"
#include "allocator/prof/sampler.h"

#if HAK_PROF

#define PATH_BYTES 4096

// How many files that exist already are passed by for %n.
#define NUMBERS_TRIED 100000u

// The process whose thread has the writer and the path; 0: none. In the child of a fork this may be the parent, whose
// thread does not exist there.
static HAK_ATOMIC(uint32_t) writer;
static struct hak_pprof pprof;
static struct hak_fragmentation fragmentation;
static char path[PATH_BYTES];

static int begin(void) {
  const uint32_t self = (uint32_t)hak_sys_getpid();
  uint32_t other = 0;
  // Acquire: pairs with the release in end. Relaxed on failure: nothing is read then.
  if (atomic_compare_exchange_strong_explicit(&writer, &other, self, memory_order_acquire, memory_order_relaxed)) {
    return 0;
  }
  if (other == self) return EBUSY;
  const bool taken =
      atomic_compare_exchange_strong_explicit(&writer, &other, self, memory_order_acquire, memory_order_relaxed);
  return taken ? 0 : EBUSY;
}
static void end(void) {
  atomic_store_explicit(&writer, 0, memory_order_release);  // Release: see begin.
}

// ---- The profile --------------------------------------------------------------------------------

typedef bool stack_visit(void *const *frame, uint32_t frames, const struct hak_stack_totals *totals);

// Calls `visit` for each stack at which something was sampled, until it returns true. Returns whether it did.
static bool visit_stacks(stack_visit *visit) {
  void *const *frame;
  uint32_t frames;
  struct hak_stack_totals totals;
  for (uint32_t number = 0; hak_sampler_stack(number, &frame, &frames, &totals); number++) {
    if (totals.alloc_objects > 0 && visit(frame, frames, &totals)) return true;
  }
  return false;
}

static int64_t rounded_above_0(double value) { return value < 9e18 ? (int64_t)(value + 0.5) : INT64_MAX; }
static int64_t rounded(double value) { return value < 0 ? -rounded_above_0(-value) : rounded_above_0(value); }

static bool add(void *const *frame, uint32_t frames, const struct hak_stack_totals *totals) {
  const int64_t values[HAK_PPROF_HEAP_VALUES] = {rounded(totals->alloc_objects),
                                                 rounded(totals->alloc_bytes),
                                                 rounded(totals->inuse_objects),
                                                 rounded(totals->inuse_bytes),
                                                 rounded(totals->peak_objects),
                                                 rounded(totals->peak_bytes),
                                                 rounded(totals->fragmentation_bytes),
                                                 rounded(totals->lived_objects),
                                                 rounded(totals->lived_bytes),
                                                 rounded(totals->lived_us),
                                                 rounded(totals->inuse_objects - totals->marked_objects),
                                                 rounded(totals->inuse_bytes - totals->marked_bytes)};
  hak_pprof_add(&pprof, frame, frames, values);
  return false;
}

static uint64_t now_ns(void) {
  const struct timespec now = hak_clock_read(CLOCK_REALTIME);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// By the thread that has begun.
static int write_profile(hak_gzip_sink *sink, void *context) {
  const int64_t period = (int64_t)HAK_SETTING(prof_sample_bytes);
  const struct hak_pprof_about about = {.types = hak_pprof_heap_types,
                                        .values = HAK_PPROF_HEAP_VALUES,
                                        .first = HAK_PPROF_HEAP_FIRST,
                                        .period_type = {"space", "bytes"},
                                        .period = period != 0 ? period : 1,
                                        .time_ns = now_ns()};
  hak_pprof_begin(&pprof, sink, context, &about);
  hak_pprof_add_process(&pprof);
  hak_pprof_comment(&pprof, hak_gate_build_name());
  hak_pprof_comment_number(&pprof, hak_fragmentation_share(&fragmentation), " bytes lie free in slabs in use");
  visit_stacks(add);
  return hak_pprof_end(&pprof);
}

static int dump(const char *pattern) {
  static uint64_t number;
  if (!hak_pprof_path(path, sizeof path, pattern, (uint64_t)hak_sys_getpid(), number++)) return EINVAL;
  int file = hak_new_file_create(path, O_WRONLY);
  if (file < 0) return -file;
  return hak_pprof_close(file, path, write_profile(hak_pprof_write, &file));
}

// ---- For programs -------------------------------------------------------------------------------

int hak_prof_write(int (*write)(void *context, const void *bytes, size_t size), void *context) {
  if (write == NULL) return EINVAL;
  int error = begin();
  if (error != 0) return error;
  error = write_profile(write, context);
  end();
  return error;
}

int hak_prof_dump(const char *pattern) {
  if (pattern == NULL) return EINVAL;
  int error = begin();
  if (error != 0) return error;
  error = dump(pattern);
  end();
  return error;
}

int hak_prof_mark(void) {
  hak_sampler_mark();
  return 0;
}

// ---- Without the program ------------------------------------------------------------------------

static bool is_there(void *const *frame, uint32_t frames, const struct hak_stack_totals *totals) {
  (void)frame;
  (void)frames;
  (void)totals;
  return true;
}

HAK_COLD bool hak_prof_dump_has_samples(void) { return hak_sampler_is_on() || visit_stacks(is_there); }

HAK_COLD bool hak_prof_dump_accepts(const char *pattern) {
  if (begin() != 0) return false;
  const bool accepted = hak_pprof_path(path, sizeof path, pattern, UINT64_MAX, UINT64_MAX);
  end();
  return accepted;
}

HAK_COLD bool hak_prof_dump_is_numbered(const char *pattern) {
  for (; *pattern != '\0'; pattern++) {
    if (*pattern != '%') continue;
    pattern++;
    if (*pattern == 'n') return true;
    if (*pattern == '\0') return false;
  }
  return false;
}

// The errors that users meet, in words: the C library's texts may need memory.
static const char *text_of(int error) {
  switch (error) {
    case EACCES:
      return "permission denied";
    case EEXIST:
      return "there is something of that name; %n in HAKMEM_PROF_DUMP numbers the files";
    case ENOENT:
    case ENOTDIR:
      return "there is no such folder";
    case ENOSPC:
      return "no space is left";
    case EROFS:
      return "the file system is read-only";
    default:
      return NULL;
  }
}

// The path comes last: it may be longer than a line.
static void tell(int error) {
  const char *text = text_of(error);
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: no profile is written: ");
  if (text != NULL) {
    hak_line_text(&line, text);
  } else {
    hak_line_text(&line, "error ");
    hak_line_number(&line, error);
  }
  hak_line_text(&line, ": ");
  hak_line_outside_text(&line, path);
  hak_line_offer(&line);
}

HAK_COLD int hak_prof_dump_or_tell(const char *pattern) {
  int error = begin();
  if (error != 0) return error;
  uint32_t tried = 0;
  do {
    error = dump(pattern);
  } while (error == EEXIST && hak_prof_dump_is_numbered(pattern) && ++tried < NUMBERS_TRIED);
  if (error != 0) tell(error);
  end();
  return error;
}

#else

int hak_prof_write(int (*write)(void *context, const void *bytes, size_t size), void *context) {
  (void)context;
  return write == NULL ? EINVAL : ENOTSUP;
}

int hak_prof_dump(const char *pattern) { return pattern == NULL ? EINVAL : ENOTSUP; }

int hak_prof_mark(void) { return ENOTSUP; }

#endif
