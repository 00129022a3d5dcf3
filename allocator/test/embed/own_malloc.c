// SPDX-License-Identifier: Apache-2.0
//
// usage: own_malloc CASE
//
// A program with its own malloc, calloc, realloc and free, which the C library's manual calls sufficient. The C library
// must use these, and so must functions that are defined by realloc and free. Each case is a process of its own. Exit
// status 0: passed, 2: there is no such case.
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char arena[64 << 20] __attribute__((aligned(16)));
static size_t used;

struct header {
  size_t mark;
  size_t size;
};
#define LIVE 0x6f776e6d

static int is_own(const void *ptr) {
  const uintptr_t at = (uintptr_t)ptr;
  return at >= (uintptr_t)arena && at < (uintptr_t)arena + sizeof arena;
}

static struct header *header_of(void *ptr) {
  struct header *header = (struct header *)ptr - 1;
  if (!is_own(ptr) || header->mark != LIVE) {
    static const char text[] = "FAILED: the program's free or realloc got a foreign block\n";
    if (write(1, text, sizeof text - 1) < 0) _exit(4);
    _exit(3);
  }
  return header;
}

void *malloc(size_t size) {
  const size_t bytes = (sizeof(struct header) + size + 15) & ~(size_t)15;
  if (size > sizeof arena) return NULL;
  // Relaxed: each call gets its own part, and nothing else is ordered by it.
  const size_t at = __atomic_fetch_add(&used, bytes, __ATOMIC_RELAXED);
  if (at + bytes > sizeof arena) return NULL;
  struct header *header = (struct header *)(void *)(arena + at);
  header->mark = LIVE;
  header->size = size;
  return header + 1;
}
void free(void *ptr) {
  if (ptr != NULL) header_of(ptr)->mark = 0;
}
void *calloc(size_t count, size_t size) {
  void *block = malloc(count * size);
  return block != NULL ? memset(block, 0, count * size) : NULL;
}
void *realloc(void *ptr, size_t size) {
  if (ptr == NULL) return malloc(size);
  const struct header *header = header_of(ptr);
  void *moved = malloc(size);
  if (moved == NULL) return NULL;
  memcpy(moved, ptr, header->size < size ? header->size : size);
  free(ptr);
  return moved;
}

extern void cfree(void *ptr) __attribute__((weak));
extern void free_sized(void *ptr, size_t size) __attribute__((weak));

static int freed(void *ptr) {
  const int own = ptr != NULL && is_own(ptr);
  free(ptr);
  return own ? 0 : 1;
}

static int by_reallocarray(void) {
  char *block = malloc(100);
  memcpy(block, "text", 5);
  block = reallocarray(block, 100, 50);
  if (block == NULL || memcmp(block, "text", 5) != 0) return 1;
  volatile size_t half = SIZE_MAX / 2;
  if (reallocarray(block, half, 3) != NULL) return 1;
  return freed(block) | freed(reallocarray(NULL, 10, 50));
}
static int by_getline(void) {
  char *text = NULL;
  size_t room = 0;
  FILE *file = fopen("/proc/self/maps", "r");
  while (file != NULL && getline(&text, &room, file) > 0) {
  }
  if (file != NULL) fclose(file);
  return freed(text);
}
static int by_asprintf(void) {
  char *text = NULL;
  return asprintf(&text, "%5000d", 7) != 5000 || freed(text);
}
static int by_open_memstream(void) {
  char *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  if (stream == NULL) return 1;
  for (int i = 0; i < 5000; i++) fprintf(stream, "%d ", i);
  fclose(stream);
  return freed(text);
}
static int by_paths(void) { return freed(realpath("/usr/../usr", NULL)) | freed(getcwd(NULL, 0)); }
static int by_strdup(void) { return freed(strdup("text")) | freed(strndup("texts", 4)); }
static int by_cfree(void) {
  if (cfree != NULL) cfree(malloc(10));
  return 0;
}
static void *thread_body(void *context) { return realloc(context, 1000); }
static int by_threads(void) {
  pthread_t thread;
  void *result = NULL;
  if (pthread_create(&thread, NULL, thread_body, malloc(10)) != 0 || pthread_join(thread, &result) != 0) return 1;
  return freed(result);
}
static int by_setvbuf(void) {
  FILE *file = fopen("/proc/self/maps", "r");
  if (file == NULL || fgetc(file) == EOF) return 1;
  return fclose(file);
}

int main(int argc, char **argv) {
  static int (*const cases[])(void) = {by_reallocarray, by_getline, by_asprintf, by_open_memstream, by_paths,
                                       by_strdup,       by_cfree,   by_threads,  by_setvbuf};
  const size_t which = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
  return which < sizeof cases / sizeof cases[0] ? cases[which]() : 2;
}
