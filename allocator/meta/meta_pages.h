// SPDX-License-Identifier: Apache-2.0
//
// Pages for records (meta.h): runs of 1 to 32 pages of 4 KiB, each at a multiple of its size, out of chunks of 256 KiB.
// A chunk is never unmapped; pages that no record uses give their memory back.
//
// All of it is called under the lock on records, but for hak_meta_pages_idle_bytes and hak_meta_pages_decommit.
#ifndef HAKMEM_META_META_PAGES_H_
#define HAKMEM_META_META_PAGES_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock.h"

HAK_C_BEGIN

// The lock on records, large and small.
extern struct hak_lock hak_records_lock;

#define HAK_META_PAGE_SHIFT 12u
#define HAK_META_PAGE ((size_t)1 << HAK_META_PAGE_SHIFT)
// Orders of runs: 1 << order pages.
#define HAK_META_ORDERS 6u

#define HAK_META_CHUNK ((size_t)256 * 1024)
// Bytes at a chunk's start that are its own; what follows in its first page is for records.
#define HAK_META_CHUNK_HEAD ((size_t)1024)

// A run of 1 << order pages. *zero: it reads as zero. *rest: what follows the head of a chunk that was made for it, up
// to the end of a page, and reads as zero; else NULL. NULL: out of memory.
void *hak_meta_pages_take(uint32_t order, bool *zero, char **rest) HAK_REQUIRES(hak_records_lock);
void hak_meta_pages_give(void *run, uint32_t order) HAK_REQUIRES(hak_records_lock);

// A bit for each 64 bytes of the page that `record` is in, zero at first, for the caller to use.
uint64_t *hak_meta_page_bits(const void *record) HAK_REQUIRES(hak_records_lock);

// Bytes that are mapped, and without those that went back and were not used since.
uint64_t hak_meta_pages_mapped(void) HAK_REQUIRES(hak_records_lock);
uint64_t hak_meta_pages_committed(void) HAK_REQUIRES(hak_records_lock);
// Bytes of pages that are free and have memory. Relaxed: a hint.
uint64_t hak_meta_pages_idle_bytes(void);

// Giving memory back takes three steps, of which the second is outside the lock: pages of one chunk are taken out, go
// back, and are put in again.
struct hak_meta_loan {
  void *chunk;     // NULL: there is none
  uint64_t pages;  // a bit each
  uint64_t gone;   // those that went back
  const void *thread;
};
// Of a chunk whose pages fell free at or before `until` (milliseconds); NULL: there is none, or a loan is under way.
// The loan may be empty.
struct hak_meta_loan *hak_meta_pages_lend(uint64_t until, uint64_t now) HAK_REQUIRES(hak_records_lock);
void hak_meta_pages_decommit(struct hak_meta_loan *loan);
// Returns the bytes that went back.
size_t hak_meta_pages_return(struct hak_meta_loan *loan, uint64_t now) HAK_REQUIRES(hak_records_lock);
// In the child of a fork: the thread that had the loan may be gone.
void hak_meta_pages_forked(void) HAK_REQUIRES(hak_records_lock);

HAK_C_END

#endif  // HAKMEM_META_META_PAGES_H_
