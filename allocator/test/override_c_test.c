// SPDX-License-Identifier: Apache-2.0
//
// A program in C: it does not need the C++ runtime, and the override must not link it.
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>

// Defined if anything of the C++ runtime is linked.
extern __attribute__((weak)) void __cxa_throw(void *, void *, void (*)(void *));

int main(void) {
  void *volatile block = malloc(100);
  hak_stats stats = {.version = HAK_STATS_VERSION};
  hak_stats_get(&stats);
  free(block);
  if (stats.live_blocks == 0) {
    puts("FAILED: another malloc served");
    return 1;
  }
  if (__cxa_throw != NULL) {
    puts("FAILED: the C++ runtime is linked in");
    return 1;
  }
  puts("the override serves a program in C");
  return 0;
}
