// SPDX-License-Identifier: Apache-2.0
//
// With any argument, a signed integer overflows.
#include <limits.h>
#include <stdio.h>

int main(int argc, char **argv) {
  (void)argv;
  volatile int start = INT_MAX - 1;
  printf("sum %d\n", start + argc);
  return 0;
}
