// SPDX-License-Identifier: Apache-2.0
//
// The end of the process when a small block is not in the state that it must be in.
#include "allocator/block/block_check.h"

HAK_COLD __attribute__((noreturn)) void hak_block_complain(const void *block, enum hak_region_state state,
                                                           const char *if_free, const char *if_other) {
  if (state == HAK_REGION_IS_BROKEN) hak_fatal("corrupted header", block);
  const bool is_free = state == HAK_REGION_IS_FREE || state == HAK_REGION_IS_PURGED;
  hak_fatal(is_free ? if_free : if_other, block);
}
