// SPDX-License-Identifier: Apache-2.0
//
// Mutations of inputs that are sequences of records of one width. They move, copy and remove whole ranges of records,
// so that the records after a change keep their meaning. A byte inserted in the middle would change every later call.
//
// Pure functions of their arguments. op_mutator_hooks.cc makes them a target's mutator.
#ifndef HAKMEM_FUZZ_OP_MUTATOR_H_
#define HAKMEM_FUZZ_OP_MUTATOR_H_

#include <stddef.h>
#include <stdint.h>

namespace hak_fuzz {

// Bytes of a record, the same in all targets whose inputs are records.
inline constexpr size_t kRecord = 8;

// Mutates some bytes in place, like LLVMFuzzerMutate. Returns the new size.
using ByteMutator = size_t (*)(uint8_t *data, size_t size, size_t max_size);

// Changes the input in data[0, size), which has room for `max_size` bytes. Returns the new size: a multiple of kRecord,
// and at least one record if there is room. The result differs from the input.
size_t MutateRecords(uint8_t *data, size_t size, size_t max_size, uint64_t seed, ByteMutator mutate_bytes);

// Combines ranges of records of both inputs in out[0, max_size). Returns the size, as above. If both have a record and
// there is room for one, the result differs from both.
size_t CrossRecords(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, uint8_t *out, size_t max_size,
                    uint64_t seed);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_OP_MUTATOR_H_
