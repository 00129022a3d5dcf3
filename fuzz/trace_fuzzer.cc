// SPDX-License-Identifier: Apache-2.0
//
// The reader of traces for //bench:replay. trace_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/trace_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunTraceInput({}, data, size);
  return 0;
}
