// SPDX-License-Identifier: Apache-2.0
//
// A program for hakmem_top_test: holds blocks of one size, and allocates and frees others until its input ends or its
// time is over. "quiet" as the second argument: it does nothing after its first blocks. "exec": at the end it executes
// itself once more.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HELD 20000
#define HELD_BYTES 200

int main(int argc, char **argv) {
  static void *volatile held[HELD];
  for (int i = 0; i < HELD; i++) held[i] = malloc(HELD_BYTES);
  void *volatile large = malloc((size_t)1 << 20);
  puts("ready");
  fflush(stdout);
  const int rounds = argc > 1 ? atoi(argv[1]) : 0;
  const int is_quiet = argc > 2 && strcmp(argv[2], "quiet") == 0;
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < HELD && !is_quiet; i++) {
      free(held[i]);
      held[i] = malloc(i % 2 == 0 ? HELD_BYTES : 3000);
    }
    for (int i = 0; i < HELD && !is_quiet; i++) {
      free(held[i]);
      held[i] = malloc(HELD_BYTES);
    }
    poll(NULL, 0, 20);
  }
  if (argc > 2 && strcmp(argv[2], "exec") == 0) execl("/proc/self/exe", argv[0], "100000", (char *)NULL);
  for (int i = 0; i < HELD; i++) free(held[i]);
  free(large);
  return 3;
}
