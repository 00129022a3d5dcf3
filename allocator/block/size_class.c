// SPDX-License-Identifier: Apache-2.0
//
// The tables of size classes, and the step from whole classes to half classes.
#include "allocator/block/size_class.h"

const struct hak_class_info hak_class_info[HAK_CLASS_IDS] = {
#define HAK_SIZE_CLASS(id, band_, low_, stride_, reciprocal_, half_) \
  [id] = {.stride = (stride_), .reciprocal = (reciprocal_), .band = (band_)},
#include "allocator/block/size_class_table.inc"
#undef HAK_SIZE_CLASS
#if HAK_HARDENED
#define HAK_SIZE_CLASS(id, band_, low_, stride_, reciprocal_, half_) \
  [(id) + HAK_CLASS_COUNT - 1] = {.stride = (stride_), .reciprocal = (reciprocal_), .band = (band_)},
#include "allocator/block/size_class_table.inc"
#undef HAK_SIZE_CLASS
#endif
};

// At first without the half classes.
#define UNITS(bytes) ((bytes) / HAK_MIN_ALIGN)
#define WHOLE_0(id, low_, stride_) [UNITS(low_) + 1 ... UNITS(stride_)] = (id) * HAK_BIN_BYTES,
#define WHOLE_1(id, low_, stride_)

uint16_t hak_bin_of_units[HAK_TINY_STRIDE_MAX / HAK_MIN_ALIGN + 1] = {
    [0] = HAK_BIN_BYTES,
#define HAK_SIZE_CLASS(id, band_, low_, stride_, reciprocal_, half_) WHOLE_##half_(id, low_, stride_)
#include "allocator/block/size_class_table.inc"
#undef HAK_SIZE_CLASS
};

// Relaxed: a request that still reads the old entry gets a block of the whole class, which is large enough too.
static void use_half(uint32_t class_id) {
  const uint32_t stride = hak_class_info[class_id].stride;
  for (uint32_t unit = UNITS(hak_class_info[class_id - 1].stride) + 1; unit <= UNITS(stride); unit++) {
    __atomic_store_n(&hak_bin_of_units[unit], (uint16_t)(class_id * HAK_BIN_BYTES), __ATOMIC_RELAXED);
  }
}

bool hak_class_is_half(uint32_t class_id) {
  switch (class_id) {
#define HALF_0(id)
#define HALF_1(id) case (id):
#define HAK_SIZE_CLASS(id, band_, low_, stride_, reciprocal_, half_) HALF_##half_(id)
#include "allocator/block/size_class_table.inc"
#undef HAK_SIZE_CLASS
    return true;
    default:
      return false;
  }
}

void hak_class_refine(void) {
  for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
    if (hak_class_is_half(id)) use_half(id);
  }
}

#define HAK_SIZE_CLASS(id, band_, low_, stride_, reciprocal_, half_)                                               \
  static_assert((stride_) % HAK_MIN_ALIGN == 0, "strides keep blocks aligned");                                    \
  static_assert((reciprocal_) == (0x100000000u + (stride_) - 1) / (stride_), "reciprocal is ceil(2^32 / stride)"); \
  static_assert((id) < HAK_CLASS_COUNT && (band_) < HAK_BAND_COUNT, "class and band ids are dense");               \
  static_assert((stride_) <= HAK_TINY_STRIDE_MAX, "the last class is the limit");
#include "allocator/block/size_class_table.inc"
#undef HAK_SIZE_CLASS
static_assert(HAK_CLASS_IDS <= 256, "a class id fits the byte of a slab's record, and the offset of its bin 16 bits");

uint32_t hak_class_find_aligned(size_t size, size_t align) {
  if (size > HAK_TINY_MAX || align > HAK_TINY_ALIGN_MAX) return HAK_CLASS_NONE;
  for (uint32_t id = hak_class_of(size); id < HAK_CLASS_COUNT; id++) {
    if ((hak_class_stride(id) & (align - 1)) == 0) return id;
  }
  return HAK_CLASS_NONE;
}
