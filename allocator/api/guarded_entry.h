// SPDX-License-Identifier: Apache-2.0
//
// What the entry points do in OBSERVE and HARDENED. Every block knows its requested size, so that a write of one byte
// beyond it is found. Small blocks get a canary (block/block_tail.h), large blocks are guarded blocks
// (large/guarded.h), and in HARDENED one small block in HAKMEM_GUARD_SAMPLE is a guarded block too. The usable size of
// a block is its requested size.
//
// The caller has checked the arguments (entry.h). errno is set as by the C library.
#ifndef HAKMEM_API_GUARDED_ENTRY_H_
#define HAKMEM_API_GUARDED_ENTRY_H_

#include "allocator/api/mismatch.h"
#include "allocator/block/block_kind.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

void *hak_guarded_malloc(size_t size);
void *hak_guarded_zalloc(size_t size);
void *hak_guarded_aligned(size_t align, size_t size);
void *hak_guarded_aligned_zalloc(size_t align, size_t size);
// The number of a type with pointers in LLVM's AllocToken interface with -falloc-token-max=2. 0 is one without, or one
// that the compiler does not know.
#define HAK_TOKEN_POINTERS 1u
// HARDENED. A block that will hold pointers, as the compiler says. It never lies in a slab of other blocks, nor in the
// place where another block was.
void *hak_guarded_pointers(size_t align, size_t size, bool zero, enum hak_kind kind);
// Makes such a block if there was none, or one of size 0. Otherwise this is any realloc, and the block keeps its kind.
void *hak_guarded_pointers_realloc(void *block, size_t size);
void *hak_guarded_realloc(void *block, size_t size);
void *hak_guarded_aligned_realloc(void *block, size_t align, size_t size);
// Resizes `block` to `size` bytes in place and returns it. NULL: it does not fit.
void *hak_guarded_realloc_in_place(void *block, size_t size);
void hak_guarded_free(void *block);
// Round the thread's cache (api/uncached.h).
void *hak_guarded_malloc_nocache(size_t size);
void hak_guarded_free_nocache(void *block);
// Ends the process when this is not the block's requested size, or the block does not have the alignment.
void hak_guarded_free_sized(void *block, size_t align, size_t size);
size_t hak_guarded_usable(const void *block);

// ---- Blocks of C++ --------------------------------------------------------------------------------

// As hak_guarded_aligned, for a block of another kind than that of malloc.
void *hak_guarded_new(size_t align, size_t size, enum hak_kind kind);
// Makes a live block, or NULL, one of the kind. Returns it.
void *hak_guarded_set(void *block, enum hak_kind kind);
// As hak_guarded_free and hak_guarded_free_sized; the call is `by`.
void hak_guarded_delete(void *block, enum hak_release by);
void hak_guarded_delete_sized(void *block, size_t align, size_t size, enum hak_release by);

HAK_C_END

#endif  // HAKMEM_API_GUARDED_ENTRY_H_
