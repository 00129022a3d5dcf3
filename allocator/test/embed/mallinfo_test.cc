// SPDX-License-Identifier: Apache-2.0
//
// mallinfo and mallinfo2 against what the program requested and what the kernel reports: each byte is counted in
// exactly one field.
#include <gtest/gtest.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "allocator/test/probe.h"

namespace {

constexpr size_t kMiB = size_t{1} << 20;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#if __GLIBC_PREREQ(2, 33)
auto Info() { return mallinfo2(); }
#else
auto Info() { return mallinfo(); }
#endif
struct mallinfo OldInfo() { return mallinfo(); }
#pragma GCC diagnostic pop

size_t InUse() {
  const auto info = Info();
  return static_cast<size_t>(info.uordblks + info.hblkhd);
}

// The process's address space less what it was at the start; allocates nothing.
size_t AddressSpace() {
  char text[128] = {};
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  return length > 0 ? strtoull(text, nullptr, 10) * static_cast<size_t>(sysconf(_SC_PAGESIZE)) : 0;
}

struct Blocks {
  Blocks(size_t count, size_t size) {
    blocks.reserve(count);
    for (size_t i = 0; i < count; i++) {
      blocks.push_back(malloc(size));
      memset(blocks.back(), 1, size);
    }
  }
  ~Blocks() {
    for (void *block : blocks) free(block);
  }
  std::vector<void *> blocks;
};

class Mallinfo : public testing::TestWithParam<size_t> {};

TEST_P(Mallinfo, CountsWhatIsInUseOnce) {
  const size_t size = GetParam(), count = 32 * kMiB / size;
  const size_t before = InUse();
  {
    const Blocks blocks(count, size);
    const size_t held = InUse() - before;
    EXPECT_GE(held, count * size);
    EXPECT_LE(held, count * size * 5 / 4 + 64 * 1024) << "classes and slabs round up, and no byte counts twice";
    const auto info = Info();
    EXPECT_EQ(info.arena, info.uordblks + info.fordblks);
    EXPECT_EQ(static_cast<size_t>(info.usmblks), 0U);
    EXPECT_LE(info.keepcost, info.fordblks + info.hblkhd);
    EXPECT_LE(info.fsmblks, info.fordblks);
    if (size > 2 * kMiB) {
      EXPECT_GE(static_cast<size_t>(info.hblkhd), count * size);
      EXPECT_GE(static_cast<size_t>(info.hblks), count);
    }
    if (size < 4096) {
      EXPECT_GE(static_cast<size_t>(info.uordblks), count * size * 9 / 10) << "HARDENED has sampled blocks apart";
    }
  }
  EXPECT_LE(InUse(), before + 64 * 1024);
}

TEST_P(Mallinfo, IsNoMoreThanTheProcessHas) {
  const size_t size = GetParam(), count = 32 * kMiB / size;
  const auto total = [] {
    const auto info = Info();
    return static_cast<size_t>(info.arena + info.hblkhd);
  };
  const size_t space_before = AddressSpace(), total_before = total();
  const Blocks blocks(count, size);
  const size_t space = AddressSpace() - space_before, counted = total() - total_before;
  ASSERT_NE(space_before, 0U);
  EXPECT_LE(counted, space + kMiB) << "what is mapped is counted once";
  EXPECT_LE(InUse(), total());
  EXPECT_LE(total(), AddressSpace());
}

TEST_P(Mallinfo, TheOldOneSaysTheSame) {
  const Blocks blocks(32 * kMiB / GetParam(), GetParam());
  const auto info = Info();
  const struct mallinfo old = OldInfo();
  EXPECT_EQ(static_cast<int64_t>(info.arena), old.arena);
  EXPECT_EQ(static_cast<int64_t>(info.ordblks), old.ordblks);
  EXPECT_EQ(static_cast<int64_t>(info.smblks), old.smblks);
  EXPECT_EQ(static_cast<int64_t>(info.hblks), old.hblks);
  EXPECT_EQ(static_cast<int64_t>(info.hblkhd), old.hblkhd);
  EXPECT_EQ(static_cast<int64_t>(info.fsmblks), old.fsmblks);
  EXPECT_EQ(static_cast<int64_t>(info.uordblks), old.uordblks);
  EXPECT_EQ(static_cast<int64_t>(info.fordblks), old.fordblks);
  EXPECT_EQ(static_cast<int64_t>(info.keepcost), old.keepcost);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Mallinfo,
                         testing::Values(size_t{100}, size_t{3000}, size_t{60000}, size_t{500000}, 4 * kMiB,
                                         32 * kMiB));

// The fields of the old structure end at 2 GiB.
TEST(MallinfoOld, SaysTheMostThatItsFieldsHold) {
  void *block = malloc(size_t{3} << 30);
  if (block == nullptr) GTEST_SKIP() << "no 3 GiB to be had";
  EXPECT_EQ(OldInfo().hblkhd, INT32_MAX);
  EXPECT_GE(OldInfo().uordblks, 0);
  free(block);
}

}  // namespace
