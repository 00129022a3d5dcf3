// SPDX-License-Identifier: Apache-2.0
//
// A program that uses nothing of the C++ library's memory functions but `new` and the exception that it may throw. In a
// fully static link nothing else pulls in the parts of that library that operator new needs to throw.
#include <stddef.h>
#include <stdio.h>

#include <new>

// Blocks are stored here, because a compiler may remove a new-expression whose result is unused.
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
