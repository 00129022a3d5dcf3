// SPDX-License-Identifier: Apache-2.0
//
// The slab map in its two-level form. slab_map_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/slab_map_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunSlabMapInput({}, HAK_SLAB_MAP_TWO_LEVEL, data, size);
  return 0;
}
