// SPDX-License-Identifier: Apache-2.0
//
// The cache without room, and bins without an array.
#include "allocator/heap/bin.h"

static void *no_block[HAK_BIN_SENTINELS];
#define NO_BIN {.top = &no_block[1], .limit = &no_block[1]}
const struct hak_cache hak_no_cache = {.bins = {[0 ... HAK_CLASS_IDS - 1] = NO_BIN}};

void hak_bin_clear(struct hak_bin *bin, uint32_t reciprocal) {
  // As in hak_no_cache. One field at a time, and relaxed: another thread may read them for statistics.
  hak_bin_set_base(bin, NULL);
  hak_bin_set_limit(bin, &no_block[1]);
  hak_bin_set_top(bin, &no_block[1]);
  bin->reciprocal = reciprocal;
  bin->negated = 0 - reciprocal;
}
