// SPDX-License-Identifier: Apache-2.0
//
// The bytes in front of a slab's lowest block, up to its header: they belong to no block, whose canary would tell of a
// write. In OBSERVE and HARDENED they hold the poison from the carving on.
#ifndef HAKMEM_BLOCK_BLOCK_FRONT_H_
#define HAKMEM_BLOCK_BLOCK_FRONT_H_

#include "allocator/block/poison.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// What a block's start is a multiple of, less the header: so much lies there in every slab.
#define HAK_FRONT_BYTES (HAK_MIN_ALIGN - 1)

HAK_INLINE void hak_block_front_fill(void *lowest) {
  if (HAK_POISON_ON) memset((char *)lowest - HAK_MIN_ALIGN, HAK_POISON_BYTE, HAK_FRONT_BYTES);
}
HAK_INLINE bool hak_block_front_intact(const void *lowest) {
  if (!HAK_POISON_ON) return true;
  const unsigned char *const bytes = (const unsigned char *)lowest - HAK_MIN_ALIGN;
  unsigned char wrong = 0;
  for (size_t i = 0; i < HAK_FRONT_BYTES; i++) wrong = (unsigned char)(wrong | (bytes[i] ^ HAK_POISON_BYTE));
  return wrong == 0;
}

HAK_C_END

#endif  // HAKMEM_BLOCK_BLOCK_FRONT_H_
