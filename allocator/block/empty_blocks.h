// SPDX-License-Identifier: Apache-2.0
//
// Blocks of size 0, in HARDENED: addresses in a range that nobody can touch, so that reading or writing even one byte
// faults. Each block has an address of its own. An address is not used again before all others of the range were used.
// Costs two bits and a byte per block.
//
// Thread-safe, without a lock.
#ifndef HAKMEM_BLOCK_EMPTY_BLOCKS_H_
#define HAKMEM_BLOCK_EMPTY_BLOCKS_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Addresses in the range. At most seven eighths of them are live at a time.
#define HAK_EMPTY_BLOCKS ((size_t)1 << 20)
#define HAK_EMPTY_BYTES (HAK_EMPTY_BLOCKS * HAK_MIN_ALIGN)

// A block at a multiple of `align`, a power of two. NULL: out of memory, too many are live, or the alignment is larger
// than the range has.
void *hak_empty_take(size_t align);

// The kind of a live block (block_kind.h): what its holder has set. hak_empty_take sets 0.
void hak_empty_set_kind(const void *block, uint8_t kind);
uint8_t hak_empty_kind(const void *block);

enum hak_empty_state {
  HAK_EMPTY_FOREIGN,  // an address outside the range, or one that was never a block
  HAK_EMPTY_LIVE,
  HAK_EMPTY_FREED,
};
enum hak_empty_state hak_empty_state_of(const void *block);
// Takes back a block; returns what it was before.
enum hak_empty_state hak_empty_give(void *block);

// The first live block at a higher address than `after`; NULL: there is none. A block that others take or give
// meanwhile may be among them or not.
void *hak_empty_next(const void *after);

// Blocks that are live now. Relaxed: a statistic.
uint64_t hak_empty_count(void);

HAK_C_END

#endif  // HAKMEM_BLOCK_EMPTY_BLOCKS_H_
