// SPDX-License-Identifier: Apache-2.0
//
// What this kernel supports, for tests that skip without it. The kernel is asked, never the allocator.
#ifndef HAKMEM_ALLOCATOR_TESTS_KERNEL_SUPPORT_H_
#define HAKMEM_ALLOCATOR_TESTS_KERNEL_SUPPORT_H_

#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace hak_test {

// Whether this system gives the process huge pages of 2 MiB, by default or on advice.
inline bool HasHugePages() {
  std::string line;
  std::getline(std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled"), line);
  const bool some = line.find("[always]") != std::string::npos || line.find("[madvise]") != std::string::npos;
  return some && sysconf(_SC_PAGESIZE) == 4096 && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0;
}

// Whether one call of this kernel populates a range (MADV_POPULATE_WRITE, Linux 5.14).
inline bool FillsOnDemand() {
  constexpr int kPopulateWrite = 23;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void *const start = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return false;
  const bool filled = madvise(start, page, kPopulateWrite) == 0;
  munmap(start, page);
  return filled;
}

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_KERNEL_SUPPORT_H_
