// SPDX-License-Identifier: Apache-2.0
//
// A program that replaces some of the forms of operator new and delete. REPLACE is a sum: 1 the plain forms, 2 those
// for arrays, 4 the aligned ones. C++ defines the other forms by these ([new.delete]), so each block must go through
// the program's forms, and none of its blocks may go to another allocator. Exit status: 0, or a line says what is
// wrong. This must hold when it is linked with the archive, under LD_PRELOAD, and with the C library alone.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wsized-deallocation"  // Replacing only some forms is intended.
#endif

namespace {

// The program's own blocks have a mark in front.
struct alignas(16) Mark {
  uint64_t word;
  void *start;
};
constexpr uint64_t kMark = 0x6d61726b6d61726b;

int failures;
size_t news, deletes;  // calls of the program's own forms
bool refuse;

void Expect(bool right, const char *what) {
  if (right) return;
  printf("FAILED: %s\n", what);
  failures++;
}

// Not inlined: what a compiler assumes of a block from new is not true for an allocator that marks it.
[[maybe_unused, gnu::noinline]] void *Own(size_t size, size_t align) {
  news++;
  char *start = refuse ? nullptr : static_cast<char *>(malloc(size + align + sizeof(Mark)));
  if (start == nullptr) throw std::bad_alloc();
  const uintptr_t at = (reinterpret_cast<uintptr_t>(start) + sizeof(Mark) + align - 1) / align * align;
  Mark *mark = reinterpret_cast<Mark *>(at) - 1;
  mark->word = kMark;
  mark->start = start;
  return mark + 1;
}

[[maybe_unused, gnu::noinline]] void OwnFree(void *ptr) noexcept {
  if (ptr == nullptr) return;
  deletes++;
  Mark *mark = static_cast<Mark *>(ptr) - 1;
  if (mark->word != kMark) {
    puts("FAILED: a block of another allocator is freed by the program's delete");
    fflush(stdout);
    _Exit(1);
  }
  mark->word = 0;
  free(mark->start);
}

}  // namespace

#if REPLACE & 1
void *operator new(size_t size) { return Own(size, 16); }
void operator delete(void *ptr) noexcept { OwnFree(ptr); }
#endif
#if REPLACE & 2
void *operator new[](size_t size) { return Own(size, 16); }
void operator delete[](void *ptr) noexcept { OwnFree(ptr); }
#endif
#if REPLACE & 4
void *operator new(size_t size, std::align_val_t align) { return Own(size, static_cast<size_t>(align)); }
void operator delete(void *ptr, std::align_val_t) noexcept { OwnFree(ptr); }
#endif

namespace {

constexpr std::align_val_t kAlign{64};
constexpr bool kPlain = (REPLACE & 1) != 0, kArray = (REPLACE & 3) != 0, kAligned = (REPLACE & 4) != 0;

// Runs the round trip often enough for the fast paths to be used. Each time both calls must go through the program's
// forms, or none.
template <typename Body>
void Round(const char *name, bool ours, Body body) {
  for (int i = 0; i < 200; i++) {
    const size_t news_before = news, deletes_before = deletes;
    body();
    if (news - news_before != (ours ? 1u : 0u) || deletes - deletes_before != (ours ? 1u : 0u)) {
      printf("FAILED: %s went through the program's forms %zu and %zu times\n", name, news - news_before,
             deletes - deletes_before);
      failures++;
      return;
    }
  }
}

// Called by their addresses, because a compiler makes assumptions about what it knows to be operator new.
using Quiet = const std::nothrow_t &;
using Align = std::align_val_t;
void *(*volatile single_new)(size_t) = ::operator new;
void *(*volatile array_new)(size_t) = ::operator new[];
void *(*volatile nothrow_new)(size_t, Quiet) noexcept = ::operator new;
void *(*volatile nothrow_array_new)(size_t, Quiet) noexcept = ::operator new[];
void *(*volatile aligned_new)(size_t, Align) = ::operator new;
void *(*volatile aligned_array_new)(size_t, Align) = ::operator new[];
void *(*volatile aligned_nothrow_new)(size_t, Align, Quiet) noexcept = ::operator new;
void *(*volatile aligned_nothrow_array_new)(size_t, Align, Quiet) noexcept = ::operator new[];
void (*volatile single_delete)(void *) noexcept = ::operator delete;
void (*volatile array_delete)(void *) noexcept = ::operator delete[];
void (*volatile sized_delete)(void *, size_t) noexcept = ::operator delete;
void (*volatile sized_array_delete)(void *, size_t) noexcept = ::operator delete[];
void (*volatile nothrow_delete)(void *, Quiet) noexcept = ::operator delete;
void (*volatile nothrow_array_delete)(void *, Quiet) noexcept = ::operator delete[];
void (*volatile aligned_delete)(void *, Align) noexcept = ::operator delete;
void (*volatile aligned_array_delete)(void *, Align) noexcept = ::operator delete[];
void (*volatile aligned_sized_delete)(void *, size_t, Align) noexcept = ::operator delete;
void (*volatile aligned_sized_array_delete)(void *, size_t, Align) noexcept = ::operator delete[];
void (*volatile aligned_nothrow_delete)(void *, Align, Quiet) noexcept = ::operator delete;
void (*volatile aligned_nothrow_array_delete)(void *, Align, Quiet) noexcept = ::operator delete[];

void EachForm(size_t size) {
  Quiet quiet = std::nothrow;
  const auto use = [&](void *block) { return memset(block, 1, size); };
  Round("new", kPlain, [&] { single_delete(use(single_new(size))); });
  Round("delete with the size", kPlain, [&] { sized_delete(use(single_new(size)), size); });
  Round("nothrow new", kPlain, [&] { nothrow_delete(use(nothrow_new(size, quiet)), quiet); });
  Round("new[]", kArray, [&] { array_delete(use(array_new(size))); });
  Round("delete[] with the size", kArray, [&] { sized_array_delete(use(array_new(size)), size); });
  Round("nothrow new[]", kArray, [&] { nothrow_array_delete(use(nothrow_array_new(size, quiet)), quiet); });
  Round("aligned new", kAligned, [&] { aligned_delete(use(aligned_new(size, kAlign)), kAlign); });
  Round("aligned delete with the size", kAligned,
        [&] { aligned_sized_delete(use(aligned_new(size, kAlign)), size, kAlign); });
  Round("aligned nothrow new", kAligned,
        [&] { aligned_nothrow_delete(use(aligned_nothrow_new(size, kAlign, quiet)), kAlign, quiet); });
  Round("aligned new[]", kAligned, [&] { aligned_array_delete(use(aligned_array_new(size, kAlign)), kAlign); });
  Round("aligned delete[] with the size", kAligned,
        [&] { aligned_sized_array_delete(use(aligned_array_new(size, kAlign)), size, kAlign); });
  Round("aligned nothrow new[]", kAligned,
        [&] { aligned_nothrow_array_delete(use(aligned_nothrow_array_new(size, kAlign, quiet)), kAlign, quiet); });
}

// The nothrow forms that are defined by the program's form catch what it throws.
void Refused() {
  Quiet quiet = std::nothrow;
  refuse = true;
  for (int i = 0; i < 3; i++) {
    if (kPlain) Expect(nothrow_new(10, quiet) == nullptr, "nothrow new throws or gives a block");
    if (kArray) Expect(nothrow_array_new(10, quiet) == nullptr, "nothrow new[] throws or gives a block");
    if (kAligned) {
      Expect(aligned_nothrow_new(10, kAlign, quiet) == nullptr, "aligned nothrow new throws or gives a block");
      Expect(aligned_nothrow_array_new(10, kAlign, quiet) == nullptr, "aligned nothrow new[] throws or gives a block");
    }
    bool thrown = false;
    try {
      void *volatile block = kArray ? array_new(10) : aligned_new(10, kAlign);
      (void)block;
    } catch (const std::bad_alloc &) {
      thrown = true;
    }
    Expect(thrown, "new does not throw what the program's throws");
  }
  refuse = false;
}

struct alignas(64) Wide {
  char bytes[200];
};

void All() {
  for (const size_t size : {size_t{1}, size_t{100}, size_t{5000}, size_t{100000}}) EachForm(size);
  Refused();
  const auto one = std::make_unique<Wide>();
  const auto many = std::make_unique<Wide[]>(10);
  std::vector<std::string> texts(100, std::string(100, 'x'));
  texts.resize(1000);
  delete new int(1);
  delete[] new std::string[10];
}

}  // namespace

int main() {
  All();
  std::thread(All).join();
  if (failures == 0) puts("each form is made of the program's own");
  return failures != 0;
}
