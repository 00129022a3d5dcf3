// SPDX-License-Identifier: Apache-2.0
//
// The C++ allocation functions of the override: every replaceable form that C++17 has, 8 of new and 12 of delete, and
// the rules of the new handler ([new.delete] in the C++ standard).
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <stdlib.h>

#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

// Sized nothrow delete: not in any standard, and not declared by any header.
extern "C" {
void _ZdlPvmRKSt9nothrow_t(void *ptr, size_t size, const std::nothrow_t &tag);
void _ZdaPvmRKSt9nothrow_t(void *ptr, size_t size, const std::nothrow_t &tag);
}

namespace {

uint64_t LiveBlocks() {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  return hak_stats_get(&stats) == 0 ? stats.live_blocks : UINT64_MAX;
}

constexpr std::align_val_t kAlign{256};

bool Good(void *p, size_t size, size_t alignment) {
  return p != nullptr && hak_usable_size(p) >= size && reinterpret_cast<uintptr_t>(p) % alignment == 0;
}

// Every delete that may free a block of the new beside it.
TEST(NewDelete, EveryReplaceableForm) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{100}, size_t{5000}, size_t{300000}}) {
    SCOPED_TRACE(size);
    const uint64_t traced = LiveBlocks();
    void *p = nullptr;
    const auto check = [&](size_t alignment) {
      EXPECT_TRUE(Good(p, size, alignment));
      EXPECT_EQ(LiveBlocks(), traced + 1);
    };
    // Throwing and nothrow new, plain delete, sized delete, nothrow delete.
    ::operator delete((p = ::operator new(size), check(16), p));
    ::operator delete((p = ::operator new(size), check(16), p), size);
    ::operator delete((p = ::operator new(size, std::nothrow), check(16), p), std::nothrow);
    // Arrays.
    ::operator delete[]((p = ::operator new[](size), check(16), p));
    ::operator delete[]((p = ::operator new[](size), check(16), p), size);
    ::operator delete[]((p = ::operator new[](size, std::nothrow), check(16), p), std::nothrow);
    // Aligned.
    ::operator delete((p = ::operator new(size, kAlign), check(256), p), kAlign);
    ::operator delete((p = ::operator new(size, kAlign), check(256), p), size, kAlign);
    ::operator delete((p = ::operator new(size, kAlign, std::nothrow), check(256), p), kAlign, std::nothrow);
    // Aligned arrays.
    ::operator delete[]((p = ::operator new[](size, kAlign), check(256), p), kAlign);
    ::operator delete[]((p = ::operator new[](size, kAlign), check(256), p), size, kAlign);
    ::operator delete[]((p = ::operator new[](size, kAlign, std::nothrow), check(256), p), kAlign, std::nothrow);
    // Beyond the standard.
    _ZdlPvmRKSt9nothrow_t((p = ::operator new(size, std::nothrow), check(16), p), size, std::nothrow);
    _ZdaPvmRKSt9nothrow_t((p = ::operator new[](size, std::nothrow), check(16), p), size, std::nothrow);
    EXPECT_EQ(LiveBlocks(), traced);
  }
  const uint64_t before = LiveBlocks();
  ::operator delete(nullptr);
  ::operator delete(nullptr, size_t{8});
  ::operator delete(nullptr, std::nothrow);
  ::operator delete[](nullptr);
  ::operator delete[](nullptr, size_t{8});
  ::operator delete[](nullptr, std::nothrow);
  ::operator delete(nullptr, kAlign);
  ::operator delete(nullptr, size_t{8}, kAlign);
  ::operator delete(nullptr, kAlign, std::nothrow);
  ::operator delete[](nullptr, kAlign);
  ::operator delete[](nullptr, size_t{8}, kAlign);
  ::operator delete[](nullptr, kAlign, std::nothrow);
  EXPECT_EQ(LiveBlocks(), before);
}

// Blocks are stored here, because a compiler may remove a new-expression whose result is unused.
void *volatile g_sink;

TEST(NewDelete, ExpressionsAndContainers) {
  struct alignas(512) Wide {
    char bytes[512];
  };
  const uint64_t before = LiveBlocks();
  {
    auto one = std::make_unique<Wide>();
    auto many = std::make_unique<Wide[]>(7);
    g_sink = one.get();
    g_sink = many.get();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(one.get()) % 512, 0U);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(many.get()) % 512, 0U);
    const std::vector<std::string> strings(100, std::string(200, 'x'));
    EXPECT_EQ(LiveBlocks(), before + 2 + 1 + 100);
  }
  EXPECT_EQ(LiveBlocks(), before);
}

// ---- The new handler ----------------------------------------------------------------------------

int g_calls;

// Gives up at the third call, as a handler does that can free nothing more.
void GivesUpAtThird() {
  if (++g_calls == 3) std::set_new_handler(nullptr);
}

struct OwnException {};
void Throws() {
  ++g_calls;
  throw OwnException();
}
void ThrowsBadAlloc() {
  ++g_calls;
  throw std::bad_alloc();
}

size_t Impossible() {
  volatile size_t size = std::numeric_limits<size_t>::max() / 2 - 100;
  return size;
}

class NewHandler : public testing::Test {
 protected:
  void Install(std::new_handler handler) {
    g_calls = 0;
    std::set_new_handler(handler);
  }
  void TearDown() override { std::set_new_handler(nullptr); }
};

// The results are stored, because clang removes an allocation whose result is unused when it sees the function, as in
// link-time optimisation.
TEST_F(NewHandler, IsCalledUntilItGivesUp) {
  Install(GivesUpAtThird);
  EXPECT_THROW(g_sink = ::operator new(Impossible()), std::bad_alloc);
  EXPECT_EQ(g_calls, 3);
  Install(GivesUpAtThird);
  EXPECT_THROW(g_sink = ::operator new[](Impossible()), std::bad_alloc);
  EXPECT_EQ(g_calls, 3);
  Install(GivesUpAtThird);
  EXPECT_THROW(g_sink = ::operator new(Impossible(), kAlign), std::bad_alloc);
  EXPECT_EQ(g_calls, 3);
  Install(GivesUpAtThird);
  EXPECT_THROW(g_sink = ::operator new[](Impossible(), kAlign), std::bad_alloc);
  EXPECT_EQ(g_calls, 3);
}

TEST_F(NewHandler, NothrowCallsItToo) {
  Install(GivesUpAtThird);
  EXPECT_EQ(::operator new(Impossible(), std::nothrow), nullptr);
  EXPECT_EQ(g_calls, 3);
  Install(GivesUpAtThird);
  EXPECT_EQ(::operator new[](Impossible(), std::nothrow), nullptr);
  EXPECT_EQ(g_calls, 3);
  Install(GivesUpAtThird);
  EXPECT_EQ(::operator new(Impossible(), kAlign, std::nothrow), nullptr);
  EXPECT_EQ(g_calls, 3);
  Install(GivesUpAtThird);
  EXPECT_EQ(::operator new[](Impossible(), kAlign, std::nothrow), nullptr);
  EXPECT_EQ(g_calls, 3);
}

TEST_F(NewHandler, NoneMeansBadAllocAtOnce) {
  Install(nullptr);
  EXPECT_THROW(g_sink = ::operator new(Impossible()), std::bad_alloc);
  EXPECT_EQ(::operator new(Impossible(), std::nothrow), nullptr);
}

TEST_F(NewHandler, ItsExceptionPasses) {
  Install(Throws);
  EXPECT_THROW(g_sink = ::operator new(Impossible()), OwnException);
  EXPECT_THROW(g_sink = ::operator new[](Impossible(), kAlign), OwnException);
  EXPECT_EQ(g_calls, 2);
  // If a handler throws, the nothrow forms return a null pointer.
  Install(ThrowsBadAlloc);
  EXPECT_EQ(::operator new(Impossible(), std::nothrow), nullptr);
  EXPECT_EQ(::operator new[](Impossible(), kAlign, std::nothrow), nullptr);
  EXPECT_EQ(g_calls, 2);
}

// An array whose size in bytes overflows never reaches operator new.
TEST(NewDelete, ArrayLengthOverflow) {
  volatile size_t count = std::numeric_limits<size_t>::max() / 4;
  const uint64_t before = LiveBlocks();
  bool thrown = false;
  try {
    g_sink = new uint64_t[count];
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  EXPECT_TRUE(thrown);
  EXPECT_LE(LiveBlocks(), before + 1);  // the exception's own memory may still be live
}

}  // namespace
