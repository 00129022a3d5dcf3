// SPDX-License-Identifier: Apache-2.0
//
// The C functions of LLVM's AllocToken interface: what clang -fsanitize=alloc-token makes of a call of malloc, with a
// number behind the arguments that stands for the type of the block, or with the number in the name
// (-fsanitize-alloc-token-fast-abi; 0 and 1, for -falloc-token-max=2). cxx_compiler_new.c has operator new.
//
// 1 stands for a type with pointers: HARDENED keeps such blocks apart (guarded_entry.h). With every other number, and
// in the other profiles, each function jumps to the function that the source code calls, by its name, so that a program
// or a sanitizer may have its own.
#include <errno.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <stdlib.h>

#include "allocator/api/guarded_entry.h"
#include "allocator/os/base.h"
#include "allocator/os/os.h"

// Not declared by every C library.
HAK_EXPORT void *pvalloc(size_t size);

// `function` under a name that others define too.
// NOLINTBEGIN(bugprone-macro-parentheses): a name that is declared
#define NAME(function, name) HAK_EXPORT __typeof__(function) name __attribute__((weak, alias(#function)))
// NOLINTEND(bugprone-macro-parentheses)

#if HAK_HARDENED && (!HAK_SANITIZED || defined(HAK_RENAMED))

// malloc by a name that nobody replaces (libc_override.c).
__attribute__((weak, visibility("hidden"))) void *hak_override_malloc(size_t size);

// Whether the block is kept apart. A program with a malloc of its own would free it with its own free.
static bool is_apart(size_t token) { return token == HAK_TOKEN_POINTERS && malloc == hak_override_malloc; }
static void *take_apart(size_t align, size_t size, bool zero) {
  return hak_guarded_pointers(align, size, zero, HAK_KIND_MALLOC);
}
static void *resize_apart(void *block, size_t size) { return hak_guarded_pointers_realloc(block, size); }

// The function under its three names; the arguments stand behind `parameters`.
#define NAMES(type, called, parameters, ...)                                                      \
  static type zero_##called parameters { return token_##called(__VA_ARGS__, 0); }                 \
  static type one_##called parameters { return token_##called(__VA_ARGS__, HAK_TOKEN_POINTERS); } \
  NAME(token_##called, __alloc_token_##called);                                                   \
  NAME(zero_##called, __alloc_token_0_##called);                                                  \
  NAME(one_##called, __alloc_token_1_##called)

#else

static bool is_apart(size_t token) {
  (void)token;
  return false;
}
static void *take_apart(size_t align, size_t size, bool zero) {
  (void)align;
  (void)size;
  (void)zero;
  return NULL;
}
static void *resize_apart(void *block, size_t size) {
  (void)size;
  return block;
}

// The number is ignored, so it does not matter that it is missing.
#define NAMES(type, called, parameters, ...)      \
  NAME(token_##called, __alloc_token_##called);   \
  NAME(token_##called, __alloc_token_0_##called); \
  NAME(token_##called, __alloc_token_1_##called)

#endif

static void *token_malloc(size_t size, size_t token) {
  return is_apart(token) ? take_apart(HAK_MIN_ALIGN, size, false) : malloc(size);
}
NAMES(void *, malloc, (size_t size), size);

// Bad arguments are left to the function of the C library's name.
static void *token_calloc(size_t count, size_t size, size_t token) {
  size_t total;
  const bool overflows = __builtin_mul_overflow(count, size, &total);
  return !overflows && is_apart(token) ? take_apart(HAK_MIN_ALIGN, total, true) : calloc(count, size);
}
NAMES(void *, calloc, (size_t count, size_t size), count, size);

static void *token_realloc(void *block, size_t size, size_t token) {
  return is_apart(token) ? resize_apart(block, size) : realloc(block, size);
}
NAMES(void *, realloc, (void *block, size_t size), block, size);

static void *token_reallocarray(void *block, size_t count, size_t size, size_t token) {
  size_t total;
  const bool overflows = __builtin_mul_overflow(count, size, &total);
  return !overflows && is_apart(token) ? resize_apart(block, total) : reallocarray(block, count, size);
}
NAMES(void *, reallocarray, (void *block, size_t count, size_t size), block, count, size);

static void *token_aligned_alloc(size_t alignment, size_t size, size_t token) {
  if (is_apart(token) && hak_is_pow2(alignment)) return take_apart(alignment, size, false);
  return aligned_alloc(alignment, size);
}
NAMES(void *, aligned_alloc, (size_t alignment, size_t size), alignment, size);

static void *token_memalign(size_t alignment, size_t size, size_t token) {
  if (is_apart(token) && alignment <= (SIZE_MAX >> 1) + 1) {
    // The next power of two.
    return take_apart(alignment <= 1 ? 1 : (size_t)1 << (64 - __builtin_clzll(alignment - 1)), size, false);
  }
  return memalign(alignment, size);
}
NAMES(void *, memalign, (size_t alignment, size_t size), alignment, size);

static int token_posix_memalign(void **out, size_t alignment, size_t size, size_t token) {
  if (!is_apart(token) || !hak_is_pow2(alignment) || alignment % sizeof(void *) != 0) {
    return posix_memalign(out, alignment, size);
  }
  const int saved = errno;
  void *block = take_apart(alignment, size, false);
  errno = saved;
  if (block == NULL) return ENOMEM;
  *out = block;
  return 0;
}
NAMES(int, posix_memalign, (void **out, size_t alignment, size_t size), out, alignment, size);

// clang-tidy means the C library's functions, which are not thread-safe everywhere; hakmem's are.
static void *token_valloc(size_t size, size_t token) {
  if (is_apart(token)) return take_apart(hak_os_page_size(), size, false);
  return valloc(size);  // NOLINT(concurrency-mt-unsafe)
}
NAMES(void *, valloc, (size_t size), size);

static void *token_pvalloc(size_t size, size_t token) {
  if (is_apart(token) && size <= PTRDIFF_MAX) {
    return take_apart(hak_os_page_size(), hak_round_up(size, hak_os_page_size()), false);
  }
  return pvalloc(size);  // NOLINT(concurrency-mt-unsafe)
}
NAMES(void *, pvalloc, (size_t size), size);
