// SPDX-License-Identifier: Apache-2.0
//
// Records of runs without pages, for tests of the index and of its trees.
#ifndef HAKMEM_PAGES_TEST_RUNS_H_
#define HAKMEM_PAGES_TEST_RUNS_H_

#include <stddef.h>
#include <stdint.h>

#include <utility>

#include "allocator/pages/run.h"

namespace hak_unit {

// What orders runs: size, then address.
using RunKey = std::pair<size_t, uintptr_t>;

inline char *Address(uintptr_t at) { return reinterpret_cast<char *>(at); }
inline RunKey KeyOf(const hak_run &run) { return {run.size, reinterpret_cast<uintptr_t>(run.start)}; }

inline hak_run MakeRun(size_t size, uintptr_t start) {
  hak_run run = {};
  run.size = size;
  run.start = Address(start);
  return run;
}

}  // namespace hak_unit

#endif  // HAKMEM_PAGES_TEST_RUNS_H_
