// SPDX-License-Identifier: Apache-2.0
//
// usage: limit_child [MIB [STATUS]]
//
// Holds so many MiB, 16 without an argument, in small and large blocks, then exits with STATUS, or 0.
#include <stdlib.h>
#include <string.h>

#include <vector>

int main(int argc, char **argv) {
  const size_t bytes = static_cast<size_t>(argc > 1 ? atoi(argv[1]) : 16) << 20;
  std::vector<std::vector<char>> held;
  for (size_t sum = 0; sum < bytes;) {
    const size_t size = held.size() % 100 == 0 ? 300000 : 1000;
    held.emplace_back(size, 'x');
    sum += size;
  }
  return argc > 2 ? atoi(argv[2]) : 0;
}
