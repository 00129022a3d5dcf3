// SPDX-License-Identifier: Apache-2.0
//
// Poison: in OBSERVE and HARDENED builds with the header lane on `always`, a free small block is filled with a pattern,
// and whoever gets it next checks that nobody wrote to it meanwhile. In HARDENED the pattern is zero, so that a freed
// block's contents are gone and a stale pointer in it is NULL. Does nothing elsewhere.
#ifndef HAKMEM_CHECK_POISON_H_
#define HAKMEM_CHECK_POISON_H_

#include <string.h>

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

#define HAK_POISON_ON (HAK_GUARDED && HAK_HEADER == HAK_HEADER_MODE_ALWAYS)
#define HAK_POISON_BYTE (HAK_HARDENED ? 0x00u : 0xDBu)

HAK_INLINE void hak_poison_fill(void *block, size_t usable) {
  if (HAK_POISON_ON) memset(block, HAK_POISON_BYTE, usable);
}

// The first eight bytes, where a free block may have carried a link.
HAK_INLINE void hak_poison_link(void *block) { hak_poison_fill(block, 8); }

// Whether the block still holds the pattern.
HAK_INLINE bool hak_poison_intact(const void *block, size_t usable) {
  if (!HAK_POISON_ON) return true;
  const unsigned char *bytes = (const unsigned char *)block;
  // A row of equal bytes: each is equal to the one before it.
  return bytes[0] == HAK_POISON_BYTE && memcmp(bytes, bytes + 1, usable - 1) == 0;
}

HAK_C_END

#endif  // HAKMEM_CHECK_POISON_H_
