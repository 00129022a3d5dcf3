// SPDX-License-Identifier: Apache-2.0
//
// Memory for the allocator's own records: thread heaps and the arrays of thread caches. Kept apart from all blocks, so
// that no overflow of a block reaches it. Records are rounded up to powers of two and recycled by size, never unmapped:
// a record's memory stays a record's memory.
#ifndef HAKMEM_TINY_META_H_
#define HAKMEM_TINY_META_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// At least `size` bytes, zero, at a multiple of 64. NULL: out of memory.
void *hak_meta_alloc(size_t size);
// Gives back what hak_meta_alloc(size) returned.
void hak_meta_free(void *record, size_t size);
// How many bytes hak_meta_alloc(size) makes usable.
size_t hak_meta_usable(size_t size);
// Bytes mapped for records.
uint64_t hak_meta_mapped(void);

// Around fork.
void hak_meta_lock(void);
void hak_meta_unlock(void);

HAK_C_END

#endif  // HAKMEM_TINY_META_H_
