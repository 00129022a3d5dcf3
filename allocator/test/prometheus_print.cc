// SPDX-License-Identifier: Apache-2.0
//
// Prints the statistics in the text format of Prometheus, with a block of each kind live so that every label is there.
#include <hakmem/hakmem.h>
#include <stdio.h>

int main() {
  static char text[HAK_STATS_TEXT_BYTES];
  void *small = hak_malloc(100);
  void *large = hak_malloc(100000);
  const size_t length = hak_stats_prometheus(text, sizeof text);
  hak_free(small);
  hak_free(large);
  return length < sizeof text && fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? 0 : 1;
}
