// SPDX-License-Identifier: Apache-2.0
//
// What compilers call besides the functions of C and C++: operator new with hints, numbers and sizes, and the C
// functions with numbers. No compiler of Debian emits these calls, so the test makes them.
#include "allocator/test/compiler_names.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <vector>

#include "allocator/test/test_random.h"

namespace {

using hak_test::kNewNames;
using hak_test::kSizedNewNames;
using hak_test::kTokenApis;
using hak_test::NewName;
using hak_test::SizedNewName;
using hak_test::SizedPtr;
using hak_test::TokenApi;

uint64_t LiveBlocks() {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  return hak_stats_get(&stats) == 0 ? stats.live_blocks : UINT64_MAX;
}

constexpr std::align_val_t kAlign{256};

bool Aligned(const void *ptr, size_t align) { return reinterpret_cast<uintptr_t>(ptr) % align == 0; }

// Not by ?: , for which clang 19 calls both.
void Delete(const NewName &name, void *ptr) {
  if (name.aligned && name.array) {
    operator delete[](ptr, kAlign);
  } else if (name.aligned) {
    operator delete(ptr, kAlign);
  } else if (name.array) {
    operator delete[](ptr);
  } else {
    operator delete(ptr);
  }
}

// The sizes of a test: the borders, and some at random.
std::vector<size_t> Sizes() {
  std::vector<size_t> sizes = {0, 1, 15, 16, 17, 100, 1024, 5000, 32768, 32769, 65536, 300000, 3000000};
  hak_test::Random random(hak_test::TestSeed(1));
  for (int i = 0; i < 40; ++i) sizes.push_back(random.Index(size_t{1} << random.Index(22)));
  return sizes;
}

TEST(CompilerNames, EveryNewGivesABlockOfHakmem) {
  ASSERT_EQ(std::size(kNewNames), 8U * 13U);
  for (const size_t size : Sizes()) {
    for (const NewName &name : kNewNames) {
      SCOPED_TRACE(testing::Message() << name.name << " " << size);
      const uint64_t before = LiveBlocks();
      void *ptr = name.call(size, kAlign);
      ASSERT_NE(ptr, nullptr);
      EXPECT_EQ(LiveBlocks(), before + 1);
      EXPECT_TRUE(Aligned(ptr, name.aligned ? 256 : 16));
      EXPECT_GE(hak_usable_size(ptr), size);
      memset(ptr, 1, size);
      Delete(name, ptr);
      EXPECT_EQ(LiveBlocks(), before);
    }
  }
}

TEST(CompilerNames, TheSizeOfEachSizedNewMayBeUsedAndGivenBack) {
  ASSERT_EQ(std::size(kSizedNewNames), 24U);
  for (const size_t size : Sizes()) {
    for (const SizedNewName &name : kSizedNewNames) {
      SCOPED_TRACE(testing::Message() << name.name << " " << size);
      const uint64_t before = LiveBlocks();
      const SizedPtr block = name.call(size, kAlign);
      ASSERT_NE(block.ptr, nullptr);
      EXPECT_EQ(LiveBlocks(), before + 1);
      EXPECT_TRUE(Aligned(block.ptr, name.aligned ? 256 : 16));
      EXPECT_GE(block.size, size);
      ASSERT_LE(block.size, hak_usable_size(block.ptr));
      if (!name.aligned) {
        EXPECT_EQ(block.size, hak_good_size(size));
      }
      memset(block.ptr, 1, block.size);
      if (name.aligned) {
        operator delete(block.ptr, block.size, kAlign);
      } else {
        operator delete(block.ptr, block.size);
      }
      EXPECT_EQ(LiveBlocks(), before);
    }
  }
}

int handler_calls = 0;

// What nobody has: a form calls the new handler until there is none, and then throws, unless it is nothrow.
template <typename Call>
void ExpectRefused(bool nothrow, const Call &call) {
  constexpr size_t kTooMuch = SIZE_MAX / 2 + 1;
  handler_calls = 0;
  std::set_new_handler([] {
    if (++handler_calls == 2) std::set_new_handler(nullptr);
  });
  bool threw = false;
  void *ptr = nullptr;
  try {
    ptr = call(kTooMuch);
  } catch (const std::bad_alloc &) {
    threw = true;
  }
  std::set_new_handler(nullptr);
  EXPECT_EQ(ptr, nullptr);
  EXPECT_NE(threw, nothrow);
  EXPECT_EQ(handler_calls, 2);
}

TEST(CompilerNames, WhatNobodyHasIsRefused) {
  for (const NewName &name : kNewNames) {
    SCOPED_TRACE(name.name);
    ExpectRefused(name.nothrow, [&](size_t size) { return name.call(size, kAlign); });
  }
  for (const SizedNewName &name : kSizedNewNames) {
    SCOPED_TRACE(name.name);
    ExpectRefused(name.nothrow, [&](size_t size) {
      const SizedPtr block = name.call(size, kAlign);
      EXPECT_EQ(block.size, 0U);
      return block.ptr;
    });
  }
}

TEST(CompilerNames, TheCFunctions) {
  ASSERT_EQ(std::size(kTokenApis), 3U);
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (const TokenApi &api : kTokenApis) {
    for (const size_t size : Sizes()) {
      SCOPED_TRACE(testing::Message() << api.name << " " << size);
      const uint64_t before = LiveBlocks();
      void *ptr = nullptr;
      const auto check = [&](size_t align, size_t usable) {
        ASSERT_NE(ptr, nullptr);
        EXPECT_EQ(LiveBlocks(), before + 1);
        EXPECT_TRUE(Aligned(ptr, align));
        EXPECT_GE(hak_usable_size(ptr), usable);
        memset(ptr, 7, usable);
        free(ptr);
        EXPECT_EQ(LiveBlocks(), before);
      };
      check((ptr = api.malloc(size), 16), size);
      ptr = api.calloc(3, size);
      ASSERT_NE(ptr, nullptr);
      const auto *bytes = static_cast<const unsigned char *>(ptr);
      EXPECT_TRUE(std::all_of(bytes, bytes + 3 * size, [](unsigned char byte) { return byte == 0; }));
      check(16, 3 * size);
      ptr = api.realloc(nullptr, size + 1);
      ASSERT_NE(ptr, nullptr);
      memset(ptr, 5, size + 1);
      ptr = api.realloc(ptr, 2 * size + 1);
      ASSERT_NE(ptr, nullptr);
      EXPECT_EQ(static_cast<unsigned char *>(ptr)[size], 5);
      ptr = api.reallocarray(ptr, 3, size + 1);
      ASSERT_NE(ptr, nullptr);
      EXPECT_EQ(static_cast<unsigned char *>(ptr)[size], 5);
      check(16, 3 * size + 3);
      check((ptr = api.aligned_alloc(512, size), 512), size);
      check((ptr = api.memalign(4096, size), 4096), size);
      EXPECT_EQ(api.posix_memalign(&ptr, 128, size), 0);
      check(128, size);
      check((ptr = api.valloc(size), page), size);
      check((ptr = api.pvalloc(size), page), (size + page - 1) / page * page);
    }
    SCOPED_TRACE(api.name);
    errno = 0;
    EXPECT_EQ(api.calloc(SIZE_MAX / 2, 3), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    void *kept = nullptr;
    EXPECT_EQ(api.posix_memalign(&kept, 3, 8), EINVAL);
    EXPECT_EQ(kept, nullptr);
  }
}

}  // namespace
