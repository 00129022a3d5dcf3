// SPDX-License-Identifier: Apache-2.0
//
// A block that is released by a call that does not fit the one that allocated it: new and free, malloc and delete,
// new[] and delete. In OBSERVE and HARDENED; HAKMEM_MISMATCH says what follows.
#ifndef HAKMEM_API_MISMATCH_H_
#define HAKMEM_API_MISMATCH_H_

#include "allocator/block/block_kind.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// By which call a block is released. The first ones are the calls for the kinds, in their order.
enum hak_release {
  HAK_BY_FREE,
  HAK_BY_DELETE,
  HAK_BY_DELETE_ARRAY,
  HAK_BY_ALIGNED_DELETE,
  HAK_BY_ALIGNED_DELETE_ARRAY,
  HAK_BY_REALLOC,
  HAK_BY_ANY,  // not known, so it fits
};
static_assert(+HAK_BY_REALLOC == +HAK_KIND_COUNT, "one call for each kind");

HAK_INLINE bool hak_release_fits(enum hak_kind kind, enum hak_release by) {
  return (uint32_t)by == (uint32_t)kind || by == HAK_BY_ANY || (by == HAK_BY_REALLOC && kind == HAK_KIND_MALLOC);
}

// For a release that does not fit: ends the process with a line that names the block, whose size is `bytes`; or writes
// such a line, once for each pair of calls; or does nothing. Call it without any lock.
HAK_COLD void hak_mismatch(const void *block, size_t bytes, enum hak_kind kind, enum hak_release by);

HAK_C_END

#endif  // HAKMEM_API_MISMATCH_H_
