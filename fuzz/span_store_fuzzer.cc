// SPDX-License-Identifier: Apache-2.0
//
// Large blocks: spans of slabs, and mappings. See span_store_engine.h for what an input means.
#include "fuzz/fuzz_target.h"
#include "fuzz/span_store_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunSpanStoreInput({}, data, size);
  return 0;
}
