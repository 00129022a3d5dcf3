// SPDX-License-Identifier: Apache-2.0
//
// A program with an operator new of its own: the forms that compilers call use it, and those with a size give the
// request's, because only the program knows more.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>
#include <string.h>

#include <new>

#include "allocator/test/compiler_names.h"

namespace {

constexpr size_t kFront = 32;
int calls = 0;

// With bytes of the program's in front, so that hakmem's size of the block is wrong.
void *Give(size_t size) {
  calls++;
  auto *const block = static_cast<char *>(malloc(size + kFront));
  if (block == nullptr) throw std::bad_alloc();
  return block + kFront;
}

void Take(void *ptr) {
  if (ptr != nullptr) free(static_cast<char *>(ptr) - kFront);
}

}  // namespace

void *operator new(size_t size) { return Give(size); }
void operator delete(void *ptr) noexcept { Take(ptr); }
void operator delete(void *ptr, size_t) noexcept { Take(ptr); }

namespace {

TEST(CompilerNames, AProgramsOwnNewIsUsed) {
  for (const hak_test::NewName &name : hak_test::kNewNames) {
    if (name.aligned) continue;
    SCOPED_TRACE(name.name);
    calls = 0;
    void *ptr = name.call(100, std::align_val_t{16});
    const int seen = calls;
    ASSERT_NE(ptr, nullptr);
    memset(ptr, 1, 100);
    // Not by ?: , for which clang 19 calls both.
    if (name.array) {
      operator delete[](ptr);
    } else {
      operator delete(ptr);
    }
    EXPECT_EQ(seen, 1);
  }
}

TEST(CompilerNames, ItsSizeIsThatOfTheRequest) {
  for (const hak_test::SizedNewName &name : hak_test::kSizedNewNames) {
    if (name.aligned) continue;
    SCOPED_TRACE(name.name);
    calls = 0;
    const hak_test::SizedPtr block = name.call(100, std::align_val_t{16});
    const int seen = calls;
    ASSERT_NE(block.ptr, nullptr);
    memset(block.ptr, 1, 100);
    operator delete(block.ptr, block.size);
    EXPECT_EQ(seen, 1);
    EXPECT_EQ(block.size, 100U);
  }
}

TEST(CompilerNames, NothrowFormsCatchWhatItThrows) {
  for (const hak_test::SizedNewName &name : hak_test::kSizedNewNames) {
    if (name.aligned) continue;
    SCOPED_TRACE(name.name);
    bool threw = false;
    hak_test::SizedPtr block = {&threw, 1};
    try {
      block = name.call(SIZE_MAX / 2, std::align_val_t{16});
    } catch (const std::bad_alloc &) {
      threw = true;
    }
    EXPECT_EQ(threw, !name.nothrow);
    if (name.nothrow) {
      EXPECT_EQ(block.ptr, nullptr);
      EXPECT_EQ(block.size, 0U);
    }
  }
}

}  // namespace
