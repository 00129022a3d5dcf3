// SPDX-License-Identifier: Apache-2.0
//
// Large blocks: requests over HAK_TINY_MAX bytes, or with an alignment that no size class has. They come from the page
// heap. Those without a requested alignment begin at different cache lines in turn (pages/colour.h). In OBSERVE and
// HARDENED all are guarded blocks (guarded.h), whose usable size is the requested size.
#ifndef HAKMEM_LARGE_LARGE_H_
#define HAKMEM_LARGE_LARGE_H_

#include "allocator/meta/address_batch.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Returns a block of `size` bytes at a multiple of `align`, a power of two; with `zero` it is zero-filled, without
// touching pages that are zero already. NULL: out of memory, `size` or `align` over PTRDIFF_MAX, or new addresses would
// have to be mapped and `grow` forbids it.
void *hak_large_alloc(size_t size, size_t align, bool zero, bool grow);
// Frees the block. False: `block` is not a live large block, and nothing was done.
bool hak_large_free(void *block);
// The block's usable bytes; 0 when `block` is not a live large block.
size_t hak_large_usable(const void *block);
// Whether a live large block begins at `address`, which may be any.
bool hak_large_is_live(const void *address);
// Offers the address of each live large block, and of blocks in thread caches.
void hak_large_gather(struct hak_address_batch *batch);
// Calls visit(usable bytes, context) for each live large block, and for blocks in thread caches, under a lock.
void hak_large_sizes(void (*visit)(size_t usable, void *context), void *context);
// NULL: the records of large blocks are correct; otherwise what is wrong.
const char *hak_large_verify(void);
// Resizes the block to `size` bytes in place, or, with `may_move`, by moving pages instead of copying bytes. Returns
// its address; NULL: this is not possible, and nothing changed.
void *hak_large_resize(void *block, size_t size, bool may_move);
// The usable size that a request of `size` bytes over HAK_TINY_MAX gets.
size_t hak_large_good_size(size_t size);

HAK_C_END

#endif  // HAKMEM_LARGE_LARGE_H_
