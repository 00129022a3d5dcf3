// SPDX-License-Identifier: Apache-2.0
//
// Links, headers and poison of small blocks. block_lane_engine.h explains the inputs.
#include "fuzz/block_lane_engine.h"
#include "fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const hak_fuzz::BlockLaneCalls calls;
  hak_fuzz::RunBlockLaneInput(calls, data, size);
  return 0;
}
