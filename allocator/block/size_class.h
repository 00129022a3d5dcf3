// SPDX-License-Identifier: Apache-2.0
//
// Size classes of small blocks: which class a request gets, and the stride of each class.
//
// Some classes ("half classes") are for large heaps only. They waste less by rounding, but each class needs pages of
// its own, which costs a small heap more than it saves. hak_class_refine switches them on, once and for the whole
// process.
//
// Class 0 stands for "no small block". Classes 1 .. HAK_CLASS_COUNT - 1 are the rows of size_class_table.inc, which
// also defines HAK_CLASS_COUNT, HAK_BAND_COUNT, and HAK_TINY_STRIDE_MAX, the stride of the largest class.
//
// HARDENED has each class twice: a second time, HAK_CLASS_COUNT - 1 ids above, for blocks of which the compiler says
// that they will hold pointers. Slabs, bins, lists and quarantines are by class, so such a block is never where a block
// without pointers was. Nothing but hak_class_pointers tells a request the second class.
#ifndef HAKMEM_BLOCK_SIZE_CLASS_H_
#define HAKMEM_BLOCK_SIZE_CLASS_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

#define HAK_SIZE_CLASS(id, band_, low_, stride_, reciprocal_, half_)
#include "allocator/block/size_class_table.inc"
#undef HAK_SIZE_CLASS

#define HAK_CLASS_NONE 0u
// All class ids, with those of pointer-bearing blocks, are below this one.
#define HAK_CLASS_IDS (HAK_HARDENED ? 2 * HAK_CLASS_COUNT - 1 : HAK_CLASS_COUNT)

// The largest request that is a small block.
#define HAK_TINY_MAX (HAK_TINY_STRIDE_MAX - HAK_HEADER_BYTES)

// The largest alignment of a small block: the end of a slab is a multiple of it, and it is at most the largest stride.
#define HAK_TINY_ALIGN_MAX (HAK_SLAB_GUARD != 0 ? HAK_SLAB_GUARD : HAK_TINY_STRIDE_MAX)

struct hak_class_info {
  uint32_t stride;      // bytes from one block to the next
  uint32_t reciprocal;  // ceil(2^32 / stride)
  uint8_t band;         // C0 .. C7
};
extern const struct hak_class_info hak_class_info[HAK_CLASS_IDS];

// The size of a bin of a thread's cache (heap/bin.h).
#define HAK_BIN_BYTES 32u

// The class of a request times HAK_BIN_BYTES, indexed by the size of request and header in units of 16 bytes, rounded
// up. The product is the offset of the class's bin in a cache: so the fast path has no shift between this load and the
// next. Relaxed: hak_class_refine may change entries at any time, and both classes are large enough.
extern uint16_t hak_bin_of_units[HAK_TINY_STRIDE_MAX / HAK_MIN_ALIGN + 1];

// From now on requests get the half classes too. Thread-safe.
void hak_class_refine(void);
// For a class of hak_class_of.
bool hak_class_is_half(uint32_t class_id);

// The class for `size` <= HAK_TINY_MAX bytes, times HAK_BIN_BYTES. Size 0 gets the smallest class.
HAK_INLINE uint32_t hak_class_bin_of(size_t size) {
  const size_t units = (size + HAK_HEADER_BYTES + HAK_MIN_ALIGN - 1) / HAK_MIN_ALIGN;
  // Relaxed: as above.
  return __atomic_load_n(&hak_bin_of_units[units], __ATOMIC_RELAXED);
}
HAK_INLINE uint32_t hak_class_of(size_t size) { return hak_class_bin_of(size) / HAK_BIN_BYTES; }

HAK_INLINE size_t hak_class_stride(uint32_t class_id) { return hak_class_info[class_id].stride; }

// The number of bytes of a block of the class that a program may use.
HAK_INLINE size_t hak_class_usable(uint32_t class_id) { return hak_class_info[class_id].stride - HAK_HEADER_BYTES; }

// Whether realloc keeps a small block with room for `usable` bytes when the program now needs `size` of them. Otherwise
// a move saves a fifth of the block or more: the copy is short, and a program often keeps a block for long after it has
// shrunk it. For the smallest blocks a move costs more than it saves until half of the block is unused.
#define HAK_SHRINK_SMALL 512u
HAK_INLINE bool hak_class_still_serves(size_t usable, size_t size) {
  return size <= usable && (usable <= HAK_SHRINK_SMALL ? size >= usable / 2 : usable - size <= size / 4);
}

HAK_INLINE bool hak_class_is_tiny(uint32_t class_id) { return class_id - 1 < HAK_CLASS_IDS - 1; }

// Whether the class is one of pointer-bearing blocks; the class of such blocks beside a class of hak_class_of; and the
// class of hak_class_of beside any class.
HAK_INLINE bool hak_class_has_pointers(uint32_t class_id) { return HAK_HARDENED && class_id >= HAK_CLASS_COUNT; }
HAK_INLINE uint32_t hak_class_pointers(uint32_t class_id) {
  return HAK_HARDENED ? class_id + HAK_CLASS_COUNT - 1 : class_id;
}
HAK_INLINE uint32_t hak_class_plain(uint32_t class_id) {
  return hak_class_has_pointers(class_id) ? class_id - (HAK_CLASS_COUNT - 1) : class_id;
}

// The smallest class whose blocks hold `size` bytes and are all at multiples of `align`, a power of two; HAK_CLASS_NONE
// when there is none. Blocks are counted from the slab's end, so it is enough that `align` divides the stride.
uint32_t hak_class_find_aligned(size_t size, size_t align);
// The same, inline for requests whose class has that alignment anyway.
HAK_INLINE uint32_t hak_class_of_aligned(size_t size, size_t align) {
  if (size <= HAK_TINY_MAX && align <= HAK_TINY_ALIGN_MAX) {
    const uint32_t class_id = hak_class_of(size);
    if (HAK_LIKELY((hak_class_stride(class_id) & (align - 1)) == 0)) return class_id;
  }
  return hak_class_find_aligned(size, align);
}

HAK_C_END

#endif  // HAKMEM_BLOCK_SIZE_CLASS_H_
