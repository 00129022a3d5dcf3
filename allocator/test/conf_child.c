// SPDX-License-Identifier: Apache-2.0
//
// A program that allocates, with or without settings of its own, and prints that main has begun. HAKMEM_SHOW_CONFIG
// prints the values in force.
#include <hakmem/hakmem.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if HAK_TEST_OWN_CONF
const char *hak_conf = "profile=speed, keep_superslabs=7";
#endif

int main(void) {
  if (write(STDOUT_FILENO, "main\n", 5) != 5) return 2;
  char *volatile block = malloc(100);
  if (block == NULL) return 1;
  memset(block, 1, 100);
  const int result = block[99] == 1 ? 0 : 1;
  free(block);
  return result;
}
