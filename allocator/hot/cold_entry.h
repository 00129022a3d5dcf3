// SPDX-License-Identifier: Apache-2.0
//
// The slow paths that the fast paths call. These are the only calls from this room to a higher one;
// allocator/api/cold.c defines them. All set errno like the C library, and only on failure.
#ifndef HAKMEM_HOT_COLD_ENTRY_H_
#define HAKMEM_HOT_COLD_ENTRY_H_

#include "allocator/os/base.h"

// The research switch //configs:alloc_passdown_ssot. docs/analysis/alloc_passdown_ssot.md has its A/B.
#ifndef HAK_ALLOC_PASSDOWN
#define HAK_ALLOC_PASSDOWN 0
#endif

HAK_C_BEGIN

struct hak_bin;

HAK_COLD void *hak_cold_malloc(size_t size);
HAK_COLD void hak_cold_free(void *block);

// The same for a small request, and for a block that the slab map's window covers. The class is that of the bin, which
// the fast path found in the thread's cache. Only with HAK_ALLOC_PASSDOWN.
HAK_COLD void *hak_routed_malloc(size_t size, const struct hak_bin *bin);
HAK_COLD void hak_routed_free(void *block, const struct hak_bin *bin);

// Not marked as cold, but never inlined. `size` is the whole request.
HAK_NOINLINE void *hak_slow_calloc(size_t size);
HAK_NOINLINE void *hak_slow_realloc(void *block, size_t size);
HAK_NOINLINE void *hak_slow_aligned(size_t align, size_t size);
// For any alignment.
HAK_COLD void *hak_slow_aligned_calloc(size_t align, size_t size);
HAK_COLD void *hak_slow_aligned_realloc(void *block, size_t align, size_t size);
// A block of the class of pointer-bearing blocks for `size` bytes. Only in HARDENED.
HAK_NOINLINE void *hak_slow_pointers(size_t size, uint32_t class_id);
// Returns a large block for any size.
HAK_NOINLINE void *hak_slow_large(size_t size, size_t align, bool zero);
HAK_NOINLINE size_t hak_slow_usable(const void *block);

HAK_C_END

#endif  // HAKMEM_HOT_COLD_ENTRY_H_
