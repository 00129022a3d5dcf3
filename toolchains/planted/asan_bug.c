// SPDX-License-Identifier: Apache-2.0
//
// With any argument, reads one byte behind a block.
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  (void)argv;
  size_t size = 32;  // hwasan sees whole 16 bytes only
  volatile char *block = calloc(size, 1);
  if (block == NULL) return 2;
  size_t at = argc > 1 ? size : size - 1;
  printf("read %d\n", block[at]);
  free((void *)(size_t)block);
  return 0;
}
