// SPDX-License-Identifier: Apache-2.0
//
// The C library's allocation functions under their own names: C17, C23, POSIX.1-2024 and the GNU C library's additions.
// Every function that glibc's malloc.o defines is here, so that a static link never includes that object. musl has none
// of the additions; the functions before them are those that musl requires of a replacement malloc.
//
// Under a sanitizer with a malloc of its own there is none of this, and the program gets the sanitizer's. Otherwise it
// would crash before main.
#include <errno.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "allocator/api/entry.h"
#include "allocator/api/release.h"
#include "allocator/api/sized.h"
#include "allocator/block/size_class.h"
#include "allocator/observe/statistics.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"

#if HAK_SANITIZED && !defined(HAK_RENAMED)

#pragma message("hakmem: a sanitizer is on, so this program gets the sanitizer's malloc instead of hakmem's")

// A name without a byte behind it, which the linker keeps: it tells in the symbols of a program why malloc is not
// hakmem's (packaging/run).
__asm__(
    ".globl hak_override_sanitized\n"
    ".hidden hak_override_sanitized\n"
    ".type hak_override_sanitized, %function\n"
    ".set hak_override_sanitized, 1\n");

#else

// Not declared by every C library.
HAK_EXPORT void cfree(void *ptr);
HAK_EXPORT void free_sized(void *ptr, size_t size);
HAK_EXPORT void free_aligned_sized(void *ptr, size_t alignment, size_t size);
HAK_EXPORT void *pvalloc(size_t size);

HAK_EXPORT void *malloc(size_t size) { return hak_entry_malloc(size); }
// The same function by a second name, which stays inside: it tells in the symbols of a program that malloc is hakmem's
// (packaging/run). Tests give malloc itself another name.
#define STRINGIFY(x) #x
#define NAME_OF(x) STRINGIFY(x)
#if __has_attribute(copy)
// gcc wants the same attributes for both names.
#define LIKE(function) __attribute__((copy(function)))
#else
#define LIKE(function)
#endif
LIKE(malloc) __attribute__((alias(NAME_OF(malloc)), used, visibility("hidden"))) void *hak_override_malloc(size_t size);
HAK_EXPORT void *calloc(size_t count, size_t size) { return hak_entry_calloc(count, size); }
// Not inlined into the functions below: they call the program's own function if it has one.
HAK_NOINLINE HAK_EXPORT void *realloc(void *ptr, size_t size) { return hak_entry_realloc(ptr, size); }
HAK_NOINLINE HAK_EXPORT void free(void *ptr) { hak_entry_free(ptr); }

// A program may define its own malloc, calloc, realloc and free only: the C library's manual says that this is
// sufficient. The functions below that are defined in terms of these then call the program's.
HAK_EXPORT void *reallocarray(void *ptr, size_t count, size_t size) {
  size_t total;
  if (HAK_UNLIKELY(__builtin_mul_overflow(count, size, &total))) {
    errno = ENOMEM;
    return NULL;
  }
  return realloc(ptr, total);
}
HAK_EXPORT void cfree(void *ptr) { free(ptr); }
HAK_EXPORT void free_sized(void *ptr, size_t size) { hak_entry_free_sized(ptr, size); }
HAK_EXPORT void free_aligned_sized(void *ptr, size_t alignment, size_t size) {
  hak_entry_free_aligned_sized(ptr, alignment, size);
}

HAK_EXPORT void *aligned_alloc(size_t alignment, size_t size) { return hak_entry_aligned_alloc(alignment, size); }
HAK_EXPORT void *memalign(size_t alignment, size_t size) { return hak_entry_memalign(alignment, size); }
HAK_EXPORT int posix_memalign(void **out, size_t alignment, size_t size) {
  return hak_entry_posix_memalign(out, alignment, size);
}
HAK_EXPORT void *valloc(size_t size) { return hak_entry_aligned(hak_os_page_size(), size); }
HAK_EXPORT void *pvalloc(size_t size) {
  const size_t page = hak_os_page_size();
  if (HAK_UNLIKELY(size > PTRDIFF_MAX)) {
    errno = ENOMEM;
    return NULL;
  }
  return hak_entry_aligned(page, hak_round_up(size, page));
}

HAK_EXPORT size_t malloc_usable_size(void *ptr) { return hak_entry_usable(ptr); }

#ifdef __GLIBC__

// ---- Tuning and information ---------------------------------------------------------------------

HAK_EXPORT int malloc_trim(size_t pad) { return hak_release_all(pad) != 0; }

// glibc's parameters are accepted without effect: this allocator has its own settings (docs/ENV.md).
HAK_EXPORT int mallopt(int parameter, int value) {
  (void)value;
  switch (parameter) {
    case M_MXFAST:
    case M_TRIM_THRESHOLD:
    case M_TOP_PAD:
    case M_MMAP_THRESHOLD:
    case M_MMAP_MAX:
    case M_CHECK_ACTION:
    case M_PERTURB:
    case M_ARENA_TEST:
    case M_ARENA_MAX:
      return 1;
    default:
      return 0;
  }
}

// By the public function, so that a program whose malloc this is has those of hakmem.h, also if it refers to them
// weakly.
static hak_stats gather(void) {
  hak_stats stats;
  stats.version = HAK_STATS_VERSION;
  hak_stats_get(&stats);
  return stats;
}

// What mallinfo and mallinfo2 report, as defined in glibc's manual. Large blocks (hblks, hblkhd) are not part of the
// arena. The bytes of the arena are in use (uordblks) or free (fordblks), so uordblks + hblkhd is in use, and arena +
// hblkhd is mapped. The free bytes include those in caches (fsmblks) and those that malloc_trim may return (keepcost).
// usmblks is 0.
struct info {
  size_t arena, ordblks, smblks, hblks, hblkhd, fsmblks, uordblks, fordblks, keepcost;
};

static size_t less(size_t a, size_t b) { return a > b ? a - b : 0; }

static struct info info_of(const hak_stats *stats) {
  // Statistics that are read while other threads work may be inconsistent. The sums below are consistent nevertheless.
  const size_t in_use = less(stats->live_bytes, stats->large_bytes);
  const size_t mapped = less(stats->mapped_bytes, stats->large_bytes);
  const size_t arena = mapped > in_use ? mapped : in_use;
  return (struct info){
      .arena = arena,
      .ordblks = stats->slabs_free,
      .smblks = stats->cached_blocks,
      .hblks = stats->large_blocks,
      .hblkhd = stats->large_bytes,
      .fsmblks = stats->cached_bytes,
      .uordblks = in_use,
      .fordblks = arena - in_use,
      .keepcost = less(stats->committed_bytes, stats->live_bytes + stats->metadata_bytes),
  };
}

static struct info read_info(void) {
  const hak_stats stats = gather();
  return info_of(&stats);
}

#if __GLIBC_PREREQ(2, 33)
HAK_EXPORT struct mallinfo2 mallinfo2(void) {
  const struct info now = read_info();
  return (struct mallinfo2){
      .arena = now.arena,
      .ordblks = now.ordblks,
      .smblks = now.smblks,
      .hblks = now.hblks,
      .hblkhd = now.hblkhd,
      .fsmblks = now.fsmblks,
      .uordblks = now.uordblks,
      .fordblks = now.fordblks,
      .keepcost = now.keepcost,
  };
}
#endif

// A value that does not fit becomes the largest that does; glibc returns the remainder.
static int clamp(size_t value) { return value < INT32_MAX ? (int)value : INT32_MAX; }

HAK_EXPORT struct mallinfo mallinfo(void) {
  const struct info now = read_info();
  return (struct mallinfo){
      .arena = clamp(now.arena),
      .ordblks = clamp(now.ordblks),
      .smblks = clamp(now.smblks),
      .hblks = clamp(now.hblks),
      .hblkhd = clamp(now.hblkhd),
      .fsmblks = clamp(now.fsmblks),
      .uordblks = clamp(now.uordblks),
      .fordblks = clamp(now.fordblks),
      .keepcost = clamp(now.keepcost),
  };
}

// The free blocks of each size class, as glibc lists its free chunks by size. Blocks that were never handed out count.
// All text of malloc_info goes through fprintf with arguments, for which compilers call no other function of stdio.
static bool print_sizes(FILE *stream, const struct hak_all_statistics *all) {
  bool good = true;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    const size_t size = hak_class_usable(class_id);
    const size_t count = all->classes[class_id].free_blocks + all->classes[class_id].fresh_blocks;
    if (count == 0) continue;
    good &= fprintf(stream, "  <size from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n", size, size, size * count,
                    count) >= 0;
  }
  return good;
}

// What glibc writes for a heap, and again for all heaps together, there with the blocks outside the heaps. As in
// mallinfo2, current is the arena, and fast and rest are the free bytes in it.
static bool print_totals(FILE *stream, const char *before, const struct info *now, size_t most, const char *after) {
  const size_t rest = less(now->fordblks, now->fsmblks);
  return fprintf(stream,
                 "%s"
                 "<total type=\"fast\" count=\"%zu\" size=\"%zu\"/>\n"
                 "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n",
                 before, now->smblks, now->fordblks - rest, now->ordblks, rest) >= 0 &&
         (now->hblks == SIZE_MAX ||
          fprintf(stream, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", now->hblks, now->hblkhd) >= 0) &&
         fprintf(stream,
                 "<system type=\"current\" size=\"%zu\"/>\n"
                 "<system type=\"max\" size=\"%zu\"/>\n"
                 "<aspace type=\"total\" size=\"%zu\"/>\n"
                 "<aspace type=\"mprotect\" size=\"%zu\"/>\n"
                 "%s",
                 now->arena, most, now->arena, now->arena, after) >= 0;
}

static bool print_info(FILE *stream) {
  struct hak_all_statistics all;
  hak_statistics_gather_all(&all);
  struct info now = info_of(&all.process);
  // The count of rest is that of the free blocks and slabs.
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    now.ordblks += all.classes[class_id].free_blocks + all.classes[class_id].fresh_blocks;
  }
  const size_t most = all.process.peak_mapped_bytes > now.arena ? all.process.peak_mapped_bytes : now.arena;
  struct info of_the_heap = now;
  of_the_heap.hblks = SIZE_MAX;  // glibc counts them for all heaps together
  return fprintf(stream, "<malloc version=\"%d\">\n<heap nr=\"%d\">\n<sizes>\n", 1, 0) >= 0 &&
         print_sizes(stream, &all) && print_totals(stream, "</sizes>\n", &of_the_heap, most, "</heap>\n") &&
         print_totals(stream, "", &now, most, "</malloc>\n");
}

// The XML that glibc writes, as if there were one heap.
HAK_EXPORT int malloc_info(int options, FILE *stream) {
  if (options != 0) {
    errno = EINVAL;
    return -1;
  }
  // Writing to a stream is a cancellation point, but this function must not be one. No lock is held.
  int cancellable;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
  const bool written = print_info(stream);
  pthread_setcancelstate(cancellable, NULL);
  return written ? 0 : -1;
}

static void print_figure(const char *name, uint64_t value) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, name);
  hak_line_text(&line, " = ");
  hak_line_number(&line, (int64_t)value);
  hak_line_write(&line);
}

HAK_EXPORT void malloc_stats(void) {
  const hak_stats stats = gather();
  print_figure("threads", stats.threads);
  print_figure("live blocks", stats.live_blocks);
  print_figure("live bytes", stats.live_bytes);
  print_figure("cached bytes", stats.cached_bytes);
  print_figure("large bytes", stats.large_bytes);
  print_figure("committed bytes", stats.committed_bytes);
  print_figure("mapped bytes", stats.mapped_bytes);
  print_figure("peak mapped bytes", stats.peak_mapped_bytes);
}

// ---- glibc's internal names ---------------------------------------------------------------------

// A few programs call these directly, and a static glibc uses some. Their blocks may be passed to free() above.
HAK_EXPORT void *__libc_malloc(size_t size);
HAK_EXPORT void *__libc_calloc(size_t count, size_t size);
HAK_EXPORT void *__libc_realloc(void *ptr, size_t size);
HAK_EXPORT void __libc_free(void *ptr);
HAK_EXPORT void *__libc_memalign(size_t alignment, size_t size);
HAK_EXPORT void *__libc_valloc(size_t size);
HAK_EXPORT void *__libc_pvalloc(size_t size);

void *__libc_malloc(size_t size) { return hak_entry_malloc(size); }
void *__libc_calloc(size_t count, size_t size) { return hak_entry_calloc(count, size); }
void *__libc_realloc(void *ptr, size_t size) { return hak_entry_realloc(ptr, size); }
void __libc_free(void *ptr) { hak_entry_free(ptr); }
void *__libc_memalign(size_t alignment, size_t size) { return hak_entry_memalign(alignment, size); }
// clang-tidy means the C library's functions, which are not thread-safe everywhere; these call the ones above.
void *__libc_valloc(size_t size) { return valloc(size); }    // NOLINT(concurrency-mt-unsafe)
void *__libc_pvalloc(size_t size) { return pvalloc(size); }  // NOLINT(concurrency-mt-unsafe)

#endif  // __GLIBC__

#endif  // HAK_SANITIZED
