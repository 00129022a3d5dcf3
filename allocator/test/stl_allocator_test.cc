// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/stl_allocator.h>
#include <stdint.h>
#include <string.h>

#include <deque>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "allocator/test/probe.h"

namespace {

using hak_test::Stats;
using hakmem::StlAllocator;

template <size_t kAlignment>
struct alignas(kAlignment) Aligned {
  char bytes[kAlignment];
};

template <typename T>
bool IsAligned(const T *p) {
  return reinterpret_cast<uintptr_t>(p) % (alignof(T) < 16 ? 16 : alignof(T)) == 0;
}

// The requirements of the standard, checked at compile time.
using Traits = std::allocator_traits<StlAllocator<int>>;
static_assert(Traits::is_always_equal::value);
static_assert(Traits::propagate_on_container_copy_assignment::value);
static_assert(Traits::propagate_on_container_move_assignment::value);
static_assert(Traits::propagate_on_container_swap::value);
static_assert(std::is_same_v<Traits::rebind_alloc<std::string>, StlAllocator<std::string>>);
static_assert(std::is_empty_v<StlAllocator<int>>);
static_assert(std::is_nothrow_copy_constructible_v<StlAllocator<int>>);
static_assert(std::is_nothrow_constructible_v<StlAllocator<int>, StlAllocator<double>>);
static_assert(noexcept(StlAllocator<int>() == StlAllocator<double>()));
static_assert(noexcept(StlAllocator<int>().deallocate(nullptr, 0)));
static_assert(sizeof(std::vector<int, StlAllocator<int>>) == sizeof(std::vector<int>));
static_assert(std::is_nothrow_move_assignable_v<std::vector<int, StlAllocator<int>>>);

template <size_t kAlignment>
void AllocateAligned() {
  using T = Aligned<kAlignment>;
  StlAllocator<T> allocator;
  for (const size_t count : {size_t{1}, size_t{2}, size_t{3}, size_t{7}, size_t{100}}) {
    T *const objects = allocator.allocate(count);
    ASSERT_NE(objects, nullptr);
    EXPECT_TRUE(IsAligned(objects)) << kAlignment << " count " << count;
    EXPECT_GE(hak_usable_size(objects), count * sizeof(T));
    memset(static_cast<void *>(objects), 0x5a, count * sizeof(T));
    allocator.deallocate(objects, count);
  }
}

TEST(StlAllocator, AlignsEveryType) {
  AllocateAligned<1>();
  AllocateAligned<8>();
  AllocateAligned<16>();
  AllocateAligned<32>();
  AllocateAligned<64>();
  AllocateAligned<4096>();
  AllocateAligned<65536>();
}

TEST(StlAllocator, NoObjectsAreABlockOfTheirOwn) {
  StlAllocator<Aligned<64>> wide;
  StlAllocator<int> narrow;
  Aligned<64> *const a = wide.allocate(0);
  int *const b = narrow.allocate(0);
  int *const c = narrow.allocate(0);
  EXPECT_TRUE(a != nullptr && b != nullptr && c != nullptr && b != c);
  wide.deallocate(a, 0);
  narrow.deallocate(b, 0);
  narrow.deallocate(c, 0);
}

TEST(StlAllocator, RefusesALengthThatOverflows) {
  StlAllocator<uint64_t> allocator;
  const size_t most = static_cast<size_t>(PTRDIFF_MAX) / sizeof(uint64_t);
  // (SIZE_MAX / 8 + 2) * 8 is 8 in 64 bits: without a check the request would succeed.
  for (const size_t count : {most + 1, SIZE_MAX / sizeof(uint64_t) + 1, SIZE_MAX / sizeof(uint64_t) + 2, SIZE_MAX}) {
    EXPECT_THROW((void)allocator.allocate(count), std::bad_array_new_length) << count;
    EXPECT_THROW((void)StlAllocator<Aligned<64>>().allocate(count), std::bad_array_new_length) << count;
  }
}

TEST(StlAllocator, ThrowsWhenMemoryCannotBeHad) {
  const uint64_t live = Stats().live_blocks;
  const auto fails = [](auto allocator, size_t count) {
    errno = 0;
    try {
      (void)allocator.allocate(count);
    } catch (const std::bad_array_new_length &) {
      return false;
    } catch (const std::bad_alloc &) {
      return errno == ENOMEM;
    }
    return false;
  };
  EXPECT_TRUE(fails(StlAllocator<char>(), static_cast<size_t>(PTRDIFF_MAX) - 8192));
  EXPECT_TRUE(fails(StlAllocator<Aligned<64>>(), static_cast<size_t>(PTRDIFF_MAX) / 64 - 8192));
  EXPECT_EQ(Stats().live_blocks, live);
  // The next call succeeds.
  StlAllocator<char> allocator;
  allocator.deallocate(allocator.allocate(10), 10);
}

TEST(StlAllocator, DeallocateLeavesErrno) {
  StlAllocator<char> allocator;
  char *const small = allocator.allocate(10);
  char *const large = allocator.allocate(8 << 20);
  errno = 1234;
  allocator.deallocate(small, 10);
  allocator.deallocate(large, 8 << 20);
  EXPECT_EQ(errno, 1234);
}

// Fills, copies, moves and empties every container. At the end as many blocks are live as before.
TEST(StlAllocator, ServesContainers) {
  const uint64_t live = Stats().live_blocks;
  {
    using Text = std::basic_string<char, std::char_traits<char>, StlAllocator<char>>;
    std::vector<Text, StlAllocator<Text>> texts;
    std::map<int, Text, std::less<>, StlAllocator<std::pair<const int, Text>>> tree;
    std::unordered_map<int, Text, std::hash<int>, std::equal_to<>, StlAllocator<std::pair<const int, Text>>> table;
    std::list<Aligned<32>, StlAllocator<Aligned<32>>> list;
    std::deque<int, StlAllocator<int>> queue;
    std::vector<bool, StlAllocator<bool>> bits;
    for (int i = 0; i < 2000; i++) {
      texts.emplace_back(static_cast<size_t>(i % 300), static_cast<char>('a' + i % 26));
      tree.emplace(i, texts.back());
      table.emplace(i, texts.back());
      list.push_back({});
      queue.push_back(i);
      bits.push_back(i % 3 == 0);
    }
    const uint64_t used = Stats().live_blocks;
    // Only the nodes of the tree, the table and the list.
    EXPECT_GE(used, live + 6000);
    for (const Aligned<32> &item : list) ASSERT_TRUE(IsAligned(&item));
    auto copy = texts;
    const auto moved = std::move(copy);
    std::vector<Text, StlAllocator<Text>> assigned;
    assigned = texts;
    swap(assigned, texts);
    for (int i = 0; i < 2000; i++) {
      const auto at = static_cast<size_t>(i);
      ASSERT_EQ(moved[at], tree.at(i));
      ASSERT_EQ(texts[at], table.at(i));
      ASSERT_EQ(queue[at], i);
      ASSERT_EQ(bits[at], i % 3 == 0);
    }
  }
  EXPECT_EQ(Stats().live_blocks, live);
}

TEST(StlAllocator, AMoveTakesTheBlock) {
  std::vector<int, StlAllocator<int>> from(1000, 7);
  const int *const data = from.data();
  std::vector<int, StlAllocator<int>> to;
  to = std::move(from);
  EXPECT_EQ(to.data(), data);
}

TEST(StlAllocator, AllocateSharedIsOneBlock) {
  const uint64_t live = Stats().live_blocks;
  auto shared = std::allocate_shared<Aligned<128>>(StlAllocator<Aligned<128>>());
  EXPECT_TRUE(IsAligned(shared.get()));
  EXPECT_EQ(Stats().live_blocks, live + 1);
  shared.reset();
  EXPECT_EQ(Stats().live_blocks, live);
}

TEST(StlAllocator, AnotherThreadMayDeallocate) {
  const uint64_t live = Stats().live_blocks;
  std::list<int, StlAllocator<int>> list(10000, 1);
  std::thread([taken = std::move(list)]() mutable { taken.clear(); }).join();
  EXPECT_EQ(Stats().live_blocks, live);
}

}  // namespace
