// SPDX-License-Identifier: Apache-2.0
//
// Frees with a size. The allocator does not need the size; OBSERVE and HARDENED builds compare it with the request.
#ifndef HAKMEM_API_SIZED_H_
#define HAKMEM_API_SIZED_H_

#include "allocator/api/entry.h"
#include "allocator/large/large.h"

// The usable size of a block that is requested with `size` bytes and no alignment.
HAK_INLINE size_t hak_entry_good_size(size_t size) {
  if (HAK_GUARDED) return size;
  return size <= HAK_TINY_MAX ? hak_class_usable(hak_class_of(size)) : hak_large_good_size(size);
}

HAK_INLINE void hak_entry_free_aligned_sized(void *block, size_t align, size_t size) {
  if (HAK_GUARDED) {
    hak_guarded_free_sized(block, align, size);
  } else {
    hak_hot_free(block);
  }
}

HAK_INLINE void hak_entry_free_sized(void *block, size_t size) { hak_entry_free_aligned_sized(block, 1, size); }

#endif  // HAKMEM_API_SIZED_H_
