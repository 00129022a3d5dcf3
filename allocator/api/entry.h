// SPDX-License-Identifier: Apache-2.0
//
// The argument rules of each allocation function, inlined into hak_* and into the C library's names, so that neither
// calls the other and both have the same fast path.
#ifndef HAKMEM_API_ENTRY_H_
#define HAKMEM_API_ENTRY_H_

#include <errno.h>
#include <string.h>

#include "allocator/api/guarded_entry.h"
#include "allocator/hot/alloc.h"

// Blocks below this size are cleared by memset. For larger ones it pays to find out whether the memory is already zero.
#define HAK_CALLOC_SIMPLE_MAX 2048u

HAK_INLINE void *hak_entry_malloc(size_t size) { return HAK_GUARDED ? hak_guarded_malloc(size) : hak_hot_malloc(size); }

HAK_INLINE void *hak_entry_zalloc(size_t size) {
  if (HAK_GUARDED) return hak_guarded_zalloc(size);
  if (HAK_UNLIKELY(size > HAK_CALLOC_SIMPLE_MAX)) return hak_slow_calloc(size);
  void *block = hak_hot_malloc(size);
  return HAK_LIKELY(block != NULL) ? memset(block, 0, size) : NULL;
}

HAK_INLINE void *hak_entry_calloc(size_t count, size_t size) {
  size_t total;
  if (HAK_UNLIKELY(__builtin_mul_overflow(count, size, &total))) {
    errno = ENOMEM;
    return NULL;
  }
  return hak_entry_zalloc(total);
}

HAK_INLINE void *hak_entry_realloc(void *block, size_t size) {
  return HAK_GUARDED ? hak_guarded_realloc(block, size) : hak_slow_realloc(block, size);
}

HAK_INLINE void *hak_entry_reallocarray(void *block, size_t count, size_t size) {
  size_t total;
  if (HAK_UNLIKELY(__builtin_mul_overflow(count, size, &total))) {
    errno = ENOMEM;
    return NULL;
  }
  return hak_entry_realloc(block, total);
}

// `align` is a power of two.
HAK_INLINE void *hak_entry_aligned(size_t align, size_t size) {
  if (HAK_GUARDED) return hak_guarded_aligned(align, size);
  return align <= HAK_MIN_ALIGN ? hak_hot_malloc(size) : hak_slow_aligned(align, size);
}

HAK_INLINE void *hak_entry_aligned_alloc(size_t align, size_t size) {
  if (HAK_UNLIKELY(!hak_is_pow2(align))) {
    errno = EINVAL;
    return NULL;
  }
  return hak_entry_aligned(align, size);
}

HAK_INLINE void *hak_entry_memalign(size_t align, size_t size) {
  if (HAK_UNLIKELY(align > (SIZE_MAX >> 1) + 1)) {
    errno = EINVAL;  // No power of two is that large.
    return NULL;
  }
  if (!hak_is_pow2(align)) align = align == 0 ? 1 : (size_t)1 << (64 - __builtin_clzll(align));
  return hak_entry_aligned(align, size);
}

HAK_INLINE int hak_entry_posix_memalign(void **out, size_t align, size_t size) {
  if (!hak_is_pow2(align) || align % sizeof(void *) != 0) return EINVAL;
  const int saved = errno;
  void *block = hak_entry_aligned(align, size);
  errno = saved;
  if (block == NULL) return ENOMEM;
  *out = block;
  return 0;
}

HAK_INLINE void *hak_entry_aligned_calloc(size_t align, size_t count, size_t size) {
  size_t total;
  const bool overflows = __builtin_mul_overflow(count, size, &total);
  if (HAK_UNLIKELY(overflows || !hak_is_pow2(align))) {
    errno = hak_is_pow2(align) ? ENOMEM : EINVAL;
    return NULL;
  }
  return HAK_GUARDED ? hak_guarded_aligned_zalloc(align, total) : hak_slow_aligned_calloc(align, total);
}

HAK_INLINE void *hak_entry_aligned_realloc(void *block, size_t align, size_t size) {
  if (HAK_UNLIKELY(!hak_is_pow2(align))) {
    errno = EINVAL;
    return NULL;
  }
  return HAK_GUARDED ? hak_guarded_aligned_realloc(block, align, size) : hak_slow_aligned_realloc(block, align, size);
}

HAK_INLINE void hak_entry_free(void *block) {
  if (HAK_GUARDED) {
    hak_guarded_free(block);
  } else {
    hak_hot_free(block);
  }
}

HAK_INLINE size_t hak_entry_usable(const void *block) {
  return HAK_GUARDED ? hak_guarded_usable(block) : hak_slow_usable(block);
}

#endif  // HAKMEM_API_ENTRY_H_
