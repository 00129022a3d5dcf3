// SPDX-License-Identifier: Apache-2.0
//
// Which allocator a process runs on. Looks for symbols that only one allocator has in the object that defines the
// process's `malloc`. Symbols of other objects do not count, so a library that is loaded but not used is not mistaken
// for the allocator.
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/workloads/workload.h"

static const void *base_of(const void *address, const char **path) {
  Dl_info info;
  if (!address || dladdr(address, &info) == 0) return NULL;
  if (path && info.dli_fname) *path = info.dli_fname;
  return info.dli_fbase;
}

// The symbol if the object at `base` defines it, otherwise NULL.
static void *symbol_in(const void *base, const char *name) {
  void *symbol = dlsym(RTLD_DEFAULT, name);
  return symbol && base_of(symbol, NULL) == base ? symbol : NULL;
}

// POSIX gives pointers to objects and to functions one representation, but ISO C has no cast between them.
#define AS_FUNCTION(type, symbol) \
  (((union {                      \
     void *object;                \
     __typeof__(type) function;   \
   }){.object = (symbol)})        \
       .function)

static bool describe_mimalloc(const void *base, char *text, size_t size) {
  void *symbol = symbol_in(base, "mi_version");
  if (!symbol) return false;
  int v = AS_FUNCTION(int (*)(void), symbol)();
  // 209 is 2.0.9; newer releases count 30403 for 3.4.3.
  int radix = v < 10000 ? 10 : 100;
  snprintf(text, size, "mimalloc %d.%d.%d", v / radix / radix, v / radix % radix, v % radix);
  return true;
}

static bool describe_jemalloc(const void *base, char *text, size_t size) {
  void *symbol = symbol_in(base, "mallctl");
  if (!symbol) symbol = symbol_in(base, "je_mallctl");
  if (!symbol) return false;
  const char *version = "unknown";
  size_t length = sizeof version;
  AS_FUNCTION(int (*)(const char *, void *, size_t *, void *, size_t), symbol)("version", &version, &length, NULL, 0);
  snprintf(text, size, "jemalloc %.*s", (int)strcspn(version, "-"), version);
  return true;
}

static bool describe_tcmalloc(const void *base, char *text, size_t size) {
  void *symbol = symbol_in(base, "tc_version");
  if (symbol) {
    int major = 0, minor = 0;
    const char *patch = "";
    AS_FUNCTION(const char *(*)(int *, int *, const char **), symbol)(&major, &minor, &patch);
    snprintf(text, size, "tcmalloc gperftools-%d.%d%s", major, minor, patch ? patch : "");
    return true;
  }
  if (!symbol_in(base, "TCMallocInternalMalloc")) return false;
  snprintf(text, size, "tcmalloc google");
  return true;
}

static bool describe_hakmem(const void *base, char *text, size_t size) {
  void *symbol = symbol_in(base, "hak_version");
  if (!symbol) return false;
  snprintf(text, size, "hakmem %s", AS_FUNCTION(const char *(*)(void), symbol)());
  return true;
}

static bool describe_noop(const void *base, char *text, size_t size) {
  if (!symbol_in(base, "hakmem_bench_noop_enter")) return false;
  snprintf(text, size, "noop floor");
  return true;
}

static bool describe_glibc(const void *base, char *text, size_t size) {
  if (!symbol_in(base, "gnu_get_libc_version")) return false;
  snprintf(text, size, "glibc %s", gnu_get_libc_version());
  return true;
}

// Allocators that export only the C library's names are recognised by their file's name.
static void describe_by_path(const char *path, char *text, size_t size) {
  static const char *const names[] = {"snmalloc", "rpmalloc", "hardened_malloc", "scudo"};
  const char *file = strrchr(path, '/');
  file = file ? file + 1 : path;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strstr(file, names[i])) {
      snprintf(text, size, "%s unknown-version", names[i]);
      return;
    }
  }
  snprintf(text, size, "unknown unknown-version");
}

void allocator_print(void) {
  static bool (*const describers[])(const void *, char *, size_t) = {
      describe_hakmem, describe_noop, describe_mimalloc, describe_jemalloc, describe_tcmalloc, describe_glibc,
  };
  const char *path = "unknown";
  const char *free_path = "unknown";
  const void *base = base_of(dlsym(RTLD_DEFAULT, "malloc"), &path);
  if (base_of(dlsym(RTLD_DEFAULT, "free"), &free_path) != base) {
    fprintf(stderr, "random_mixed: malloc comes from %s but free from %s\n", path, free_path);
    exit(1);
  }
  char text[256];
  bool known = false;
  for (size_t i = 0; i < sizeof describers / sizeof *describers && !known; i++) {
    known = describers[i](base, text, sizeof text);
  }
  if (!known) describe_by_path(path, text, sizeof text);
  printf("Allocator = %s (%s)\n", text, path);
}
