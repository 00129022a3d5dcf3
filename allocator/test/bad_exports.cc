// SPDX-License-Identifier: Apache-2.0
//
// A library that breaks every rule exports_test has: other names, another library needed, thread variables that are
// large and reached by a call. The test fails when it finds nothing wrong here.
#include <iostream>

extern "C" {
thread_local char bad_exports_large[4096];
int bad_exports_name(int i);
}

int bad_exports_name(int i) {
  std::cout << bad_exports_large[i];
  return i;
}
