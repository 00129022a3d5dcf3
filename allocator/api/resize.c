// SPDX-License-Identifier: Apache-2.0
#include "allocator/api/resize.h"

#include "allocator/api/release.h"
#include "allocator/api/sampled.h"
#include "allocator/large/large.h"
#include "allocator/policy/memory_limit.h"

HAK_INLINE void *resize(void *block, size_t size, bool may_move, const void *caller) {
  return HAK_PROF ? hak_sampled_resize(block, size, may_move, caller) : hak_large_resize(block, size, may_move);
}

// Otherwise the caller would copy the block: for that the limit must have room for both, or it is exceeded by one.
static HAK_COLD void *resize_after_release(void *block, size_t more, size_t size, bool may_move, const void *caller) {
  hak_release_near_limit(more);
  hak_limit_exempt(true);
  void *resized = resize(block, size, may_move, caller);
  hak_limit_exempt(false);
  return resized;
}

void *hak_resize_large(void *block, size_t usable, size_t size, bool may_move, const void *caller) {
  // FAST has no limit.
  if (HAK_FAST || size <= usable) return resize(block, size, may_move, caller);
  hak_limit_refused();  // What is not of this request.
  void *resized = resize(block, size, may_move, caller);
  if (HAK_LIKELY(resized != NULL) || !hak_limit_refused()) return resized;
  return resize_after_release(block, size - usable, size, may_move, caller);
}
