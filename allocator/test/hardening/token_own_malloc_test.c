// SPDX-License-Identifier: Apache-2.0
//
// A program with a malloc and free of its own, on the shared library: whatever the compiler says of a block's type, the
// block is the program's. No compiler of Debian emits these calls, so the test makes them.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__alloc_token_malloc(size_t size, size_t token);
void *__alloc_token_1_malloc(size_t size);
void *__alloc_token_1_calloc(size_t count, size_t size);
void *__alloc_token_1_realloc(void *block, size_t size);

static _Alignas(16) char memory[1 << 20];
static size_t used;
static int calls;

void *malloc(size_t size) {
  if (size > sizeof memory - 16 - used) return NULL;
  calls++;
  void *block = memory + used;
  used += (size + 15) & ~(size_t)15;
  return block;
}

void *calloc(size_t count, size_t size) { return malloc(count * size); }  // the memory is used once
void *realloc(void *block, size_t size) {
  void *moved = malloc(size);
  if (block != NULL && moved != NULL) memcpy(moved, block, size);
  return moved;
}
void free(void *block) { (void)block; }

static int expect_own(const char *what, const void *block, int before) {
  if ((uintptr_t)block - (uintptr_t)memory < sizeof memory && calls == before + 1) return 0;
  (void)fprintf(stderr, "%s: %p is not the program's block\n", what, block);
  return 1;
}

int main(void) {
  int failures = 0;
  int before = calls;
  void *block = __alloc_token_1_malloc(40);
  failures += expect_own("malloc, 1 in the name", block, before);
  before = calls;
  failures += expect_own("realloc, 1 in the name", __alloc_token_1_realloc(block, 50), before);
  before = calls;
  failures += expect_own("calloc, 1 in the name", __alloc_token_1_calloc(3, 20), before);
  before = calls;
  failures += expect_own("malloc, 1 behind the size", __alloc_token_malloc(40, 1), before);
  return failures == 0 ? 0 : 1;
}
