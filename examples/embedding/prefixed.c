// SPDX-License-Identifier: Apache-2.0
//
// hakmem's prefixed functions, beside the malloc of the program.
#include <hakmem/hakmem.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t live_blocks(void) {
  hak_stats stats = {.version = HAK_STATS_VERSION};
  return hak_stats_get(&stats) == 0 ? stats.live_blocks : UINT64_MAX;
}

int main(void) {
  printf("hakmem %s\n", hak_version());

  // Requests the largest size that needs no more memory.
  const size_t size = hak_good_size(1000);
  char *text = hak_malloc(size);
  if (text == NULL) return 1;
  memset(text, 'x', size);
  printf("%zu bytes may be used of %zu\n", hak_usable_size(text), size);

  // The program's own malloc is not hakmem's.
  const uint64_t before = live_blocks();
  void *volatile other = malloc(1000);
  const uint64_t after = live_blocks();
  free(other);
  printf("hakmem holds %" PRIu64 " blocks, and %" PRIu64 " after a malloc\n", before, after);

  char *longer = hak_realloc(text, 100000);
  if (longer == NULL) {
    hak_free(text);
    return 1;
  }
  const bool kept = longer[0] == 'x' && longer[999] == 'x';
  hak_free(longer);
  hak_trim(0);  // returns all free memory to the operating system
  return before == 1 && after == 1 && kept && live_blocks() == 0 && hak_heap_verify() ? 0 : 1;
}
