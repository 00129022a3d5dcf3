// SPDX-License-Identifier: Apache-2.0
//
// A library that breaks every rule of exports_test: it exports other names, needs another library, and has large thread
// variables that are accessed by a call. The test fails if it accepts this library.
#include <iostream>

extern "C" {
thread_local char bad_exports_large[4096];
int bad_exports_name(int i);
}

int bad_exports_name(int i) {
  std::cout << bad_exports_large[i];
  return i;
}
