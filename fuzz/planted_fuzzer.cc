// SPDX-License-Identifier: Apache-2.0
//
// A target with a bug, which the drivers of targets must notice.
#include <string.h>

#include "fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 3 && memcmp(data, "BUG", 3) == 0) hak_fuzz::Fail("the planted bug");
  return 0;
}
