// SPDX-License-Identifier: Apache-2.0
//
// The reader of call frame information. cfi_engine.h explains the inputs.
#include "fuzz/cfi_engine.h"
#include "fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunCfiInput({}, data, size);
  return 0;
}
