// SPDX-License-Identifier: Apache-2.0
//
// Frees into slabs of other heaps. remote_queue_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/remote_queue_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunRemoteQueueInput({}, data, size);
  return 0;
}
