// SPDX-License-Identifier: Apache-2.0
//
// tiny_nextptr: the only code that knows where a free small block keeps its link and how the link is encoded.
//
// Only blocks on a slab's remote chain carry a link. Blocks in a thread cache are listed in an array elsewhere, and
// blocks that are free in their slab are bits of the slab's bitmap, so a write after free can change nothing but a
// remote chain. The link is the index of the next block in the same slab, never an address. Outside FAST it is also
// XORed with a secret and the block's address, so that a forged link decodes to a valid index only with probability
// 2^-51.
#ifndef HAKMEM_BLOCK_TINY_NEXTPTR_H_
#define HAKMEM_BLOCK_TINY_NEXTPTR_H_

#include <string.h>

#include "allocator/block/size_class.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The offset of the link in a free block, for every class.
#define HAK_NEXTPTR_OFFSET 0u
#define HAK_NEXTPTR_BYTES 8u
// A block's header is the last byte of the stride before it, so a link could only damage the header of the next block.
static_assert(HAK_NEXTPTR_OFFSET + HAK_NEXTPTR_BYTES < HAK_MIN_ALIGN, "a link stays clear of the next block's header");

// Whether a free block of the class keeps its header. All classes do, by the assertion above.
HAK_INLINE bool tiny_nextptr_preserves_header(uint32_t class_id) { return hak_class_is_tiny(class_id); }

// Set once when the process's heap is initialised. Other boxes that encode what they store in blocks use it too.
extern uint64_t hak_nextptr_secret;

// A number that cannot be derived from the block's address alone. Its upper bits are mixed best.
HAK_INLINE uint64_t hak_nextptr_mixed(const void *block) {
  return ((uint64_t)(uintptr_t)block ^ hak_nextptr_secret) * 0x9E3779B97F4A7C15u;
}

// `next` is a block's index in its slab plus 1; 0 ends the chain.
HAK_INLINE uint64_t tiny_nextptr_code(const void *block, uint64_t link) {
  return HAK_FAST ? link : link ^ hak_nextptr_secret ^ ((uint64_t)(uintptr_t)block << 13);
}
HAK_INLINE void tiny_nextptr_store(void *block, uint32_t next) {
  const uint64_t link = tiny_nextptr_code(block, next);
  memcpy((char *)block + HAK_NEXTPTR_OFFSET, &link, sizeof link);
}
// The caller checks that the result is an index of the slab plus 1, or 0.
HAK_INLINE uint64_t tiny_nextptr_load(const void *block) {
  uint64_t link;
  memcpy(&link, (const char *)block + HAK_NEXTPTR_OFFSET, sizeof link);
  return tiny_nextptr_code(block, link);
}

HAK_C_END

#endif  // HAKMEM_BLOCK_TINY_NEXTPTR_H_
