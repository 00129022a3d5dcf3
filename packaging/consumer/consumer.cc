// SPDX-License-Identifier: Apache-2.0
//
// A C++ program that uses no C library functions: prints whether operator new leads to hakmem.
#include <hakmem/compat/tcmalloc.h>
#include <hakmem/hakmem.h>
#include <hakmem/stl_allocator.h>

#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

int main() {
  std::unique_ptr<std::vector<std::string>> block(new std::vector<std::string>(100, std::string(1000, 'x')));
  std::thread([&block] { block->emplace_back(2000, 'y'); }).join();
  std::vector<int, hakmem::StlAllocator<int>> ints(100, 7);
  if (hak_usable_size(ints.data()) == 0) {
    std::cout << "a container with hakmem's allocator is served by another one\n";
    return 1;
  }
  if (MallocExtension::instance()->GetAllocatedSize(ints.data()) != hak_usable_size(ints.data())) {
    std::cout << "tcmalloc's functions have another answer\n";
    return 1;
  }
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  if (hak_stats_get(&stats) != 0 || stats.live_blocks < 100 || hak_usable_size(block->data()) == 0) {
    std::cout << "another malloc serves\n";
    return 1;
  }
  try {
    char *volatile none = new char[std::size_t{1} << 60];
    delete[] none;
    std::cout << "operator new gives what there is not\n";
    return 1;
  } catch (const std::bad_alloc &) {
  }
  std::cout << "hakmem " << hak_version() << " serves\n";
  return 0;
}
