// SPDX-License-Identifier: Apache-2.0
//
// The C functions of LLVM's AllocToken interface: what clang -fsanitize=alloc-token makes of a call of malloc, with a
// number behind the arguments that stands for the type of the block, or with the number in the name
// (-fsanitize-alloc-token-fast-abi; 0 and 1, for -falloc-token-max=2). cxx_compiler_new.c has operator new.
//
// The number is ignored. Each function jumps to the function that the source code calls, by its name, so that a program
// or a sanitizer may have its own.
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <stdlib.h>

// Not declared by every C library.
HAK_EXPORT void *pvalloc(size_t size);

// `function` under a name that others define too, and under all its names. An argument that is ignored needs no
// parameter: callers pass it in a register.
// NOLINTBEGIN(bugprone-macro-parentheses): a name that is declared
#define NAME(function, name) HAK_EXPORT __typeof__(function) name __attribute__((weak, alias(#function)))
// NOLINTEND(bugprone-macro-parentheses)
#define NAMES(function, called)             \
  NAME(function, __alloc_token_##called);   \
  NAME(function, __alloc_token_0_##called); \
  NAME(function, __alloc_token_1_##called)

static void *token_malloc(size_t size) { return malloc(size); }
NAMES(token_malloc, malloc);

static void *token_calloc(size_t count, size_t size) { return calloc(count, size); }
NAMES(token_calloc, calloc);

static void *token_realloc(void *block, size_t size) { return realloc(block, size); }
NAMES(token_realloc, realloc);

static void *token_reallocarray(void *block, size_t count, size_t size) { return reallocarray(block, count, size); }
NAMES(token_reallocarray, reallocarray);

static void *token_aligned_alloc(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }
NAMES(token_aligned_alloc, aligned_alloc);

static void *token_memalign(size_t alignment, size_t size) { return memalign(alignment, size); }
NAMES(token_memalign, memalign);

static int token_posix_memalign(void **out, size_t alignment, size_t size) {
  return posix_memalign(out, alignment, size);
}
NAMES(token_posix_memalign, posix_memalign);

// clang-tidy means the C library's functions, which are not thread-safe everywhere; hakmem's are.
static void *token_valloc(size_t size) { return valloc(size); }  // NOLINT(concurrency-mt-unsafe)
NAMES(token_valloc, valloc);

static void *token_pvalloc(size_t size) { return pvalloc(size); }  // NOLINT(concurrency-mt-unsafe)
NAMES(token_pvalloc, pvalloc);
