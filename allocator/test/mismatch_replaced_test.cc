// SPDX-License-Identifier: Apache-2.0
//
// A program that replaces one form of operator new or delete, by the C library's malloc and free, and leaves the rest.
// This has always worked, so no form is reported, although the program's form and hakmem's release each other's blocks.
// REPLACE: 1 new, 2 delete, 3 delete with a size, 4 nothrow new[], 5 aligned delete. Exit status: 0, or hakmem ends the
// process.
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wsized-deallocation"  // Replacing only some forms is intended.
#endif

namespace {
int calls;  // of the program's form
}

#if REPLACE == 1
void *operator new(size_t size) {
  calls++;
  void *block = malloc(size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}
#elif REPLACE == 2
void operator delete(void *ptr) noexcept {
  calls++;
  free(ptr);
}
#elif REPLACE == 3
void operator delete(void *ptr, size_t) noexcept {
  calls++;
  free(ptr);
}
#elif REPLACE == 4
void *operator new[](size_t size, const std::nothrow_t &) noexcept {
  calls++;
  return malloc(size);
}
#elif REPLACE == 5
void operator delete(void *ptr, std::align_val_t) noexcept {
  calls++;
  free(ptr);
}
#else
#error "REPLACE says which form is replaced"
#endif

namespace {

// The compiler does not see through it: it would leave out pairs of calls.
void *Hide(void *block) {
  void *volatile hidden = block;
  return hidden;
}

void UseAllForms(size_t size) {
  constexpr std::align_val_t kAlign{64};
  const auto plain = [size] { return Hide(::operator new(size)); };
  const auto array = [size] { return Hide(::operator new[](size)); };
  const auto quiet = [size] { return Hide(::operator new[](size, std::nothrow)); };
  const auto aligned = [size] { return Hide(::operator new(size, kAlign)); };
  const auto aligned_array = [size] { return Hide(::operator new[](size, kAlign)); };
  ::operator delete(plain());
  ::operator delete(plain(), size);
  ::operator delete(plain(), std::nothrow);
  ::operator delete[](array());
  ::operator delete[](array(), size);
  ::operator delete[](quiet());
  ::operator delete[](quiet(), std::nothrow);
  ::operator delete(aligned(), kAlign);
  ::operator delete(aligned(), size, kAlign);
  ::operator delete[](aligned_array(), kAlign);
  ::operator delete[](aligned_array(), size, kAlign);
}

}  // namespace

int main() {
  // FAST and STANDARD have no such setting.
  (void)hak_config_set("HAKMEM_MISMATCH", "fatal");
  for (const size_t size : {size_t{0}, size_t{48}, size_t{100000}}) UseAllForms(size);
  {
    std::map<int, std::vector<std::string>> table;
    for (int i = 0; i < 100; i++) table[i % 7].push_back(std::string(static_cast<size_t>(i), 'x'));
    const auto array = std::make_unique<std::string[]>(10);
    array[3] = table[3][2];
  }
  if (calls == 0) {
    puts("FAILED: the program's form was not called");
    return 1;
  }
  return 0;
}
