// SPDX-License-Identifier: Apache-2.0
//
// Memory for the allocator's own records: thread heaps and the arrays of thread caches. Kept apart from all blocks, so
// that no overflow of a block reaches it. Sizes are powers of two, cut out of pages and merged again (a buddy system);
// pages without a record give their memory back (meta_pages.h). Never unmapped: a stale pointer to a record can be
// read.
#ifndef HAKMEM_META_META_H_
#define HAKMEM_META_META_H_

#include "allocator/meta/meta_pages.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// At least `size` bytes, zero, at a multiple of hak_meta_usable(size), or of a page where that is more than 128 KiB.
// NULL: out of memory.
void *hak_meta_alloc(size_t size);
// Gives back what hak_meta_alloc(size) returned.
void hak_meta_free(void *record, size_t size);
// How many bytes hak_meta_alloc(size) makes usable.
size_t hak_meta_usable(size_t size);
// Bytes mapped for records, and without those that went back.
uint64_t hak_meta_mapped(void);
uint64_t hak_meta_committed(void);

// A record that stays its owner's and is not used for a while: gives its memory back, and true if it now reads as zero.
// Nobody else writes to it. False: it is as it was. The owner of one whose memory went back says when it uses it again.
bool hak_meta_rest(void *record, size_t size);
void hak_meta_wake(size_t size);
// Whether hak_meta_rest can do anything for a record of that size: it is of whole pages of the system.
bool hak_meta_can_rest(size_t size);

// Bytes that lie in free pages beyond what is kept for the next records. Relaxed: a hint.
uint64_t hak_meta_idle_bytes(void);
// One chunk's part of them at most, if it has been idle for long enough at `now` (milliseconds). False: nothing went
// back.
bool hak_meta_tick(uint64_t now);
// All free pages. Returns the bytes that went back.
size_t hak_meta_trim(void);

// Around fork.
void hak_meta_lock(void) HAK_ACQUIRE(hak_records_lock);
void hak_meta_unlock(void) HAK_RELEASE(hak_records_lock);
// And in its child, under the lock.
void hak_meta_forked(void) HAK_REQUIRES(hak_records_lock);

HAK_C_END

#endif  // HAKMEM_META_META_H_
