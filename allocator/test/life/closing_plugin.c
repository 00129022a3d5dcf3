// SPDX-License-Identifier: Apache-2.0
//
// A plugin with the allocator linked into it.
#include <hakmem/hakmem.h>
#include <string.h>

__attribute__((visibility("default"))) int plugin_work(void);

// Uses the allocator and frees everything. Not 0: it failed.
int plugin_work(void) {
  void *blocks[500];
  for (size_t i = 0; i < 500; i++) {
    blocks[i] = hak_malloc(10 + i * 13);
    if (blocks[i] == NULL) return 1;
    memset(blocks[i], 1, 10);
  }
  for (size_t i = 0; i < 500; i++) hak_free(blocks[i]);
  return 0;
}
