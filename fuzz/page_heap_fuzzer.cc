// SPDX-License-Identifier: Apache-2.0
//
// The page heap: blocks of whole pages. page_heap_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/page_heap_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunPageHeapInput({}, data, size);
  return 0;
}
