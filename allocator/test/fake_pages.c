// SPDX-License-Identifier: Apache-2.0
//
// Imitates a kernel with larger pages, by LD_PRELOAD. HAK_TEST_PAGE_SIZE (a power of two, at least the real page size)
// is the page size that sysconf and /proc/self/auxv report, and mmap and mremap return multiples of it. Memory calls
// that a kernel with such pages would refuse, or would apply to more memory than requested, end the program with a line
// on stderr.
//
// Functions of the C library are replaced by name. System calls that the program makes itself are caught by a seccomp
// filter, which checks the address of the instruction. The handler of its signal, SIGSYS, calls the same functions.
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

long __sysconf(int name);  // the C library's own function, which no preloaded name hides

static size_t page_bytes;  // set before any other code runs

static size_t page_size(void) {
  if (page_bytes == 0) page_bytes = (size_t)__sysconf(_SC_PAGESIZE);
  return page_bytes;
}

static void line(const char *what) {
  static const char kEnd[] = ": not whole pages of HAK_TEST_PAGE_SIZE\n";
  if (write(STDERR_FILENO, "fake_pages: ", 12) < 0 || write(STDERR_FILENO, what, strlen(what)) < 0 ||
      write(STDERR_FILENO, kEnd, sizeof kEnd - 1) < 0)
    _exit(98);
}

// Whether the range consists of whole pages. The kernel refuses a range that does not begin at a page, and rounds up
// one that does not end at a page, which the caller may not have meant.
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
  // The kernel does not know this alignment, so an address is chosen first.
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

// A large page is resident if a part of it is, because the imitated kernel has no smaller pages.
EXPORT int mincore(void *start, size_t size, unsigned char *resident) {
  const size_t page = page_size(), real = (size_t)__sysconf(_SC_PAGESIZE);
  // Some callers ask about a part of a page by its address, which the real kernel would answer.
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

// ---- System calls of the program itself ----------------------------------------------------------

#if defined(__x86_64__)
#define REGISTER(context, n) \
  (context)->uc_mcontext.gregs[(const int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9}[n]]
#define RESULT(context) (context)->uc_mcontext.gregs[REG_RAX]
#elif defined(__aarch64__)
#define REGISTER(context, n) (context)->uc_mcontext.regs[n]
#define RESULT(context) (context)->uc_mcontext.regs[0]
#endif

// A file that reads as /proc/self/auxv of a kernel with such pages.
static int open_auxv(void) {
  static Elf64_auxv_t vector[64];
  const int real = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/auxv", O_RDONLY);
  const long bytes = syscall(SYS_read, real, vector, sizeof vector);
  syscall(SYS_close, real);
  for (size_t i = 0; (long)(i * sizeof vector[0]) < bytes; i++) {
    if (vector[i].a_type == AT_PAGESZ) vector[i].a_un.a_val = page_size();
  }
  const int file = (int)syscall(SYS_memfd_create, "auxv", 0);
  if (file < 0 || bytes < 0 || write(file, vector, (size_t)bytes) != bytes || lseek(file, 0, SEEK_SET) != 0) _exit(97);
  return file;
}

static void answer(int number, siginfo_t *info, void *state) {
  (void)number;
  ucontext_t *context = state;
  const int saved = errno;
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = (long)REGISTER(context, i);
  long result;
  switch (info->si_syscall) {
    case SYS_mmap:
      result = (long)mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
      break;
    case SYS_munmap:
      result = munmap((void *)a[0], (size_t)a[1]);
      break;
    case SYS_mprotect:
      result = mprotect((void *)a[0], (size_t)a[1], (int)a[2]);
      break;
    case SYS_madvise:
      result = madvise((void *)a[0], (size_t)a[1], (int)a[2]);
      break;
    case SYS_mremap:
      result = (long)mremap((void *)a[0], (size_t)a[1], (size_t)a[2], (int)a[3], (void *)a[4]);
      break;
    case SYS_openat:
      result = strcmp((const char *)a[1], "/proc/self/auxv") == 0 ? open_auxv()
                                                                  : syscall(SYS_openat, a[0], a[1], a[2], a[3]);
      break;
    default:
      _exit(96);
  }
  RESULT(context) = result == -1 ? -errno : result;
  errno = saved;
}

// The program's own code: the executable mappings of its file. Nothing here may allocate, because the program's
// allocator would ask for the page size.
static bool find_code(uintptr_t *start, uintptr_t *end) {
  static char name[4096], text[65536];
  const long length = readlink("/proc/self/exe", name, sizeof name - 1);
  const int file = open("/proc/self/maps", O_RDONLY);
  size_t size = 0;
  for (long got; length > 0 && (got = read(file, text + size, sizeof text - 1 - size)) > 0;) size += (size_t)got;
  close(file);
  for (char *at = text; *at != '\0';) {
    char *next = strchr(at, '\n');
    next = next != NULL ? next + 1 : at + strlen(at);
    char *rest;
    const unsigned long from = strtoul(at, &rest, 16);
    const unsigned long to = *rest == '-' ? strtoul(rest + 1, &rest, 16) : 0;
    // `FROM-TO rwxp OFFSET DEVICE INODE NAME`
    const char *found = to != 0 && rest[3] == 'x' ? strstr(rest, name) : NULL;
    if (found != NULL && found < next) {
      if (*start == 0) *start = from;
      *end = to;
    }
    at = next;
  }
  return *start != 0;
}

// False: the kernel accepts no filter.
static bool filter(uintptr_t start, uintptr_t end) {
  static const int calls[] = {SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_openat};
  enum { CALLS = sizeof calls / sizeof calls[0], ALLOW = 6 + CALLS, TRAP };
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define POINTER offsetof(struct seccomp_data, instruction_pointer)
// The jump distances from instruction `at` if the test is true, and if it is false.
#define TEST(at, test, value, yes, no) \
  BPF_JUMP(BPF_JMP | (test) | BPF_K, (uint32_t)(value), (uint8_t)((yes) - (at) - 1), (uint8_t)((no) - (at) - 1))
  struct sock_filter code[TRAP + 1] = {
      [0] = LOAD(POINTER),
      [1] = TEST(1, BPF_JGE, start, 2, ALLOW),
      [2] = TEST(2, BPF_JGT, end - 1, ALLOW, 3),
      [3] = LOAD(POINTER + 4),
      [4] = TEST(4, BPF_JEQ, start >> 32, 5, ALLOW),
      [5] = LOAD(offsetof(struct seccomp_data, nr)),
      [ALLOW] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      [TRAP] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
  };
  for (int i = 0; i < CALLS; i++) {
    const int at = 6 + i;
    code[at] = (struct sock_filter)TEST(at, BPF_JEQ, calls[i], TRAP, at + 1);
  }
#undef LOAD
#undef POINTER
#undef TEST
  const struct sock_fprog program = {.len = TRAP + 1, .filter = code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Before the constructors of all other objects (-z initfirst), some of which allocate.
__attribute__((constructor)) static void begin(int count, char **arguments, char **environment) {
  static const char kName[] = "HAK_TEST_PAGE_SIZE=";
  (void)count;
  char **const first = environment;
  for (; *environment != NULL; environment++) {
    if (strncmp(*environment, kName, sizeof kName - 1) == 0) {
      page_bytes = strtoul(*environment + sizeof kName - 1, NULL, 10);
    }
  }
  uintptr_t start = 0, end = 0;
  if (!find_code(&start, &end)) _exit(95);
  // The filter compares halves of addresses. A program that lies across a multiple of 4 GiB starts itself again, at
  // another address.
  if (start >> 32 != (end - 1) >> 32) {
    execve("/proc/self/exe", arguments, first);
    _exit(93);
  }
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  if (sigaction(SIGSYS, &action, NULL) != 0 || !filter(start, end)) _exit(94);
}
