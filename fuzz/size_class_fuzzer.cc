// SPDX-License-Identifier: Apache-2.0
//
// The size classes against their rule: the tables against a search, and the multiplication that replaces a division
// against the division.
//
// An input is a sequence of records of eight bytes: a request in the low 40 bits, little endian, and three bytes that
// select an alignment, a class, and the magnitude of the request.
#include <hakmem/hakmem.h>
#include <string.h>

#include <array>

#include "allocator/block/size_class.h"
#include "allocator/slab/slab.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/op_mutator.h"

namespace {

using hak_fuzz::Check;

// Class strides by the rule: steps of 16 bytes up to 256, then sixteen steps a doubling to 1,024, then eight. Every
// other one of the sixteen is a half.
size_t NaiveStride(size_t class_id) {
  static const std::array<size_t, HAK_CLASS_COUNT> strides = [] {
    std::array<size_t, HAK_CLASS_COUNT> by_class = {};
    for (size_t id = 1; id < HAK_CLASS_COUNT; ++id) {
      size_t step = 16;
      for (size_t end = 256; by_class[id - 1] >= end; end *= 2) step = end < 1024 ? end / 16 : end / 8;
      by_class[id] = by_class[id - 1] + step;
    }
    return by_class;
  }();
  return strides[class_id];
}

bool IsHalf(size_t stride) { return stride > 256 && stride < 1024 && (stride < 512 ? stride % 32 : stride % 64) != 0; }

// The table of a small heap: a process that only looks up classes never refines it.
size_t NaiveClass(size_t size, size_t align) {
  for (size_t id = 1; id < HAK_CLASS_COUNT; ++id) {
    const size_t stride = NaiveStride(id);
    if (IsHalf(stride)) continue;
    if (stride >= size + HAK_HEADER_BYTES && stride % align == 0) return id;
  }
  return HAK_CLASS_NONE;
}

void CheckRequest(size_t size, size_t align) {
  const size_t naive = NaiveClass(size, 16);
  Check((size <= HAK_TINY_MAX) == (naive != HAK_CLASS_NONE), "the largest small request");
  const size_t good = hak_good_size(size);
  Check(good >= size, "good_size is too small");
  Check(hak_good_size(good) == good, "good_size of a good size is another");
  Check(size == 0 || hak_good_size(size - 1) <= good, "good_size is not monotone");
  if (size <= HAK_TINY_MAX) {
    const uint32_t id = hak_class_of(size);
    Check(id == naive, "hak_class_of");
    Check(hak_class_is_tiny(id), "hak_class_is_tiny");
    Check(hak_class_stride(id) == NaiveStride(id), "hak_class_stride");
    Check(hak_class_usable(id) == NaiveStride(id) - HAK_HEADER_BYTES, "hak_class_usable");
    Check((HAK_GUARDED ? size : hak_class_usable(id)) == good, "good_size is not the usable size");
  }
  const bool small = size <= HAK_TINY_MAX && align <= HAK_TINY_ALIGN_MAX;
  Check(hak_class_of_aligned(size, align) == (small ? NaiveClass(size, align) : 0), "hak_class_of_aligned");
}

void CheckBlockStart(uint32_t class_id, uintptr_t address) {
  const size_t stride = hak_class_stride(class_id);
  const uint32_t reciprocal = hak_class_info[class_id].reciprocal;
  const void *p = reinterpret_cast<const void *>(address);
  const size_t in_slab = address % HAK_SLAB_SIZE;
  if (in_slab >= HAK_SLAB_ROOM) {
    Check(!hak_slab_is_block_start(p, reciprocal), "a block begins in a guard");
    return;
  }
  const size_t distance = HAK_SLAB_ROOM - in_slab;
  Check(hak_slab_distance(p) == distance, "hak_slab_distance");
  const bool starts = distance % stride == 0;
  Check(hak_slab_is_block_start(p, reciprocal) == starts, "hak_slab_is_block_start");
  Check(hak_slab_is_block_start_by(p, reciprocal, 0U - reciprocal) == starts, "hak_slab_is_block_start_by");
  if (!starts) return;
  hak_slab slab = {};
  slab.reciprocal = reciprocal;
  Check(hak_slab_block_index(&slab, p) == distance / stride - 1, "hak_slab_block_index");
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  for (; size >= hak_fuzz::kRecord; data += hak_fuzz::kRecord, size -= hak_fuzz::kRecord) {
    uint64_t bits = 0;
    memcpy(&bits, data, sizeof bits);
    bits &= (uint64_t{1} << 40) - 1;
    // Half of the requests are small ones.
    const size_t request = data[7] < 128 ? bits % (40 * 1024) : bits >> (data[7] % 40);
    CheckRequest(request, size_t{1} << (data[5] % 20));
    CheckBlockStart(1 + data[6] % (HAK_CLASS_COUNT - 1), bits);
    // Beside a block of the class, where an off-by-one error would show.
    const uint32_t id = 1 + data[6] % (HAK_CLASS_COUNT - 1);
    const size_t stride = hak_class_stride(id);
    const size_t index = bits % (HAK_SLAB_ROOM / stride);
    const uintptr_t start = 7 * HAK_SUPERSLAB_SIZE - HAK_SLAB_GUARD - (index + 1) * stride;
    CheckBlockStart(id, start);
    CheckBlockStart(id, start - 1);
    CheckBlockStart(id, start + 1);
  }
  return 0;
}
