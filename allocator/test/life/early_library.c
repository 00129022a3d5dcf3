// SPDX-License-Identifier: Apache-2.0
//
// A library whose constructor registers fork handlers and allocates nothing. It is the first to do so in its process.
#include <pthread.h>
#include <stddef.h>

// The program sets what the handlers call; NULL: nothing.
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
