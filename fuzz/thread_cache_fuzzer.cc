// SPDX-License-Identifier: Apache-2.0
//
// The caches of one thread. See thread_cache_engine.h for what an input means.
#include "fuzz/fuzz_target.h"
#include "fuzz/thread_cache_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_fuzz::RunThreadCacheInput({}, data, size);
  return 0;
}
