// SPDX-License-Identifier: Apache-2.0
//
// The front: the bytes before a block's header. In front of a slab's lowest block they belong to no block. In front of
// another they are the end of the block before it, and while that block was never handed out it has no canary and no
// poison. In both cases they hold the poison pattern in OBSERVE and HARDENED from the time the block before is carved.
#ifndef HAKMEM_BLOCK_BLOCK_FRONT_H_
#define HAKMEM_BLOCK_BLOCK_FRONT_H_

#include "allocator/block/poison.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The alignment of a block's start, less the header: every slab and every block has at least this many bytes there.
#define HAK_FRONT_BYTES (HAK_MIN_ALIGN - 1)

HAK_INLINE void hak_block_front_fill(void *block) {
  if (HAK_POISON_ON) memset((char *)block - HAK_MIN_ALIGN, HAK_POISON_BYTE, HAK_FRONT_BYTES);
}
HAK_INLINE bool hak_block_front_is_intact(const void *block) {
  if (!HAK_POISON_ON) return true;
  const unsigned char *const bytes = (const unsigned char *)block - HAK_MIN_ALIGN;
  unsigned char wrong = 0;
  for (size_t i = 0; i < HAK_FRONT_BYTES; i++) wrong = (unsigned char)(wrong | (bytes[i] ^ HAK_POISON_BYTE));
  return wrong == 0;
}

HAK_C_END

#endif  // HAKMEM_BLOCK_BLOCK_FRONT_H_
