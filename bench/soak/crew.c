// SPDX-License-Identifier: Apache-2.0
//
// Threads on stacks of the harness, because the C library would map stacks while calls of mmap are counted.
#include <string.h>
#include <sys/mman.h>

#include "bench/soak/soak.h"

enum { STACK = 256 * 1024, USED = 32 * 1024 };

static unsigned char *stacks;

void crew_init(uint32_t count) {
  stacks = scratch_map((size_t)count * STACK);
  // A stack grows down from its end. The part that a thread will touch is touched here, before anything is counted.
  for (uint32_t i = 0; i < count; i++) memset(stacks + ((size_t)i + 1) * STACK - USED, 0, USED);
  harness_add((size_t)count * USED);
}

void crew_start(uint32_t place, pthread_t *thread, void *(*body)(void *), void *arg) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  int error = pthread_attr_setstack(&attributes, stacks + (size_t)place * STACK, STACK);
  if (error == 0) error = pthread_create(thread, &attributes, body, arg);
  pthread_attr_destroy(&attributes);
  if (error != 0) soak_fail("cannot start a thread: %s", strerror(error));
}
