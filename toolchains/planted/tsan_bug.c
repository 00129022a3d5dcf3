// SPDX-License-Identifier: Apache-2.0
//
// Two threads write one block; with any argument without synchronisation.
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool locked;

static void *count(void *shared) {
  for (int i = 0; i < 1000; i++) {
    if (locked) pthread_mutex_lock(&lock);
    ++*(int *)shared;
    if (locked) pthread_mutex_unlock(&lock);
  }
  return NULL;
}

int main(int argc, char **argv) {
  (void)argv;
  locked = argc == 1;
  int *shared = calloc(1, sizeof *shared);
  pthread_t other;
  if (shared == NULL || pthread_create(&other, NULL, count, shared) != 0) return 2;
  count(shared);
  pthread_join(other, NULL);
  printf("counted %d\n", *shared);
  free(shared);
  return 0;
}
