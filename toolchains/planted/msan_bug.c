// SPDX-License-Identifier: Apache-2.0
//
// With any argument, branches on uninitialised memory.
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  (void)argv;
  volatile char *block = malloc(24);
  if (block == NULL) return 2;
  block[0] = 1;
  if (block[argc > 1 ? 1 : 0] != 0) puts("not zero");
  free((void *)(size_t)block);
  return 0;
}
