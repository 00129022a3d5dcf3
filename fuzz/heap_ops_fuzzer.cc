// SPDX-License-Identifier: Apache-2.0
//
// Any sequence of calls on the heap, against the model. heap_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/heap_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static hak_fuzz::HeapEngine engine = [] {
    hak_fuzz::HeapEngine made(hak_test::AllocatorApi{}, 64);
    made.CloseLiveBlocks();
    return made;
  }();
  for (const hak_test::Violation &violation : engine.Run(data, size)) {
    hak_fuzz::Fail(std::string(hak_test::OracleName(violation.oracle)) + ": " + violation.what);
  }
  return 0;
}
