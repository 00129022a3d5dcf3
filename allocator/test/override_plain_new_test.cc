// SPDX-License-Identifier: Apache-2.0
//
// A program that uses nothing of the C++ runtime but operator new: it links, and operator new can throw.
#include <new>

int main() {
  void *volatile block = ::operator new(16);
  ::operator delete(block);
  try {
    const volatile unsigned long too_much = ~0UL >> 1;
    block = ::operator new(too_much);
  } catch (const std::bad_alloc &) {
    return 0;
  }
  return 1;
}
