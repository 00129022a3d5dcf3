// SPDX-License-Identifier: Apache-2.0
//
// A program whose only contact with the C++ library's memory functions is `new` and the exception it may throw: in a
// fully static link nothing else pulls in the parts of that library that operator new needs for throwing.
#include <stddef.h>
#include <stdio.h>

#include <new>

// Where blocks go that nobody needs: a compiler may drop a new-expression whose block goes nowhere.
void *volatile sink;

int main() {
  volatile size_t size = static_cast<size_t>(-1) / 2 - 100;
  bool thrown = false;
  try {
    sink = new char[size];
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  if (!thrown) {
    puts("FAILED: new gave a block of 8 EiB");
    return 1;
  }
  sink = new (std::nothrow) char[size];
  if (sink != nullptr) {
    puts("FAILED: nothrow new gave a block of 8 EiB");
    return 1;
  }
  puts("bad_alloc was thrown and caught");
  return 0;
}
