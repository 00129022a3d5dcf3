// SPDX-License-Identifier: Apache-2.0
//
// A library that wraps functions of the C library and allocates in them, as libraries do that fake the time, root or a
// network, or that check memory and text. The environment variable HOOK names the function whose wrapper allocates; the
// others only pass the call on. hook_memory.c has the functions for memory and text.
#include "allocator/test/kernel/hook.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "allocator/os/bytes.h"

static int calls;
EXPORT int hook_calls(void);
EXPORT int hook_calls(void) { return __atomic_load_n(&calls, __ATOMIC_RELAXED); }

// Where the kernel put the number of arguments; the arguments, NULL and the environment follow. From the dynamic
// linker: libraries call wrappers before the C library has set `environ`.
extern void *const *__libc_stack_end;

static int is_chosen(const char *name) {
  const long arguments = (long)(intptr_t)__libc_stack_end[0];
  for (void *const *variable = &__libc_stack_end[1 + arguments + 1]; *variable != NULL; variable++) {
    const char *const text = *variable;
    if (hak_text_begins(text, "HOOK=")) return hak_text_is(text + 5, name);
  }
  return 0;
}

static __thread int inside;
void hook_allocate(const char *name) {
  if (inside) return;
  inside = 1;
  if (is_chosen(name)) {
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    for (size_t size = 10; size < 3000000; size *= 7) {
      char *volatile block = malloc(size);
      if (block != NULL) block[0] = block[size - 1] = 1;
      free(block);
    }
  }
  inside = 0;
}

// Defines the wrapper of a function with the given result, parameters and arguments.
#define WRAP(result, name, parameters, arguments)                        \
  EXPORT result name parameters {                                        \
    static result(*real) parameters;                                     \
    hook_allocate(#name);                                                \
    if (real == NULL) *(void **)(void *)&real = dlsym(RTLD_NEXT, #name); \
    return real arguments;                                               \
  }

WRAP(void *, mmap, (void *a, size_t b, int c, int d, int e, off_t f), (a, b, c, d, e, f))
WRAP(int, munmap, (void *a, size_t b), (a, b))
WRAP(int, mprotect, (void *a, size_t b, int c), (a, b, c))
WRAP(int, madvise, (void *a, size_t b, int c), (a, b, c))
WRAP(int, close, (int a), (a))
WRAP(ssize_t, read, (int a, void *b, size_t c), (a, b, c))
WRAP(ssize_t, write, (int a, const void *b, size_t c), (a, b, c))
WRAP(ssize_t, getrandom, (void *a, size_t b, unsigned c), (a, b, c))
WRAP(int, clock_gettime, (clockid_t a, struct timespec *b), (a, b))
WRAP(int, nanosleep, (const struct timespec *a, struct timespec *b), (a, b))
WRAP(int, poll, (struct pollfd * a, nfds_t b, int c), (a, b, c))
WRAP(int, sigprocmask, (int a, const sigset_t *b, sigset_t *c), (a, b, c))
WRAP(int, pthread_sigmask, (int a, const sigset_t *b, sigset_t *c), (a, b, c))
WRAP(int, getrlimit, (__rlimit_resource_t a, struct rlimit *b), (a, b))
WRAP(char *, getenv, (const char *a), (a))
WRAP(char *, secure_getenv, (const char *a), (a))
WRAP(unsigned long, getauxval, (unsigned long a), (a))
WRAP(long, sysconf, (int a), (a))
WRAP(int, pthread_key_create, (pthread_key_t * a, void (*b)(void *)), (a, b))
WRAP(int, pthread_setspecific, (pthread_key_t a, const void *b), (a, b))
WRAP(int, pthread_create, (pthread_t * a, const pthread_attr_t *b, void *(*c)(void *), void *d), (a, b, c, d))
WRAP(int, pthread_attr_init, (pthread_attr_t * a), (a))
WRAP(int, pthread_attr_setstacksize, (pthread_attr_t * a, size_t b), (a, b))

// Functions with a variable number of arguments: passes on as many as there can be.
EXPORT int open(const char *path, int flags, ...) {
  static int (*real)(const char *, int, ...);
  va_list rest;
  va_start(rest, flags);
  const int mode = va_arg(rest, int);
  va_end(rest);
  hook_allocate("open");
  if (real == NULL) *(void **)(void *)&real = dlsym(RTLD_NEXT, "open");
  return real(path, flags, mode);
}

EXPORT int openat(int folder, const char *path, int flags, ...) {
  static int (*real)(int, const char *, int, ...);
  va_list rest;
  va_start(rest, flags);
  const int mode = va_arg(rest, int);
  va_end(rest);
  hook_allocate("openat");
  if (real == NULL) *(void **)(void *)&real = dlsym(RTLD_NEXT, "openat");
  return real(folder, path, flags, mode);
}

EXPORT void *mremap(void *start, size_t size, size_t new_size, int flags, ...) {
  static void *(*real)(void *, size_t, size_t, int, ...);
  va_list rest;
  va_start(rest, flags);
  void *const to = va_arg(rest, void *);
  va_end(rest);
  hook_allocate("mremap");
  if (real == NULL) *(void **)(void *)&real = dlsym(RTLD_NEXT, "mremap");
  return real(start, size, new_size, flags, to);
}

EXPORT int prctl(int option, ...) {
  static int (*real)(int, ...);
  unsigned long more[4];
  va_list rest;
  va_start(rest, option);
  for (int i = 0; i < 4; i++) more[i] = va_arg(rest, unsigned long);
  va_end(rest);
  hook_allocate("prctl");
  if (real == NULL) *(void **)(void *)&real = dlsym(RTLD_NEXT, "prctl");
  return real(option, more[0], more[1], more[2], more[3]);
}

EXPORT long syscall(long number, ...) {
  static long (*real)(long, ...);
  long more[6];
  va_list rest;
  va_start(rest, number);
  for (int i = 0; i < 6; i++) more[i] = va_arg(rest, long);
  va_end(rest);
  hook_allocate("syscall");
  if (real == NULL) *(void **)(void *)&real = dlsym(RTLD_NEXT, "syscall");
  return real(number, more[0], more[1], more[2], more[3], more[4], more[5]);
}
