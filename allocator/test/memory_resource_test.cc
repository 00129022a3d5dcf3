// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/memory_resource.h>
#include <stdint.h>
#include <string.h>

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
using hakmem::hakmem_resource;
using hakmem::MemoryResource;

TEST(MemoryResource, AlignsAndHasRoom) {
  std::pmr::memory_resource *const resource = hakmem_resource();
  const uint64_t live = Stats().live_blocks;
  for (size_t alignment = 1; alignment <= size_t{4} << 20; alignment *= 2) {
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{15}, size_t{17}, size_t{4097}, size_t{70000}}) {
      void *const block = resource->allocate(bytes, alignment);
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % (alignment < 16 ? 16 : alignment), 0U)
          << alignment << " " << bytes;
      EXPECT_GE(hak_usable_size(block), bytes);
      memset(block, 0x5a, bytes);
      EXPECT_EQ(Stats().live_blocks, live + 1);
      resource->deallocate(block, bytes, alignment);
      EXPECT_EQ(Stats().live_blocks, live);
    }
  }
}

TEST(MemoryResource, NoBytesAreABlockOfTheirOwn) {
  MemoryResource resource;
  void *const a = resource.allocate(0);
  void *const b = resource.allocate(0, 1);
  void *const c = resource.allocate(0, 64);
  EXPECT_TRUE(a != nullptr && b != nullptr && c != nullptr && a != b && b != c && a != c);
  resource.deallocate(a, 0);
  resource.deallocate(b, 0, 1);
  resource.deallocate(c, 0, 64);
}

TEST(MemoryResource, ThrowsWhenMemoryCannotBeHad) {
  MemoryResource resource;
  const uint64_t live = Stats().live_blocks;
  const auto most = static_cast<size_t>(PTRDIFF_MAX);
  for (const size_t bytes : {most - 8192, most, most + 1, SIZE_MAX - 15, SIZE_MAX}) {
    for (const size_t alignment : {size_t{1}, size_t{16}, size_t{64}, size_t{1} << 20}) {
      errno = 0;
      EXPECT_THROW((void)resource.allocate(bytes, alignment), std::bad_alloc) << bytes << " " << alignment;
      EXPECT_EQ(errno, ENOMEM) << bytes << " " << alignment;
    }
  }
  EXPECT_EQ(Stats().live_blocks, live);
  resource.deallocate(resource.allocate(10), 10);
}

// The container computes n * sizeof(T), and the polymorphic allocator refuses it before it calls the resource.
TEST(MemoryResource, ALengthThatOverflowsIsRefused) {
  std::pmr::polymorphic_allocator<uint64_t> allocator(hakmem_resource());
  EXPECT_THROW((void)allocator.allocate(SIZE_MAX / sizeof(uint64_t) + 2), std::bad_alloc);
}

TEST(MemoryResource, DeallocateLeavesErrno) {
  MemoryResource resource;
  void *const small = resource.allocate(10);
  void *const large = resource.allocate(8 << 20, 64);
  errno = 1234;
  resource.deallocate(small, 10);
  resource.deallocate(large, 8 << 20, 64);
  EXPECT_EQ(errno, 1234);
}

TEST(MemoryResource, AllOfTheClassAreEqual) {
  MemoryResource a;
  const MemoryResource b;
  std::pmr::monotonic_buffer_resource other(hakmem_resource());
  EXPECT_TRUE(a.is_equal(a) && a.is_equal(b) && b.is_equal(a));
  EXPECT_TRUE(a == b && a == *hakmem_resource());
  EXPECT_EQ(hakmem_resource(), hakmem_resource());
  EXPECT_FALSE(a.is_equal(*std::pmr::new_delete_resource()));
  EXPECT_FALSE(a.is_equal(*std::pmr::null_memory_resource()));
  EXPECT_FALSE(a.is_equal(other));
  EXPECT_TRUE(a != *std::pmr::new_delete_resource());
  // Equal resources may deallocate each other's blocks.
  void *const block = a.allocate(100, 32);
  hakmem_resource()->deallocate(block, 100, 32);
}

// A vector that is moved between equal resources keeps its block; otherwise it copies.
TEST(MemoryResource, EqualityDecidesWhetherAMoveCopies) {
  MemoryResource a;
  MemoryResource b;
  std::pmr::vector<int> from(1000, 7, &a);
  const int *const data = from.data();
  std::pmr::vector<int> to(&b);
  to = std::move(from);
  EXPECT_EQ(to.data(), data);
  std::pmr::vector<int> elsewhere(std::pmr::new_delete_resource());
  elsewhere = std::move(to);
  EXPECT_NE(elsewhere.data(), data);
  EXPECT_EQ(elsewhere, std::pmr::vector<int>(1000, 7));
}

TEST(MemoryResource, ServesContainersAndPools) {
  const uint64_t live = Stats().live_blocks;
  {
    std::pmr::unsynchronized_pool_resource pool(hakmem_resource());
    std::pmr::monotonic_buffer_resource buffer(hakmem_resource());
    for (std::pmr::memory_resource *resource : {hakmem_resource(), static_cast<std::pmr::memory_resource *>(&pool),
                                                static_cast<std::pmr::memory_resource *>(&buffer)}) {
      std::pmr::vector<std::pmr::string> texts(resource);
      std::pmr::map<int, std::pmr::string> tree(resource);
      std::pmr::unordered_map<int, std::pmr::string> table(resource);
      const uint64_t before = Stats().live_blocks;
      for (int i = 0; i < 2000; i++) {
        texts.emplace_back(static_cast<size_t>(i % 300), static_cast<char>('a' + i % 26));
        tree.emplace(i, texts.back());
        table.emplace(i, texts.back());
      }
      EXPECT_GT(Stats().live_blocks, before);
      for (int i = 0; i < 2000; i++) {
        ASSERT_EQ(texts[static_cast<size_t>(i)], tree.at(i));
        ASSERT_EQ(tree.at(i), table.at(i));
        // Containers pass their resource to their elements.
        ASSERT_EQ(tree.at(i).get_allocator().resource(), resource);
      }
    }
  }
  EXPECT_EQ(Stats().live_blocks, live);
}

TEST(MemoryResource, AsTheDefaultResource) {
  std::pmr::memory_resource *const before = std::pmr::set_default_resource(hakmem_resource());
  const uint64_t live = Stats().live_blocks;
  {
    const std::pmr::vector<int> numbers(100, 1);
    EXPECT_EQ(Stats().live_blocks, live + 1);
  }
  EXPECT_EQ(Stats().live_blocks, live);
  std::pmr::set_default_resource(before);
}

TEST(MemoryResource, AnotherThreadMayDeallocate) {
  const uint64_t live = Stats().live_blocks;
  std::pmr::list<int> list(10000, 1, hakmem_resource());
  std::thread([taken = std::move(list)]() mutable { taken.clear(); }).join();
  EXPECT_EQ(Stats().live_blocks, live);
}

// Destroyed after all objects of main. The resource must still work.
std::unique_ptr<std::pmr::string> g_late;

TEST(MemoryResource, ServesDestructorsOfStaticObjects) {
  g_late = std::make_unique<std::pmr::string>(1000, 'x', hakmem_resource());
  EXPECT_EQ(g_late->size(), 1000U);
}

}  // namespace
