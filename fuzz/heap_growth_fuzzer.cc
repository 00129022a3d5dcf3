// SPDX-License-Identifier: Apache-2.0
//
// Heaps that grow, fall idle and grow again. heap_growth_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/heap_growth_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunHeapGrowthInput({}, data, size);
  return 0;
}
