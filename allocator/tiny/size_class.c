// SPDX-License-Identifier: Apache-2.0
#include "allocator/tiny/size_class.h"

const struct hak_class_info hak_class_info[HAK_CLASS_IDS] = {
#define HAK_SIZE_CLASS(id, band_, stride_, reciprocal_) \
  [id] = {.stride = (stride_), .reciprocal = (reciprocal_), .band = (band_)},
#include "allocator/tiny/size_class_table.inc"
#undef HAK_SIZE_CLASS
};

// Each class covers the units above the class before it, up to its own stride. Band 0 steps by 16 bytes; band b > 0
// covers (128 << b, 256 << b] in eight steps, which are 16 << b bytes too.
#define UNITS(stride) ((stride) / HAK_MIN_ALIGN)
#define STEP(band_) (16u << (band_))
#define FIRST_UNIT(band_, stride_) (UNITS((stride_) - STEP(band_)) + 1)

const uint8_t hak_class_of_units[HAK_TINY_STRIDE_MAX / HAK_MIN_ALIGN + 1] = {
    [0] = 1,
#define HAK_SIZE_CLASS(id, band_, stride_, reciprocal_) [FIRST_UNIT(band_, stride_)... UNITS(stride_)] = (id),
#include "allocator/tiny/size_class_table.inc"
#undef HAK_SIZE_CLASS
};

#define HAK_SIZE_CLASS(id, band_, stride_, reciprocal_)                                                            \
  static_assert((stride_) % HAK_MIN_ALIGN == 0, "strides keep blocks aligned");                                    \
  static_assert((reciprocal_) == (0x100000000u + (stride_) - 1) / (stride_), "reciprocal is ceil(2^32 / stride)"); \
  static_assert((id) < HAK_CLASS_COUNT && (band_) < HAK_BAND_COUNT, "class and band ids are dense");               \
  static_assert((stride_) <= HAK_TINY_STRIDE_MAX, "the last class is the limit");
#include "allocator/tiny/size_class_table.inc"
#undef HAK_SIZE_CLASS
static_assert(HAK_CLASS_IDS <= 256, "a class id fits the slab map's byte");

uint32_t hak_class_of_aligned(size_t size, size_t align) {
  if (size > HAK_TINY_MAX || align > HAK_TINY_STRIDE_MAX) return HAK_CLASS_NONE;
  for (uint32_t id = hak_class_of(size); id < HAK_CLASS_COUNT; id++) {
    if ((hak_class_stride(id) & (align - 1)) == 0) return id;
  }
  return HAK_CLASS_NONE;
}
