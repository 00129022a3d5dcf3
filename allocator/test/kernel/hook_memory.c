// SPDX-License-Identifier: Apache-2.0
//
// Wrappers of the C library's functions for memory and text. See hook.c. The dynamic linker and the allocator may call
// them while a wrapper looks up the C library's function; then the wrapper does the work itself.
#include <dlfcn.h>
#include <stddef.h>

#include "allocator/os/bytes.h"
#include "allocator/test/kernel/hook.h"

static __thread int looking_up;
static void *look_up(const char *name) {
  if (looking_up) return NULL;
  looking_up = 1;
  void *const found = dlsym(RTLD_NEXT, name);
  looking_up = 0;
  return found;
}

// Defines the wrapper of a function with the given result, parameters and arguments, and what it does by itself.
#define WRAP(result, name, parameters, arguments, itself)       \
  EXPORT result name parameters;                                \
  EXPORT result name parameters {                               \
    static result(*real) parameters;                            \
    hook_allocate(#name);                                       \
    if (real == NULL) *(void **)(void *)&real = look_up(#name); \
    if (real != NULL) return real arguments;                    \
    itself                                                      \
  }

static int difference(char a, char b) { return (int)(unsigned char)a - (int)(unsigned char)b; }

static int compare(const char *a, const char *b, size_t size) {
  size_t i = 0;
  while (i < size && a[i] == b[i]) i++;
  return i < size ? difference(a[i], b[i]) : 0;
}

static int compare_texts(const char *a, const char *b, size_t size) {
  size_t i = 0;
  while (i < size && a[i] == b[i] && a[i] != '\0') i++;
  return i < size ? difference(a[i], b[i]) : 0;
}

// The first place of the byte, or `size`.
static size_t find(const char *start, int byte, size_t size) {
  size_t i = 0;
  while (i < size && start[i] != (char)byte) i++;
  return i;
}

static void *copy(char *to, const char *from, size_t size) {
  // From the last byte to the first where the areas overlap so.
  if (to <= from || to >= from + size) {
    hak_bytes_copy(to, from, size);
  } else {
    while (size-- > 0) to[size] = from[size];
  }
  return to;
}

static void *fill(void *start, int byte, size_t size) {
  hak_bytes_fill(start, (unsigned char)byte, size);
  return start;
}

static size_t length_without(const char *text, const char *rejected) {
  size_t i = 0;
  for (; text[i] != '\0'; i++) {
    for (const char *one = rejected; *one != '\0'; one++) {
      if (*one == text[i]) return i;
    }
  }
  return i;
}

static char *writable(const char *text) { return (char *)(uintptr_t)text; }

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): the C library has its own.
WRAP(void *, memcpy, (void *a, const void *b, size_t c), (a, b, c), { return copy(a, b, c); })
WRAP(void *, memmove, (void *a, const void *b, size_t c), (a, b, c), { return copy(a, b, c); })
WRAP(void *, memset, (void *a, int b, size_t c), (a, b, c), { return fill(a, b, c); })
WRAP(int, memcmp, (const void *a, const void *b, size_t c), (a, b, c), { return compare(a, b, c); })
WRAP(int, bcmp, (const void *a, const void *b, size_t c), (a, b, c), { return compare(a, b, c); })
WRAP(void *, memchr, (const void *a, int b, size_t c), (a, b, c), {
  const size_t at = find(a, b, c);
  return at < c ? writable((const char *)a + at) : NULL;
})
WRAP(size_t, strlen, (const char *a), (a), { return hak_text_length(a); })
WRAP(size_t, strnlen, (const char *a, size_t b), (a, b), { return find(a, 0, b); })
WRAP(int, strcmp, (const char *a, const char *b), (a, b), { return compare_texts(a, b, (size_t)-1); })
WRAP(int, strncmp, (const char *a, const char *b, size_t c), (a, b, c), { return compare_texts(a, b, c); })
WRAP(char *, strchr, (const char *a, int b), (a, b), {
  const size_t end = hak_text_length(a) + 1;
  const size_t at = find(a, b, end);
  return at < end ? writable(a + at) : NULL;
})
WRAP(size_t, strcspn, (const char *a, const char *b), (a, b), { return length_without(a, b); })
WRAP(char *, strstr, (const char *a, const char *b), (a, b), { return writable(hak_text_find(a, b)); })
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
