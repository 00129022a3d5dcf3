// SPDX-License-Identifier: Apache-2.0
//
// The calls whose fast paths golden.py traces: each is the only call of a function step_NAME, which runs when the heap
// is warm. With STEPS_STATIC the program is linked with the allocator; otherwise the allocator is preloaded.
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE 64
#define WARM_ROUNDS 200
// golden.py takes the shortest of them: now and then a call also looks after idle memory, and what HARDENED does
// depends on a random number.
#define STEPS 20

typedef void *new_function(size_t size);
typedef void sized_function(void *block, size_t size);

static void *volatile kept;
static volatile size_t told;
static new_function *volatile operator_new;
static sized_function *volatile free_with_size, *volatile operator_delete;

#ifdef STEPS_STATIC
new_function _Znwm;
sized_function free_sized, _ZdlPvm;

static void look_up(void) {
  operator_new = _Znwm;
  free_with_size = free_sized;
  operator_delete = _ZdlPvm;
}
#else
// ISO C does not convert what dlsym returns to a function pointer.
typedef union {
  void *found;
  new_function *creates;
  sized_function *frees;
} symbol;

static symbol find(const char *name) {
  const symbol result = {dlsym(RTLD_DEFAULT, name)};
  if (result.found == NULL) fprintf(stderr, "steps: the allocator has no %s\n", name);
  return result;
}

static void look_up(void) {
  operator_new = find("_Znwm").creates;
  free_with_size = find("free_sized").frees;
  operator_delete = find("_ZdlPvm").frees;
}
#endif

#define STEP(name, statement)                       \
  static inline void do_##name(void) { statement; } \
  __attribute__((noinline)) void step_##name(void); \
  void step_##name(void) { statement; }

STEP(malloc, kept = malloc(SIZE))
STEP(free, free(kept))
STEP(free_sized, free_with_size(kept, SIZE))
STEP(calloc, kept = calloc(1, SIZE))
STEP(realloc, kept = realloc(kept, SIZE - 4))
STEP(aligned_alloc, kept = aligned_alloc(SIZE, SIZE))
STEP(usable_size, told = malloc_usable_size(kept))
STEP(new, kept = operator_new(SIZE))
STEP(delete_sized, operator_delete(kept, SIZE))

int main(void) {
  look_up();
  if (operator_new == NULL || free_with_size == NULL || operator_delete == NULL) return 1;
  for (int i = 0; i < WARM_ROUNDS; i++) {
    do_malloc();
    do_usable_size();
    do_realloc();
    do_free();
    do_calloc();
    do_free_sized();
    do_new();
    do_delete_sized();
    do_aligned_alloc();
    do_free();
  }
  for (int i = 0; i < STEPS; i++) {
    step_malloc();
    step_usable_size();
    step_free();
    step_malloc();
    step_free_sized();
    step_calloc();
    step_free();
    step_aligned_alloc();
    step_free();
    step_new();
    step_delete_sized();
    do_malloc();
    step_realloc();
    do_free();
  }
  puts("done");
  return 0;
}
