// SPDX-License-Identifier: Apache-2.0
//
// tiny_region_id: the header lane, one byte in front of a small block (the last byte of the stride before it).
//
//   none      no header; the slab map alone knows the class.
//   preserve  written once when the block is carved, kept while the block is free, checked on free: the class.
//   always    written on every malloc and free, checked on free and on malloc: the class and the state.
//
// A header costs the block one usable byte, the last of its stride, which holds the header of the next block.
#ifndef HAKMEM_BLOCK_TINY_REGION_ID_H_
#define HAKMEM_BLOCK_TINY_REGION_ID_H_

#include "allocator/block/size_class.h"
#include "allocator/block/tiny_nextptr.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Layout of the byte: the class in the low seven bits, the live bit above. Class ids are never 0, so a zeroed header is
// never valid. The class of a pointer-bearing block stands there as that of its size: the slab map tells the two apart.
#define HAK_REGION_LIVE 0x80u
// Stands in place of a class: the block was carved but never handed out, so nobody owns its contents.
#define HAK_REGION_FRESH 0x7Fu
// Stands in place of a class: the block is free, and its memory was returned to the system since.
#define HAK_REGION_PURGED 0x6Bu
static_assert(HAK_CLASS_COUNT <= HAK_REGION_PURGED, "a class id fits below the live bit and is none of these marks");

enum hak_region_state {
  HAK_REGION_IS_LIVE,
  HAK_REGION_IS_FREE,
  HAK_REGION_IS_FRESH,
  HAK_REGION_IS_PURGED,
  HAK_REGION_IS_BROKEN,
};

// In HARDENED the byte in memory is XORed with this mask, so that nobody can write a valid header without the secret,
// or learn bits of the secret by reading a header. The highest bit is not masked: a live block's header is never an
// ASCII character or zero, so a write of such a byte in front of a block is always found.
HAK_INLINE uint8_t tiny_region_id_mask(const void *block) {
  return HAK_HARDENED ? (uint8_t)(hak_nextptr_mixed(block) >> 57) : 0;
}

// Relaxed. Only the holder of the block writes its header. The holder of the block before reads it too, and only asks
// whether the byte is a valid value. The holder of the block behind reads it too, and reads it more than once
// (heap/freed_check.h).
HAK_INLINE uint8_t tiny_region_id_load(const void *block) {
  return __atomic_load_n((const uint8_t *)block - 1, __ATOMIC_RELAXED) ^ tiny_region_id_mask(block);
}
HAK_INLINE void tiny_region_id_store(void *block, uint32_t value) {
  __atomic_store_n((uint8_t *)block - 1, (uint8_t)value ^ tiny_region_id_mask(block), __ATOMIC_RELAXED);
}

// The state that the header gives for a block of `class_id`.
HAK_INLINE enum hak_region_state tiny_region_id_state(const void *block, uint32_t class_id) {
  const uint8_t header = tiny_region_id_load(block);
  if (header == (HAK_REGION_LIVE | hak_class_plain(class_id))) return HAK_REGION_IS_LIVE;
  if (header == HAK_REGION_FRESH) return HAK_REGION_IS_FRESH;
  if (header == HAK_REGION_PURGED) return HAK_REGION_IS_PURGED;
  return header == hak_class_plain(class_id) ? HAK_REGION_IS_FREE : HAK_REGION_IS_BROKEN;
}

// Writes the header of a block that is carved. `preserve` has no state but live. `always` also marks the byte behind
// the block, the header of a block that may not exist yet, so that a valid header always follows a block.
HAK_INLINE void tiny_region_id_carve(void *block, uint32_t class_id) {
  if (HAK_HEADER == HAK_HEADER_MODE_PRESERVE) tiny_region_id_store(block, HAK_REGION_LIVE | hak_class_plain(class_id));
  if (HAK_HEADER == HAK_HEADER_MODE_ALWAYS) tiny_region_id_store(block, HAK_REGION_FRESH);
}
// Writes the header of a free block that lost its contents.
HAK_INLINE void tiny_region_id_set_purged(void *block, uint32_t class_id) {
  if (HAK_HEADER == HAK_HEADER_MODE_PRESERVE) tiny_region_id_store(block, HAK_REGION_LIVE | hak_class_plain(class_id));
  if (HAK_HEADER == HAK_HEADER_MODE_ALWAYS) tiny_region_id_store(block, HAK_REGION_PURGED);
}
HAK_INLINE void tiny_region_id_carve_behind(void *block, uint32_t class_id) {
  if (HAK_HEADER == HAK_HEADER_MODE_ALWAYS) {
    tiny_region_id_store((char *)block + hak_class_stride(class_id), HAK_REGION_FRESH);
  }
}

HAK_INLINE void tiny_region_id_set_live(void *block, uint32_t class_id) {
  if (HAK_HEADER == HAK_HEADER_MODE_ALWAYS) tiny_region_id_store(block, HAK_REGION_LIVE | hak_class_plain(class_id));
}
HAK_INLINE void tiny_region_id_set_free(void *block, uint32_t class_id) {
  if (HAK_HEADER == HAK_HEADER_MODE_ALWAYS) tiny_region_id_store(block, hak_class_plain(class_id));
}

HAK_C_END

#endif  // HAKMEM_BLOCK_TINY_REGION_ID_H_
