// SPDX-License-Identifier: Apache-2.0
//
// A program for hakmem_run_test: allocates, and prints its arguments, one per line.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
  for (int i = 0; i < argc; i++) {
    const size_t size = strlen(argv[i]) + 1;
    char *volatile copy = malloc(size);
    if (copy == NULL) return 1;
    memcpy(copy, argv[i], size);
    puts(copy);
    free(copy);
  }
  return 42;
}
