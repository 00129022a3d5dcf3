// SPDX-License-Identifier: Apache-2.0
//
// Medium blocks: large blocks of up to 1 MiB, and somewhat more, without a requested alignment, which threads cache
// (heap/medium_cache.h). Their runs have one of 41 sizes, eight per doubling, and they begin at different cache lines
// in turn (pages/colour.h). The page map has a tag for the page in which such a block begins, so that a free finds its
// class without a lock.
#ifndef HAKMEM_LARGE_MEDIUM_H_
#define HAKMEM_LARGE_MEDIUM_H_

#include "allocator/block/size_class.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/pages/colour.h"
#include "allocator/pages/page_map.h"

HAK_C_BEGIN

// In builds with guards the size of every large block is its requested size, and no block is medium.
#define HAK_MEDIUM_ON (!HAK_GUARDED)
// The last step is there for requests of exactly 1 MiB, which are frequent: a run has room for every colour too.
#define HAK_MEDIUM_BYTES_MAX ((size_t)(1024 + 128) * 1024)
#define HAK_MEDIUM_STEPS_SHIFT 3u  // eight sizes to a doubling
#define HAK_MEDIUM_COUNT 41u
static_assert((HAK_TINY_STRIDE_MAX << ((HAK_MEDIUM_COUNT - 1) >> HAK_MEDIUM_STEPS_SHIFT)) / 8 * 9 ==
                  HAK_MEDIUM_BYTES_MAX,
              "the sizes go from the largest small block to one step above 1 MiB");
static_assert(HAK_TINY_STRIDE_MAX >> HAK_MEDIUM_STEPS_SHIFT == HAK_PAGE_SIZE, "the smallest step is a page");

// The largest request that is a medium block.
#define HAK_MEDIUM_MAX (HAK_MEDIUM_BYTES_MAX - HAK_COLOUR_BYTES)

HAK_INLINE bool hak_medium_is(size_t size) { return HAK_MEDIUM_ON && size <= HAK_MEDIUM_MAX; }

// The medium class, counted from 0, of a request over HAK_TINY_STRIDE_MAX bytes.
HAK_INLINE uint32_t hak_medium_class(size_t size) {
  const size_t last = size + HAK_COLOUR_BYTES - 1;
  const uint32_t doubling = 63u - (uint32_t)__builtin_clzll(last);  // 2^doubling <= last
  const uint32_t step = (uint32_t)(last >> (doubling - HAK_MEDIUM_STEPS_SHIFT)) & 7u;
  return ((doubling - 15u) << HAK_MEDIUM_STEPS_SHIFT) + step;
}
static_assert(HAK_TINY_STRIDE_MAX == (size_t)1 << 15, "the first doubling");

// The bytes of a block of the class, including the bytes in front of it and behind it. This is less than its run if the
// kernel's pages are larger than the step.
HAK_INLINE size_t hak_medium_bytes(uint32_t class_id) {
  const uint32_t doubling = 15u + (class_id >> HAK_MEDIUM_STEPS_SHIFT);
  return (size_t)(8u + (class_id & 7u) + 1u) << (doubling - HAK_MEDIUM_STEPS_SHIFT);
}
HAK_INLINE size_t hak_medium_usable(uint32_t class_id) { return hak_medium_bytes(class_id) - HAK_COLOUR_BYTES; }
// What the page heap counts for such a block: all that its run has room for.
HAK_INLINE size_t hak_medium_counted(uint32_t class_id) {
  return hak_colour_usable(hak_round_up(hak_medium_bytes(class_id), hak_os_page_size()), HAK_CACHE_LINE);
}

// ---- Tags ---------------------------------------------------------------------------------------

// A tag: the class, counted from 1; whether the block is in a cache; and, added by the page heap, where in its page the
// block begins.
#define HAK_TAG_CLASS 0x7fu
#define HAK_TAG_CACHED 0x80u
HAK_INLINE uint8_t hak_medium_tag(uint32_t class_id) { return (uint8_t)(class_id + 1); }
static_assert(HAK_MEDIUM_COUNT < HAK_TAG_CLASS, "a class has seven bits");
// The block is sampled (api/sampled.h), of whatever size; other bits are as if it were not. No medium block has this
// bit in its place, so a sampled one is not taken for one that a cache may hold.
#define HAK_TAG_SAMPLED 0x8000u
static_assert(HAK_COLOURS << 8 < HAK_TAG_SAMPLED, "no place has the bit");
// Whether this is the tag of a medium block that begins at `block`.
HAK_INLINE bool hak_medium_begins(uint32_t tag, const void *block) {
  return (tag & HAK_TAG_CLASS) != 0 && hak_page_tag_front(tag) == ((uintptr_t)block & (HAK_PAGE_SIZE - 1));
}
HAK_INLINE uint32_t hak_medium_class_of_tag(uint32_t tag) { return (tag & HAK_TAG_CLASS) - 1; }
// Ends the process if the block is in a cache. Called by a free of the medium block whose tag this is.
HAK_INLINE void hak_medium_require_not_cached(uint32_t tag, const void *block) {
  if (HAK_UNLIKELY((tag & HAK_TAG_CACHED) != 0)) {
    hak_fatal_block("double free", block, hak_medium_bytes(hak_medium_class_of_tag(tag)));
  }
}

HAK_C_END

#endif  // HAKMEM_LARGE_MEDIUM_H_
