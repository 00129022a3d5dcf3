// SPDX-License-Identifier: Apache-2.0
//
// A library that is loaded and unloaded while allocations are sampled: it allocates, and throws through its own frames.
#include <stdlib.h>

#include <stdexcept>
#include <string>

__attribute__((noinline)) static void Throw(int n) {
  throw std::runtime_error(std::string(static_cast<size_t>(n), 'x'));
}

extern "C" __attribute__((visibility("default"))) int plugin_run(int n);

int plugin_run(int n) {
  int caught = 0;
  for (int i = 0; i < n; i++) {
    void *block = malloc(static_cast<size_t>(i) + 1);
    try {
      Throw(i + 30);
    } catch (const std::exception &) {
      caught++;
    }
    free(block);
  }
  return caught;
}
