// SPDX-License-Identifier: Apache-2.0
//
// An allocator that a program of hakmem_run_test brings: as malloc, for all the process (OWN) or hidden from its
// libraries (HIDDEN), or under the name that jemalloc has in C programs (JEMALLOC).
#include <stddef.h>
#include <string.h>

#ifdef HIDDEN
#define SCOPE __attribute__((visibility("hidden")))
#else
#define SCOPE
#endif

static char arena[1 << 22] __attribute__((aligned(16)));
static size_t used;

static void *take(size_t size) {
  const size_t bytes = (size + 31) & ~(size_t)15;
  if (size > sizeof arena || bytes > sizeof arena - used) return NULL;
  char *block = arena + used + 16;
  used += bytes;
  memcpy(block - sizeof size, &size, sizeof size);
  return block;
}

#ifdef JEMALLOC
void *je_malloc(size_t size);
extern void *(*volatile own_malloc_used)(size_t);
void *je_malloc(size_t size) { return take(size); }
// The linker removes what nothing uses.
void *(*volatile own_malloc_used)(size_t) = je_malloc;
__attribute__((constructor)) static void use(void) { own_malloc_used(1); }
#else
SCOPE void *malloc(size_t size);
SCOPE void free(void *ptr);
SCOPE void *calloc(size_t count, size_t size);
SCOPE void *realloc(void *ptr, size_t size);

void *malloc(size_t size) { return take(size); }
void free(void *ptr) { (void)ptr; }
void *calloc(size_t count, size_t size) { return take(count * size); }
void *realloc(void *ptr, size_t size) {
  void *block = take(size);
  if (ptr == NULL || block == NULL) return block;
  size_t before;
  memcpy(&before, (char *)ptr - sizeof before, sizeof before);
  return memcpy(block, ptr, before < size ? before : size);
}
#endif
