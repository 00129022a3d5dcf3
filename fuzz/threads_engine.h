// SPDX-License-Identifier: Apache-2.0
//
// Runs an input of heap_threads_fuzzer: calls by three threads, through the model of allocator/test/heap_model.h.
//
// An input is a sequence of records as in heap_engine.h, but Step() reads byte 0 in another way, bits 0 and 1 of byte 7
// are the thread that makes the call, and bit 2 says that the next call does not wait for this one.
#ifndef HAKMEM_FUZZ_THREADS_ENGINE_H_
#define HAKMEM_FUZZ_THREADS_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/test/heap_model.h"

namespace hak_fuzz {

inline constexpr size_t kThreadsOpsMax = 128;

// Runs one input and frees everything again, unless the model has found a violation. The threads stay for the next
// input.
void RunThreadsInput(hak_test::HeapModel *model, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_THREADS_ENGINE_H_
