// SPDX-License-Identifier: Apache-2.0
//
// What the entry points do in OBSERVE and HARDENED: blocks know the very size that was asked for, so that writing one
// byte beyond it is found. Small blocks get a canary (block/block_tail.h), large ones are guarded blocks
// (large/guarded.h), and in HARDENED one small block in HAKMEM_GUARD_SAMPLE is a guarded one too. The usable size of a
// block is its request.
//
// Arguments were checked (entry.h); errno is set as the C library would.
#ifndef HAKMEM_API_GUARDED_ENTRY_H_
#define HAKMEM_API_GUARDED_ENTRY_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

void *hak_guarded_malloc(size_t size);
void *hak_guarded_zalloc(size_t size);
void *hak_guarded_aligned(size_t align, size_t size);
void *hak_guarded_realloc(void *block, size_t size);
// `block`, which now has `size` bytes, or NULL: it does not fit.
void *hak_guarded_realloc_in_place(void *block, size_t size);
void hak_guarded_free(void *block);
// Ends the process when the block was not asked for with this size, or does not have the alignment.
void hak_guarded_free_sized(void *block, size_t align, size_t size);
size_t hak_guarded_usable(const void *block);

HAK_C_END

#endif  // HAKMEM_API_GUARDED_ENTRY_H_
