// SPDX-License-Identifier: Apache-2.0
//
// The caches of one thread. thread_cache_engine.h explains the inputs.
#include "fuzz/fuzz_target.h"
#include "fuzz/thread_cache_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunThreadCacheInput({}, data, size);
  return 0;
}
