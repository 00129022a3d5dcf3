// SPDX-License-Identifier: Apache-2.0
//
// The writer of profiles, and the reader of mappings. pprof_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/pprof_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunPprofInput({}, data, size);
  return 0;
}
