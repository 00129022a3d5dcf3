// SPDX-License-Identifier: Apache-2.0
//
// The bound on the caches of all threads together (HAKMEM_TOTAL_THREAD_CACHE_KB): which part of it a thread's cache may
// have, and the account of the room that all caches have.
//
// Three quarters of the bound are for small blocks. There each cache may grow to a multiple of what is left of the
// bound (the dynamic thresholds of Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). So one thread
// may have most of it, a new thread always finds some, and no number of threads need be known. A quarter is for blocks
// over 32 KiB, in equal shares.
//
// Room is counted instead of blocks, because the fast paths fill room without a look at the bound. Only the slow paths
// use the account.
#ifndef HAKMEM_POLICY_CACHE_TOTAL_H_
#define HAKMEM_POLICY_CACHE_TOTAL_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// ---- Pure functions -----------------------------------------------------------------------------

// Whether a cache with room for `mine` bytes may get room for `more` bytes, when all caches have room for `reserved`.
// `bound` is for all caches of small blocks together; 0: none.
bool hak_cache_total_admits(uint64_t bound, uint64_t reserved, uint64_t mine, uint64_t more);
// Whether a cache with room for `mine` bytes should give up some for the others. It has twice the part to which it
// could grow, so that a cache does not grow and shrink in turns.
bool hak_cache_total_is_unfair(uint64_t bound, uint64_t reserved, uint64_t mine);
// How many bytes of blocks over 32 KiB each of `threads` caches may hold; UINT64_MAX: there is no bound.
uint64_t hak_cache_total_large_share(uint64_t total, uint32_t threads);

// ---- The account: thread-safe, no lock. Not in FAST, which has no bound -------------------------

// Reserves room for `more` bytes for a cache that has room for `mine`. False: the bound forbids it.
bool hak_cache_total_reserve(uint64_t mine, uint64_t more);
void hak_cache_total_release(uint64_t bytes);
// Whether the caches have more room than the bound allows, because it was lowered.
bool hak_cache_total_is_exceeded(void);
// Whether the cache with room for `mine` bytes should give up some.
bool hak_cache_total_is_crowded(uint64_t mine);
// Whether the room of idle threads should go to others: little of the bound is left.
bool hak_cache_total_is_short(void);
// The sum of what is reserved.
uint64_t hak_cache_total_reserved(void);

HAK_C_END

#endif  // HAKMEM_POLICY_CACHE_TOTAL_H_
