// SPDX-License-Identifier: Apache-2.0
//
// Pages for records (meta.h): runs of 1 to 32 pages of 4 KiB, each at a multiple of its size, from chunks of 256 KiB. A
// chunk is never unmapped; pages that no record uses return their memory.
//
// All functions are called under the lock of the records, except hak_meta_pages_idle_bytes and hak_meta_pages_decommit.
#ifndef HAKMEM_META_META_PAGES_H_
#define HAKMEM_META_META_PAGES_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock.h"

HAK_C_BEGIN

// The lock of all records.
extern struct hak_lock hak_records_lock;

#define HAK_META_PAGE_SHIFT 12u
#define HAK_META_PAGE ((size_t)1 << HAK_META_PAGE_SHIFT)
// How many orders there are: a run of an order has 1 << order pages.
#define HAK_META_ORDERS 6u

#define HAK_META_CHUNK ((size_t)256 * 1024)
// The bytes of a chunk's own record at its start. The rest of its first page is for other records.
#define HAK_META_CHUNK_HEAD ((size_t)1024)

// Takes a run of 1 << order pages. NULL: out of memory. *zero: the run reads as zero. *rest: if a chunk was mapped for
// the run, the memory behind its head up to the end of the page, which reads as zero; otherwise NULL.
void *hak_meta_pages_take(uint32_t order, bool *zero, char **rest) HAK_REQUIRES(hak_records_lock);
void hak_meta_pages_give(void *run, uint32_t order) HAK_REQUIRES(hak_records_lock);

// Starts with no chunk, because the lists may be half changed (hak_meta_start_anew). Whether the chunk of a record was
// made since.
void hak_meta_pages_start_anew(void) HAK_REQUIRES(hak_records_lock);
bool hak_meta_pages_are_known(const void *record) HAK_REQUIRES(hak_records_lock);

// One bit for each 64 bytes of the page that contains `record`, for the caller's use. They begin as zero.
uint64_t *hak_meta_page_bits(const void *record) HAK_REQUIRES(hak_records_lock);

// Bytes that are mapped, and those of them whose memory was not returned or that were used since.
uint64_t hak_meta_pages_mapped(void) HAK_REQUIRES(hak_records_lock);
uint64_t hak_meta_pages_committed(void) HAK_REQUIRES(hak_records_lock);
// Bytes of free pages whose memory can be returned. Relaxed: a hint.
uint64_t hak_meta_pages_idle_bytes(void);

// Returning memory takes three steps: pages of one chunk are taken out of it, their memory is returned, and they are
// put back. The second step is outside the lock.
struct hak_meta_loan {
  void *chunk;     // NULL: no loan is under way
  uint64_t pages;  // one bit for each page of the chunk
  uint64_t gone;   // those whose memory was returned
  const void *thread;
};
// Lends the free pages of a chunk that has been idle since `until` (milliseconds) or longer. The loan may be empty.
// NULL: there is no such chunk, or a loan is under way.
struct hak_meta_loan *hak_meta_pages_lend(uint64_t until, uint64_t now) HAK_REQUIRES(hak_records_lock);
void hak_meta_pages_decommit(struct hak_meta_loan *loan);
// Puts the pages back; the result is the bytes whose memory was returned.
size_t hak_meta_pages_return(struct hak_meta_loan *loan, uint64_t now) HAK_REQUIRES(hak_records_lock);
// Call it in the child of a fork: the thread that had the loan may not exist there.
void hak_meta_pages_forked(void) HAK_REQUIRES(hak_records_lock);

HAK_C_END

#endif  // HAKMEM_META_META_PAGES_H_
