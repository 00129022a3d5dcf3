// SPDX-License-Identifier: Apache-2.0
//
// Makes the mutations of op_mutator.h the mutator of the target with which this is linked.
#include "fuzz/fuzz_target.h"
#include "fuzz/op_mutator.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
  return hak_fuzz::MutateRecords(data, size, max_size, seed, LLVMFuzzerMutate);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2, size_t size2, uint8_t *out,
                                 size_t max_out_size, unsigned seed) {
  return hak_fuzz::CrossRecords(data1, size1, data2, size2, out, max_out_size, seed);
}
