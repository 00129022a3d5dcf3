// SPDX-License-Identifier: Apache-2.0
//
// Two threads write one variable; with any argument without synchronisation.
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool locked;
static int shared;

static void *count(void *unused) {
  for (int i = 0; i < 1000; i++) {
    if (locked) pthread_mutex_lock(&lock);
    shared++;
    if (locked) pthread_mutex_unlock(&lock);
  }
  return unused;
}

int main(int argc, char **argv) {
  (void)argv;
  locked = argc == 1;
  pthread_t other;
  if (pthread_create(&other, NULL, count, NULL) != 0) return 2;
  count(NULL);
  pthread_join(other, NULL);
  printf("counted %d\n", shared);
  return 0;
}
