// SPDX-License-Identifier: Apache-2.0
//
// Poison: in OBSERVE builds with the header lane on `always`, a free small block is filled with a pattern, and whoever
// gets it next checks that nobody wrote to it meanwhile. Does nothing elsewhere.
#ifndef HAKMEM_CHECK_POISON_H_
#define HAKMEM_CHECK_POISON_H_

#include <string.h>

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

#define HAK_POISON_ON (HAK_OBSERVE && HAK_HEADER == HAK_HEADER_MODE_ALWAYS)
#define HAK_POISON_BYTE 0xDBu

HAK_INLINE void hak_poison_fill(void *block, size_t usable) {
  if (HAK_POISON_ON) memset(block, HAK_POISON_BYTE, usable);
}

// The first eight bytes, where a free block may have carried a link.
HAK_INLINE void hak_poison_link(void *block) { hak_poison_fill(block, 8); }

// Whether the block still holds the pattern.
HAK_INLINE bool hak_poison_intact(const void *block, size_t usable) {
  const unsigned char *byte = (const unsigned char *)block;
  for (size_t i = 0; HAK_POISON_ON && i < usable; i++) {
    if (byte[i] != HAK_POISON_BYTE) return false;
  }
  return true;
}

HAK_C_END

#endif  // HAKMEM_CHECK_POISON_H_
