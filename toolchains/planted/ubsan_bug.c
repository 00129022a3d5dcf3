// SPDX-License-Identifier: Apache-2.0
//
// Lets a signed integer overflow when it is given any argument.
#include <limits.h>
#include <stdio.h>

int main(int argc, char **argv) {
  (void)argv;
  volatile int start = INT_MAX - 1;
  printf("sum %d\n", start + argc);
  return 0;
}
