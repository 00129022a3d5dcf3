// SPDX-License-Identifier: Apache-2.0
//
// Small blocks that go round the thread's cache: from the fullest slab that has room, and at once back to their slabs.
// A program that moves its blocks to empty slabs needs both. From the cache it would get back the blocks that it has
// just freed, and these would not become free in their slabs.
//
// In HARDENED, blocks still come from the cache, in its random order, and freed ones first pass the quarantine. The
// block that leaves the quarantine in exchange returns to its slab.
#ifndef HAKMEM_API_UNCACHED_H_
#define HAKMEM_API_UNCACHED_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// As hak_hot_malloc. A large block is an ordinary one, and so is every block of a thread whose heap is closed.
HAK_NOINLINE void *hak_uncached_malloc(size_t size);

// As hak_cold_free.
HAK_NOINLINE void hak_uncached_free(void *block);

HAK_C_END

#endif  // HAKMEM_API_UNCACHED_H_
