// SPDX-License-Identifier: Apache-2.0
//
// A kernel with larger pages, for LD_PRELOAD: HAK_TEST_PAGE_SIZE (a power of two of at least the real one) is the page
// size that sysconf tells, mmap and mremap give addresses at multiples of it, and memory calls that a kernel with such
// pages would refuse, or would carry out on more than was meant, end the program with a line on stderr.
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

long __sysconf(int name);  // the C library's own, which no preloaded name hides

static size_t page_size(void) {
  static size_t size;  // every thread reads the same
  if (size == 0) {
    const char *text = getenv("HAK_TEST_PAGE_SIZE");
    const size_t asked = text != NULL ? strtoul(text, NULL, 10) : 0;
    size = asked != 0 ? asked : (size_t)__sysconf(_SC_PAGESIZE);
  }
  return size;
}

static void line(const char *what) {
  static const char kEnd[] = ": not whole pages of HAK_TEST_PAGE_SIZE\n";
  if (write(STDERR_FILENO, "fake_pages: ", 12) < 0 || write(STDERR_FILENO, what, strlen(what)) < 0 ||
      write(STDERR_FILENO, kEnd, sizeof kEnd - 1) < 0)
    _exit(98);
}

// False: the kernel refuses a range that does not begin at a page. A range that does not end at one it rounds up, to
// what the caller may not have meant.
static bool check(const char *what, const void *start, size_t size) {
  if (((uintptr_t)start & (page_size() - 1)) != 0) {
    errno = EINVAL;
    return false;
  }
  if ((size & (page_size() - 1)) == 0) return true;
  line(what);
  abort();
}

EXPORT long sysconf(int name) { return name == _SC_PAGESIZE ? (long)page_size() : __sysconf(name); }

static void *raw_map(void *start, size_t size, int protection, int flags, int file, off_t offset) {
  return (void *)syscall(SYS_mmap, start, size, protection, flags, file, offset);
}

EXPORT void *mmap(void *start, size_t size, int protection, int flags, int file, off_t offset) {
  const size_t page = page_size();
  if ((flags & MAP_ANONYMOUS) == 0) return raw_map(start, size, protection, flags, file, offset);
  check("mmap", NULL, size);
  if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0) {
    if (!check("mmap at an address", start, size)) return MAP_FAILED;
    return raw_map(start, size, protection, flags, file, offset);
  }
  char *wide = raw_map(NULL, size + page, protection, flags, file, offset);
  if (wide == MAP_FAILED) return MAP_FAILED;
  char *aligned = (char *)(((uintptr_t)wide + page - 1) & ~(page - 1));
  const size_t before = (size_t)(aligned - wide);
  const int saved = errno;
  if (before != 0) syscall(SYS_munmap, wide, before);
  syscall(SYS_munmap, aligned + size, page - before);
  errno = saved;
  return aligned;
}

EXPORT int munmap(void *start, size_t size) {
  if (!check("munmap", start, size)) return -1;
  return (int)syscall(SYS_munmap, start, size);
}

EXPORT int mprotect(void *start, size_t size, int protection) {
  if (!check("mprotect", start, size)) return -1;
  return (int)syscall(SYS_mprotect, start, size, protection);
}

EXPORT int madvise(void *start, size_t size, int advice) {
  if (!check("madvise", start, size)) return -1;
  return (int)syscall(SYS_madvise, start, size, advice);
}

EXPORT void *mremap(void *start, size_t old_size, size_t size, int flags, ...) {
  if (!check("mremap", start, old_size | size)) return MAP_FAILED;
  if ((flags & MREMAP_FIXED) != 0) {
    va_list more;
    va_start(more, flags);
    void *to = va_arg(more, void *);
    va_end(more);
    if (!check("mremap to an address", to, 0)) return MAP_FAILED;
    return (void *)syscall(SYS_mremap, start, old_size, size, flags, to);
  }
  void *same = (void *)syscall(SYS_mremap, start, old_size, size, flags & ~MREMAP_MAYMOVE);
  if (same != MAP_FAILED || (flags & MREMAP_MAYMOVE) == 0) return same;
  // The kernel knows nothing of the alignment: a place is found first.
  void *to = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (to == MAP_FAILED) return MAP_FAILED;
  void *moved = (void *)syscall(SYS_mremap, start, old_size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
  if (moved == MAP_FAILED) {
    const int saved = errno;
    syscall(SYS_munmap, to, size);
    errno = saved;
  }
  return moved;
}

// A page is resident when a part of it is: the kernel that is played has no smaller ones.
EXPORT int mincore(void *start, size_t size, unsigned char *resident) {
  const size_t page = page_size(), real = (size_t)__sysconf(_SC_PAGESIZE);
  // Some ask for a part of a page by its own address; the kernel that is really there would answer that.
  start = (void *)((uintptr_t)start & ~(page - 1));
  for (size_t at = 0; at < size; at += page) {
    unsigned char parts[256];
    const size_t many = page / real < sizeof parts ? page / real : sizeof parts;
    if (syscall(SYS_mincore, (char *)start + at, many * real, parts) != 0) return -1;
    unsigned char any = 0;
    for (size_t i = 0; i < many; i++) any |= parts[i] & 1;
    resident[at / page] = any;
  }
  return 0;
}
