// SPDX-License-Identifier: Apache-2.0
//
// Alignments and changes of size, through the model of allocator/test/heap_model.h: blocks of every alignment, and
// series of realloc, reallocarray, aligned_realloc and realloc_in_place that grow and shrink them step by step.
//
// An input is a sequence of records of eight bytes:
//   byte 0    the call, see Step
//   byte 1    which of 8 blocks
//   byte 2-5  size, as in heap_engine.h (DecodeSize)
//   byte 6    alignment: a power of two from 1 to 4 MiB; for memalign also numbers between
//   byte 7    how many steps a row has, and which way
#ifndef HAKMEM_FUZZ_ALIGNED_REALLOC_ENGINE_H_
#define HAKMEM_FUZZ_ALIGNED_REALLOC_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "allocator/test/heap_model.h"

namespace hak_fuzz {

// Runs one input and frees everything again. Returns what is wrong; nothing for a correct allocator.
std::vector<hak_test::Violation> RunAlignedReallocInput(const hak_test::AllocatorApi &api, const uint8_t *data,
                                                        size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_ALIGNED_REALLOC_ENGINE_H_
