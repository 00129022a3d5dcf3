// SPDX-License-Identifier: Apache-2.0
//
// A C program of a user who installed hakmem: prints whether the C library's functions lead there.
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *hak_conf = "keep_superslabs=7";

int main(void) {
  char *volatile block = strdup("a block by a function of the C library");
  hak_stats stats = {.version = HAK_STATS_VERSION};
  const char *origin = "";
  const char *kept = hak_config_get("HAKMEM_KEEP_SUPERSLABS", &origin);
  if (block == NULL || hak_stats_get(&stats) != 0 || stats.live_blocks == 0 || hak_usable_size(block) < strlen(block)) {
    puts("another malloc serves");
    return 1;
  }
  free(block);
  if (kept == NULL || strcmp(kept, "7") != 0 || strcmp(origin, "hak_conf") != 0) {
    puts("hak_conf is not seen");
    return 1;
  }
  printf("hakmem %s serves\n", hak_version());
  return 0;
}
