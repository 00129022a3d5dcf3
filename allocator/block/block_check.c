// SPDX-License-Identifier: Apache-2.0
//
// The end of the process when a small block is not in the state that it must be in.
#include "allocator/block/block_check.h"

HAK_COLD __attribute__((noreturn)) void hak_block_complain(const void *block, enum hak_region_state state,
                                                           uint32_t class_id, const char *if_free,
                                                           const char *if_other) {
  const bool is_free = state == HAK_REGION_IS_FREE || state == HAK_REGION_IS_PURGED;
  const char *what = state == HAK_REGION_IS_BROKEN ? "corrupted header" : is_free ? if_free : if_other;
  hak_fatal_block(what, block, hak_class_stride(class_id));
}
