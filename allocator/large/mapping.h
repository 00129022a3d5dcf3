// SPDX-License-Identifier: Apache-2.0
//
// Blocks that have a memory mapping of their own, and the bounded cache of freed mappings that can be reused.
//
// Their records are in a hash table outside the blocks, found by the block's address; the slab map has no entry for
// them. Thread-safe: one lock (mapping_lock.h).
#ifndef HAKMEM_LARGE_MAPPING_H_
#define HAKMEM_LARGE_MAPPING_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// A block of at least `size` bytes at a multiple of `align` (a power of two), or, with an alignment of 16 or less, at a
// cache line in turn (colour.h). *zero: it reads as zero. NULL: out of memory.
void *hak_mapping_take(size_t size, size_t align, bool *zero);
// The same, but only from freed mappings; NULL: none fits.
void *hak_mapping_reuse(size_t size, size_t align, bool *zero);
// Frees a block. False: `block` is not one, and nothing was done.
bool hak_mapping_give(void *block);
// Usable bytes of the block, 0 when `block` is not one.
size_t hak_mapping_size(const void *block);
// Resizes the block to `size` bytes: in place, or, with `may_move`, wherever the kernel moves it with its contents.
// Returns its address, or NULL when nothing changed.
void *hak_mapping_resize(void *block, size_t size, bool may_move);

// Unmaps one freed mapping that is past the deadline. False: there is none.
bool hak_mapping_tick(void);
// Unmaps all freed mappings; returns their bytes.
size_t hak_mapping_trim(void);

// Memory of the freed mappings that can be reused. A hint: not read under the lock.
uint64_t hak_mapping_stored_bytes(void);

struct hak_mapping_totals {
  uint64_t blocks;
  uint64_t bytes;
  uint64_t cached_bytes;  // freed mappings that still hold memory
};
struct hak_mapping_totals hak_mapping_totals(void);
// NULL, or what is wrong with the records.
const char *hak_mapping_verify(void);

HAK_C_END

#endif  // HAKMEM_LARGE_MAPPING_H_
