// SPDX-License-Identifier: Apache-2.0
//
// Blocks of every kind lie at addresses that the process can have. Under --config=aarch64-39bit these are the addresses
// of a kernel with three levels of page tables: 512 GiB in all, of which the slab map takes its part first.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <vector>

namespace hak_test {
namespace {

// The first address that a process cannot have. A variable sets it for the emulator; the kernel goes beyond 47 or 48
// bits only on request.
uintptr_t Limit() {
  const char *reserved = getenv("QEMU_RESERVED_VA");
  if (reserved != nullptr) return strtoull(reserved, nullptr, 0);
#ifdef __x86_64__
  return uintptr_t{1} << 47;
#else
  return uintptr_t{1} << 48;
#endif
}

bool Below(const void *p, size_t size) { return reinterpret_cast<uintptr_t>(p) + size <= Limit(); }

TEST(AddressSpace, IsAsLargeAsTheTestWasTold) {
  constexpr size_t kSome = size_t{1} << 30;
  void *some = mmap(nullptr, kSome, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(some, MAP_FAILED);
  EXPECT_TRUE(Below(some, kSome)) << some;
  EXPECT_EQ(munmap(some, kSome), 0);
  EXPECT_EQ(mmap(nullptr, Limit(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), MAP_FAILED);
}

TEST(AddressSpace, BlocksOfEveryKindAreInIt) {
  struct Kind {
    size_t size;
    size_t alignment;
    size_t count;
  };
  // Enough small blocks for several superslabs, medium blocks, larger blocks, and blocks with an alignment above that
  // of a superslab.
  constexpr Kind kKinds[] = {
      {100, 16, 60000}, {size_t{100} << 10, 16, 100}, {size_t{30} << 20, 16, 8}, {size_t{1} << 20, size_t{8} << 20, 4}};
  std::vector<unsigned char *> blocks;
  for (const Kind &kind : kKinds) {
    for (size_t i = 0; i < kind.count; ++i) {
      auto *p = static_cast<unsigned char *>(hak_aligned_alloc(kind.alignment, kind.size));
      ASSERT_NE(p, nullptr) << kind.size;
      EXPECT_TRUE(Below(p, kind.size)) << static_cast<void *>(p);
      p[0] = p[kind.size - 1] = static_cast<unsigned char>(blocks.size());
      blocks.push_back(p);
    }
  }
  EXPECT_TRUE(hak_heap_verify());
  for (size_t i = 0; i < blocks.size(); ++i) {
    ASSERT_EQ(blocks[i][0], static_cast<unsigned char>(i));
    hak_free(blocks[i]);
  }
  EXPECT_TRUE(hak_heap_verify());
}

TEST(AddressSpace, MoreThanThereIsIsRefused) {
  void *before = hak_malloc(1000);
  ASSERT_NE(before, nullptr);
  for (const size_t size : {Limit(), Limit() - 4096}) {
    errno = 0;
    EXPECT_EQ(hak_malloc(size), nullptr);
    EXPECT_EQ(errno, ENOMEM);
  }
  memset(before, 1, 1000);
  hak_free(before);
  EXPECT_TRUE(hak_heap_verify());
}

}  // namespace
}  // namespace hak_test
