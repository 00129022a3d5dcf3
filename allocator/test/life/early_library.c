// SPDX-License-Identifier: Apache-2.0
//
// A library whose constructor registers handlers of fork, and allocates nothing: the first one to do so in its process.
#include <pthread.h>
#include <stddef.h>

// What the handlers call, set by the program; NULL: nothing.
__attribute__((visibility("default"))) extern void (*early_prepare)(void);
__attribute__((visibility("default"))) extern void (*early_child)(void);
void (*early_prepare)(void);
void (*early_child)(void);

static void prepare(void) {
  if (early_prepare != NULL) early_prepare();
}

static void in_child(void) {
  if (early_child != NULL) early_child();
}

__attribute__((constructor)) static void start(void) { pthread_atfork(prepare, NULL, in_child); }
