// SPDX-License-Identifier: Apache-2.0
//
// System calls without the C library. The C library's functions may end the thread (pthread_cancel), may be wrapped by
// another library that allocates, and write errno. These functions do none of this, so they may be called under any
// lock.
//
// Builds with a sanitizer that has a malloc of its own call the C library nevertheless: its interceptors must see what
// is mapped and read.
//
// Used by this room, and by the few boxes of other rooms that wait or start threads.
#ifndef HAKMEM_OS_SYS_CALL_H_
#define HAKMEM_OS_SYS_CALL_H_

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "allocator/os/base.h"

// The result is the kernel's: on failure the negative error number.

#if HAK_SANITIZED

// The result of a C library function in the kernel's form; preserves errno.
#define HAK_SYS_OF_LIBC(call)                     \
  const int saved = errno;                        \
  const long said = (long)(call);                 \
  const long result = said == -1 ? -errno : said; \
  errno = saved;                                  \
  return result

HAK_INLINE long hak_sys_call(long number, long a, long b, long c, long d, long e, long f) {
  HAK_SYS_OF_LIBC(syscall(number, a, b, c, d, e, f));
}
HAK_INLINE long hak_sys_mmap(void *at, size_t size, int protection, int flags) {
  HAK_SYS_OF_LIBC(mmap(at, size, protection, flags, -1, 0));
}
HAK_INLINE long hak_sys_munmap(void *start, size_t size) { HAK_SYS_OF_LIBC(munmap(start, size)); }
HAK_INLINE long hak_sys_mremap(void *start, size_t size, size_t new_size, int flags, void *target) {
  HAK_SYS_OF_LIBC(mremap(start, size, new_size, flags, target));
}
HAK_INLINE long hak_sys_mprotect(void *start, size_t size, int protection) {
  HAK_SYS_OF_LIBC(mprotect(start, size, protection));
}
HAK_INLINE long hak_sys_getrandom(void *bytes, size_t size, unsigned flags) {
  HAK_SYS_OF_LIBC(getrandom(bytes, size, flags));
}
HAK_INLINE long hak_sys_open(const char *path, int flags) { HAK_SYS_OF_LIBC(open(path, flags)); }
HAK_INLINE long hak_sys_read(int file, void *bytes, size_t size) { HAK_SYS_OF_LIBC(read(file, bytes, size)); }
HAK_INLINE long hak_sys_write(int file, const void *bytes, size_t size) { HAK_SYS_OF_LIBC(write(file, bytes, size)); }
HAK_INLINE void hak_sys_close(int file) {
  const int saved = errno;
  close(file);
  errno = saved;
}

#else

#if defined(__x86_64__)
HAK_INLINE long hak_sys_call(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory", "cc");
  return result;
}
#elif defined(__aarch64__)
HAK_INLINE long hak_sys_call(long number, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
  return x0;
}
#else
#error "hakmem is for x86-64 and aarch64"
#endif

HAK_INLINE long hak_sys_mmap(void *at, size_t size, int protection, int flags) {
  return hak_sys_call(SYS_mmap, (long)at, (long)size, protection, flags, -1, 0);
}
HAK_INLINE long hak_sys_munmap(void *start, size_t size) {
  return hak_sys_call(SYS_munmap, (long)start, (long)size, 0, 0, 0, 0);
}
HAK_INLINE long hak_sys_mremap(void *start, size_t size, size_t new_size, int flags, void *target) {
  return hak_sys_call(SYS_mremap, (long)start, (long)size, (long)new_size, flags, (long)target, 0);
}
HAK_INLINE long hak_sys_mprotect(void *start, size_t size, int protection) {
  return hak_sys_call(SYS_mprotect, (long)start, (long)size, protection, 0, 0, 0);
}
HAK_INLINE long hak_sys_getrandom(void *bytes, size_t size, unsigned flags) {
  return hak_sys_call(SYS_getrandom, (long)bytes, (long)size, (long)flags, 0, 0, 0);
}
HAK_INLINE long hak_sys_open(const char *path, int flags) {
  return hak_sys_call(SYS_openat, AT_FDCWD, (long)path, flags, 0, 0, 0);
}
HAK_INLINE long hak_sys_read(int file, void *bytes, size_t size) {
  return hak_sys_call(SYS_read, file, (long)bytes, (long)size, 0, 0, 0);
}
HAK_INLINE long hak_sys_write(int file, const void *bytes, size_t size) {
  return hak_sys_call(SYS_write, file, (long)bytes, (long)size, 0, 0, 0);
}
HAK_INLINE void hak_sys_close(int file) { hak_sys_call(SYS_close, file, 0, 0, 0, 0, 0); }

#endif  // HAK_SANITIZED

// The numbers of the process and of the calling thread. Async-signal-safe. A seccomp filter may refuse the calls.
HAK_INLINE long hak_sys_getpid(void) { return hak_sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0); }
HAK_INLINE long hak_sys_gettid(void) { return hak_sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0); }

#endif  // HAKMEM_OS_SYS_CALL_H_
