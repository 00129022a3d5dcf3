// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/bin.h"

static void *no_block[HAK_BIN_SENTINELS];
#define NO_BIN {.top = &no_block[1], .limit = &no_block[1]}
const struct hak_cache hak_no_cache = {.bins = {[0 ... HAK_CLASS_COUNT - 1] = NO_BIN}};

void hak_bin_clear(struct hak_bin *bin, uint32_t reciprocal) {
  // As in hak_no_cache. One by one, and relaxed: statistics of another thread may be reading.
  hak_bin_set_base(bin, NULL);
  hak_bin_set_limit(bin, &no_block[1]);
  hak_bin_set_top(bin, &no_block[1]);
  bin->reciprocal = reciprocal;
  bin->start_least = 0 - reciprocal;
}
