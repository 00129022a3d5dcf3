// SPDX-License-Identifier: Apache-2.0
#include "allocator/check/block_check.h"

#include "allocator/check/poison.h"
#include "allocator/os/report.h"
#include "allocator/tiny/tiny_region_id.h"

// Whether what follows the block is a header that an overflow has not touched.
static bool behind_is_intact(const void *block, uint32_t class_id) {
  const char *behind = (const char *)block + hak_class_stride(class_id);
  return HAK_HEADER != HAK_HEADER_MODE_ALWAYS || tiny_region_id_state(behind, class_id) != HAK_REGION_IS_BROKEN;
}

void hak_block_check_out(void *block, uint32_t class_id) {
  const enum hak_region_state state = tiny_region_id_state(block, class_id);
  if (HAK_HEADER == HAK_HEADER_MODE_ALWAYS) {
    if (HAK_UNLIKELY(state != HAK_REGION_IS_FREE && state != HAK_REGION_IS_FRESH)) {
      hak_fatal(state == HAK_REGION_IS_LIVE ? "block handed out twice" : "corrupted header", block);
    }
    if (state == HAK_REGION_IS_FREE && HAK_UNLIKELY(!hak_poison_intact(block, hak_class_usable(class_id)))) {
      hak_fatal("write after free", block);
    }
  }
  tiny_region_id_set_live(block, class_id);
}

void hak_block_require_live(const void *block, uint32_t class_id, const char *if_free, const char *if_other) {
  const enum hak_region_state state = tiny_region_id_state(block, class_id);
  if (HAK_LIKELY(state == HAK_REGION_IS_LIVE)) return;
  if (state == HAK_REGION_IS_BROKEN) hak_fatal("corrupted header", block);
  hak_fatal(state == HAK_REGION_IS_FREE ? if_free : if_other, block);
}

void hak_block_check_in(void *block, uint32_t class_id) {
  hak_block_require_live(block, class_id, "double free", "invalid free");
  if (HAK_UNLIKELY(!behind_is_intact(block, class_id))) hak_fatal("overflow", block);
  tiny_region_id_set_free(block, class_id);
  hak_poison_fill(block, hak_class_usable(class_id));
}

void hak_block_require_untouched(const void *block, uint32_t class_id) {
  if (HAK_HEADER == HAK_HEADER_MODE_ALWAYS && tiny_region_id_state(block, class_id) == HAK_REGION_IS_FREE &&
      HAK_UNLIKELY(!hak_poison_intact(block, hak_class_usable(class_id)))) {
    hak_fatal("write after free", block);
  }
}

void hak_block_check_live(const void *block, uint32_t class_id) {
  hak_block_require_live(block, class_id, "invalid pointer", "invalid pointer");
}
