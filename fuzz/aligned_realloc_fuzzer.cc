// SPDX-License-Identifier: Apache-2.0
//
// Alignments and changes of size. aligned_realloc_engine.h explains the inputs.
#include "fuzz/aligned_realloc_engine.h"
#include "fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  for (const hak_test::Violation &violation : hak_fuzz::RunAlignedReallocInput({}, data, size)) {
    hak_fuzz::Fail(std::string(hak_test::OracleName(violation.oracle)) + ": " + violation.what);
  }
  return 0;
}
