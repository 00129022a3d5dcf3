// SPDX-License-Identifier: Apache-2.0
//
// Release policy and memory limit. release_policy_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/release_policy_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunReleasePolicyInput({}, data, size);
  return 0;
}
