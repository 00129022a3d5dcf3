// SPDX-License-Identifier: Apache-2.0
//
// Calls on the heap by three threads, against the model. The input says which thread makes the next call, so that
// threads free each other's blocks, and whether calls wait for each other. If all do, an input always does the same;
// otherwise two calls can run at once. See threads_engine.h.
#include "fuzz/fuzz_target.h"
#include "fuzz/threads_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_test::HeapModel model{hak_test::AllocatorApi{}};
  hak_fuzz::RunThreadsInput(&model, data, size);
  for (const hak_test::Violation &violation : model.violations()) {
    hak_fuzz::Fail(std::string(hak_test::OracleName(violation.oracle)) + ": " + violation.what);
  }
  return 0;
}
