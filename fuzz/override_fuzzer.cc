// SPDX-License-Identifier: Apache-2.0
//
// The functions of the overriding library. override_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/override_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static hak_fuzz::OverrideEngine engine{hak_fuzz::OverrideCalls()};
  engine.Run(data, size);
  return 0;
}
