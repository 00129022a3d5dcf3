// SPDX-License-Identifier: Apache-2.0
//
// Heaps that grow to tens of megabytes, fall idle and grow again, beside threads that wait and threads that allocate
// and free after their end. Small inputs of few calls never reach this code, which depends on time and size.
//
// An input is a sequence of records of eight bytes: byte 0 chooses the step, byte 1 the kind of block, bytes 2 and 3
// how many, byte 4 which of the blocks are freed, byte 5 how long a pause lasts.
#ifndef HAKMEM_FUZZ_HEAP_GROWTH_ENGINE_H_
#define HAKMEM_FUZZ_HEAP_GROWTH_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/test/allocator_api.h"

namespace hak_fuzz {

// Runs one input and frees everything again; throws what is wrong (fuzz_target.h).
void RunHeapGrowthInput(const hak_test::AllocatorApi &api, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_HEAP_GROWTH_ENGINE_H_
