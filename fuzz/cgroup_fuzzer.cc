// SPDX-License-Identifier: Apache-2.0
//
// The reader of a control group's memory limits. See cgroup_engine.h for what an input means.
#include "fuzz/cgroup_engine.h"
#include "fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunCgroupInput({}, data, size);
  return 0;
}
