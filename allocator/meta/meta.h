// SPDX-License-Identifier: Apache-2.0
//
// Memory for the allocator's own records: thread heaps and the arrays of thread caches. It is apart from all blocks, so
// that no overflow of a block reaches it. Sizes are powers of two, split from pages and merged again (a buddy system).
// Pages without a record return their memory (meta_pages.h). Nothing is unmapped, so a stale pointer to a record can
// still be read.
#ifndef HAKMEM_META_META_H_
#define HAKMEM_META_META_H_

#include "allocator/meta/meta_pages.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Returns a record of at least `size` bytes, all zero, at a multiple of hak_meta_usable(size), or of a page if that is
// more than 128 KiB. NULL: out of memory.
void *hak_meta_alloc(size_t size);
// Frees a record that hak_meta_alloc(size) returned.
void hak_meta_free(void *record, size_t size);
// How many bytes of the record that hak_meta_alloc(size) returns are usable.
size_t hak_meta_usable(size_t size);
// Bytes that are mapped for records, and those of them whose memory was not returned.
uint64_t hak_meta_mapped(void);
uint64_t hak_meta_committed(void);

// Returns the memory of a record that its owner keeps but does not use for a while. True: the record now reads as zero.
// False: nothing changed. No other thread may write to it. When the owner uses the record again, it calls
// hak_meta_wake.
bool hak_meta_rest(void *record, size_t size);
void hak_meta_wake(size_t size);
// Whether hak_meta_rest has an effect on a record of that size: it must have whole pages of the system.
bool hak_meta_can_rest(size_t size);

// Bytes in free pages beyond those that are kept for the next records. Relaxed: a hint.
uint64_t hak_meta_idle_bytes(void);
// Returns the free pages of one chunk, if they are past their deadline at `now` (milliseconds). False: nothing was
// returned.
bool hak_meta_tick(uint64_t now);
// Returns all free pages to the system; the result is their bytes.
size_t hak_meta_trim(void);

// For fork.
void hak_meta_lock(void) HAK_ACQUIRE(hak_records_lock);
void hak_meta_unlock(void) HAK_RELEASE(hak_records_lock);
// In the child of a fork, under the lock.
void hak_meta_forked(void) HAK_REQUIRES(hak_records_lock);

HAK_C_END

#endif  // HAKMEM_META_META_H_
