// SPDX-License-Identifier: Apache-2.0
//
// Mutations of inputs that are a row of records of one width. They move, copy and drop whole ranges of records, so that
// what stood behind a change still means what it meant: a byte inserted into the middle would change every call after
// it.
//
// Pure functions of their arguments; op_mutator_hooks.cc makes them the mutator of a target.
#ifndef HAKMEM_FUZZ_OP_MUTATOR_H_
#define HAKMEM_FUZZ_OP_MUTATOR_H_

#include <stddef.h>
#include <stdint.h>

namespace hak_fuzz {

// Bytes of a record, the same in all targets that are made of records.
inline constexpr size_t kRecord = 8;

// Mutates some bytes in place: LLVMFuzzerMutate or the like. Gives the new size.
using ByteMutator = size_t (*)(uint8_t *data, size_t size, size_t max_size);

// Changes the input in data[0, size), whose room is `max_size` bytes. Gives the new size: a multiple of kRecord, and at
// least one record when there is room for one. The input is another one then.
size_t MutateRecords(uint8_t *data, size_t size, size_t max_size, uint64_t seed, ByteMutator mutate_bytes);

// Puts ranges of records of both inputs together in out[0, max_size). Gives the size, as above. Where both have
// a record, and there is room for one, neither of them is what comes out.
size_t CrossRecords(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, uint8_t *out, size_t max_size,
                    uint64_t seed);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_OP_MUTATOR_H_
