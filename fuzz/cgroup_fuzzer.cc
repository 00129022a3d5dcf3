// SPDX-License-Identifier: Apache-2.0
//
// The reader of a control group's memory limits. cgroup_engine.h explains the inputs.
#include "fuzz/cgroup_engine.h"
#include "fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunCgroupInput({}, data, size);
  return 0;
}
