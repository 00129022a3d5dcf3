// SPDX-License-Identifier: Apache-2.0
//
// Large blocks: everything over HAK_TINY_MAX bytes, or aligned so that no size class serves. Up to 1 MiB a block is a
// span of slabs, above it is a mapping of its own. In OBSERVE and HARDENED all are guarded blocks (guarded.h), whose
// usable size is what was asked for.
#ifndef HAKMEM_LARGE_LARGE_H_
#define HAKMEM_LARGE_LARGE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// A block of `size` bytes at a multiple of `align`, a power of two; zero-filled on demand, without touching pages that
// are zero already. NULL: out of memory, `size` or `align` over PTRDIFF_MAX, or a superslab would have to be mapped for
// a span and `grow` forbids it.
void *hak_large_alloc(size_t size, size_t align, bool zero, bool grow);
// Takes the block back; false, and nothing done, when `block` is not a live large block.
bool hak_large_free(void *block);
// Its usable bytes; 0 when `block` is not a live large block.
size_t hak_large_usable(const void *block);
// Makes the block hold `size` bytes in place, or, with `may_move`, by moving pages instead of copying bytes. Where it
// is then; NULL: it cannot be done this way, and nothing changed.
void *hak_large_resize(void *block, size_t size, bool may_move);
// The usable size that a request of `size` bytes over HAK_TINY_MAX gets.
size_t hak_large_good_size(size_t size);

HAK_C_END

#endif  // HAKMEM_LARGE_LARGE_H_
