// SPDX-License-Identifier: Apache-2.0
//
// A program whose only contact with the C++ library's memory functions is `new` and the exception it may throw: in a
// fully static link nothing else pulls in the parts of that library that operator new needs for throwing.
#include <stddef.h>
#include <stdio.h>

#include <new>

int main() {
  volatile size_t size = static_cast<size_t>(-1) / 2 - 100;
  bool thrown = false;
  try {
    delete[] new char[size];
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  if (!thrown) {
    puts("FAILED: new gave a block of 8 EiB");
    return 1;
  }
  if (new (std::nothrow) char[size] != nullptr) {
    puts("FAILED: nothrow new gave a block of 8 EiB");
    return 1;
  }
  puts("bad_alloc was thrown and caught");
  return 0;
}
