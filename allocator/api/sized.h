// SPDX-License-Identifier: Apache-2.0
//
// Freeing with a size. The size is not needed; OBSERVE builds compare it with the block.
#ifndef HAKMEM_API_SIZED_H_
#define HAKMEM_API_SIZED_H_

#include "allocator/api/entry.h"
#include "allocator/large/large.h"
#include "allocator/os/report.h"

// What a request of `size` bytes gets when nothing but the size counts.
HAK_INLINE size_t hak_entry_good_size(size_t size) {
  return size <= HAK_TINY_MAX ? hak_class_usable(hak_class_of(size)) : hak_large_good_size(size);
}

HAK_INLINE void hak_entry_free_sized(void *block, size_t size) {
  // Large blocks may have been resized in place, and reused mappings may be larger than the request: only too small
  // tells.
  if (HAK_OBSERVE && block != NULL) {
    const size_t usable = hak_slow_usable(block);
    const bool wrong = usable <= HAK_TINY_MAX ? hak_entry_good_size(size) > usable : size > usable;
    if (HAK_UNLIKELY(wrong)) hak_fatal("free with a wrong size", block);
  }
  hak_hot_free(block);
}

HAK_INLINE void hak_entry_free_aligned_sized(void *block, size_t align, size_t size) {
  if (HAK_OBSERVE && block != NULL) {
    if (HAK_UNLIKELY(((uintptr_t)block & (align - 1)) != 0)) hak_fatal("free with a wrong alignment", block);
    if (HAK_UNLIKELY(size > hak_slow_usable(block))) hak_fatal("free with a wrong size", block);
  }
  hak_hot_free(block);
}

#endif  // HAKMEM_API_SIZED_H_
