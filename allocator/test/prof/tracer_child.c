// SPDX-License-Identifier: Apache-2.0
//
// usage: tracer_child      for tracer_process_test.py
//
// Whenever it reads a line, it makes some work of malloc's and answers how many blocks were sampled since the line
// before.
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCKS 5000

// The library that is preloaded, or this program, has them.
extern __typeof__(hak_prof_visit_stacks) hak_prof_visit_stacks __attribute__((weak));

static int add(const hak_prof_stack *stack, void *sum) {
  *(double *)sum += stack->alloc_objects;
  return 0;
}

int main(void) {
  static void *blocks[BLOCKS];
  char line[16];
  double before = 0;
  while (fgets(line, sizeof line, stdin) != NULL) {
    for (int i = 0; i < BLOCKS; i++) {
      blocks[i] = malloc(1000);
      if (blocks[i] == NULL) return 1;
    }
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    double now = 0;
    if (hak_prof_visit_stacks == NULL || hak_prof_visit_stacks(add, &now) != 0) return 2;
    printf("%.0f\n", now - before);
    fflush(stdout);
    before = now;
  }
  return 0;
}
