// SPDX-License-Identifier: Apache-2.0
//
// heap_bugs [overflow|uninitialised|race]: makes one mistake with a block of malloc, or none.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int with_lock = 1;

static void *add(void *number) {
  if (with_lock) pthread_mutex_lock(&lock);
  ++*(int *)number;
  if (with_lock) pthread_mutex_unlock(&lock);
  return NULL;
}

int main(int argc, char **argv) {
  const char *bug = argc > 1 ? argv[1] : "none";
  with_lock = strcmp(bug, "race") != 0;

  int *volatile numbers = malloc(4 * sizeof *numbers);
  if (numbers == NULL) return 2;
  numbers[0] = 1;
  if (strcmp(bug, "overflow") == 0) numbers[4] = 1;
  if (numbers[strcmp(bug, "uninitialised") == 0 ? 1 : 0] == 7) puts("seven");

  pthread_t other;
  if (pthread_create(&other, NULL, add, numbers) != 0) return 2;
  add(numbers);
  pthread_join(other, NULL);
  printf("counted to %d\n", numbers[0]);
  free(numbers);
  return 0;
}
