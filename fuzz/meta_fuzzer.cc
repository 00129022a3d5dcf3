// SPDX-License-Identifier: Apache-2.0
//
// Memory for the allocator's records. See meta_engine.h for what an input means.
#include "fuzz/fuzz_target.h"
#include "fuzz/meta_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunMetaInput({}, data, size);
  return 0;
}
