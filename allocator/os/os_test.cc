// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/os.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/unit_test.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::IsMapped;
using hak_unit::IsZero;

const size_t kPage = hak_os_page_size();

// Lets the kernel try to write there, which answers instead of faulting.
bool IsWritable(void *address) { return syscall(SYS_getrandom, address, 1, 0) == 1; }

TEST(Os, PageSize) {
  EXPECT_EQ(kPage, static_cast<size_t>(sysconf(_SC_PAGESIZE)));
  EXPECT_TRUE(hak_is_pow2(kPage));
}

TEST(Os, MapsAlignedZeroWritableMemory) {
  for (size_t align = kPage; align <= size_t{8} << 20; align *= 2) {
    for (const size_t size : {kPage, 3 * kPage, HAK_SUPERSLAB_SIZE}) {
      const uint64_t before = hak_os_totals().mapped;
      char *start = static_cast<char *>(hak_os_map(size, align));
      ASSERT_NE(start, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(start) % align, 0u);
      EXPECT_TRUE(IsZero(start, size));
      memset(start, 1, size);
      EXPECT_EQ(hak_os_totals().mapped, before + size);
      EXPECT_TRUE(hak_os_unmap(start, size));
      EXPECT_FALSE(IsMapped(start, size));
      EXPECT_EQ(hak_os_totals().mapped, before);
    }
  }
}

TEST(Os, RefusesImpossibleSizesAndKeepsErrno) {
  const struct hak_os_totals before = hak_os_totals();
  errno = E2BIG;
  EXPECT_EQ(hak_os_map(0, kPage), nullptr);
  EXPECT_EQ(hak_os_map(static_cast<size_t>(PTRDIFF_MAX) & ~(kPage - 1), kPage), nullptr);
  EXPECT_EQ(hak_os_map(SIZE_MAX & ~(kPage - 1), kPage), nullptr);
  EXPECT_EQ(hak_os_totals().calls, before.calls) << "no kernel can help";
  EXPECT_EQ(hak_os_map(kPage, size_t{1} << 62), nullptr);
  EXPECT_EQ(errno, E2BIG);
  EXPECT_EQ(hak_os_totals().mapped, before.mapped);
}

TEST(Os, ReservedMemoryReadsAsZeroAndIsWritableWhereCommitted) {
  const uint64_t before = hak_os_totals().mapped;
  char *start = static_cast<char *>(hak_os_reserve(4 * kPage));
  ASSERT_NE(start, nullptr);
  EXPECT_EQ(hak_os_totals().mapped, before);  // not counted
  EXPECT_TRUE(IsZero(start, 4 * kPage));
  EXPECT_FALSE(IsWritable(start + kPage));
  EXPECT_TRUE(hak_os_commit(start + kPage, kPage));
  EXPECT_FALSE(IsWritable(start));
  EXPECT_TRUE(IsWritable(start + kPage));
  EXPECT_TRUE(IsWritable(start + 2 * kPage - 1));
  EXPECT_FALSE(IsWritable(start + 2 * kPage));
  EXPECT_EQ(munmap(start, 4 * kPage), 0);
}

TEST(Os, WhatTheKernelRefusesChangesNothing) {
  char *start = static_cast<char *>(hak_os_map(2 * kPage, kPage));
  ASSERT_NE(start, nullptr);
  const struct hak_os_totals before = hak_os_totals();
  errno = E2BIG;
  EXPECT_FALSE(hak_os_unmap(start + 1, kPage));  // EINVAL
  EXPECT_EQ(errno, E2BIG);
  EXPECT_EQ(hak_os_totals().mapped, before.mapped);
  EXPECT_TRUE(hak_os_unmap(start, 2 * kPage));
}

TEST(Os, ResizesInPlaceWhereThereIsRoom) {
  char *start = static_cast<char *>(hak_os_map(8 * kPage, kPage));
  ASSERT_NE(start, nullptr);
  strcpy(start, "contents");
  const uint64_t before = hak_os_totals().mapped;
  ASSERT_TRUE(hak_os_resize(start, 8 * kPage, 3 * kPage));
  EXPECT_EQ(hak_os_totals().mapped, before - 5 * kPage);
  EXPECT_FALSE(IsMapped(start + 3 * kPage, kPage));
  ASSERT_TRUE(hak_os_resize(start, 3 * kPage, 6 * kPage));
  EXPECT_EQ(hak_os_totals().mapped, before - 2 * kPage);
  EXPECT_STREQ(start, "contents");
  EXPECT_TRUE(IsZero(start + 3 * kPage, 3 * kPage));
  // Growing into what is mapped already is refused.
  errno = E2BIG;
  EXPECT_FALSE(hak_os_resize(start, 2 * kPage, 3 * kPage));
  EXPECT_EQ(errno, E2BIG);
  EXPECT_EQ(hak_os_totals().mapped, before - 2 * kPage);
  EXPECT_TRUE(hak_os_unmap(start, 6 * kPage));
}

TEST(Os, MovesWithTheContents) {
  // The page behind keeps the mapping from growing where it is.
  char *start = static_cast<char *>(hak_os_map(3 * kPage, kPage));
  ASSERT_NE(start, nullptr);
  memset(start, 5, 2 * kPage);
  const uint64_t before = hak_os_totals().mapped;
  char *moved = static_cast<char *>(hak_os_move(start, 2 * kPage, 64 * kPage));
  ASSERT_NE(moved, nullptr);
  EXPECT_NE(moved, start);
  EXPECT_EQ(hak_os_totals().mapped, before + 62 * kPage);
  EXPECT_FALSE(IsMapped(start, 2 * kPage));
  EXPECT_EQ(moved[0], 5);
  EXPECT_EQ(moved[2 * kPage - 1], 5);
  EXPECT_TRUE(IsZero(moved + 2 * kPage, 62 * kPage));
  EXPECT_TRUE(hak_os_unmap(moved, 64 * kPage));
  EXPECT_TRUE(hak_os_unmap(start + 2 * kPage, kPage));
}

TEST(Os, EveryCallCanBeMadeToFailAndThenDoesNothing) {
  char *start = static_cast<char *>(hak_os_map(4 * kPage, kPage));
  ASSERT_NE(start, nullptr);
  memset(start, 9, 4 * kPage);
  const struct hak_os_totals before = hak_os_totals();
  errno = E2BIG;
  {
    const FaultPlan plan(HAK_FAULT_ALL);
    EXPECT_EQ(hak_os_map(kPage, kPage), nullptr);
    EXPECT_EQ(hak_os_reserve(kPage), nullptr);
    EXPECT_FALSE(hak_os_commit(start, kPage));
    EXPECT_FALSE(hak_os_unmap(start, 4 * kPage));
    EXPECT_FALSE(hak_os_resize(start, 4 * kPage, kPage));
    EXPECT_EQ(hak_os_move(start, 4 * kPage, 8 * kPage), nullptr);
    EXPECT_EQ(hak_fault_hits(), 6u);
  }
  EXPECT_EQ(errno, E2BIG);
  EXPECT_EQ(hak_os_totals().calls, before.calls);
  EXPECT_EQ(hak_os_totals().mapped, before.mapped);
  for (size_t i = 0; i < 4 * kPage; i++) ASSERT_EQ(start[i], 9);
  EXPECT_TRUE(hak_os_unmap(start, 4 * kPage));
}

// The second mapping of an aligned request may fail after the first was given back.
TEST(Os, TheSecondMapOfAnAlignedRequestMayFail) {
  const uint64_t before = hak_os_totals().mapped;
  for (int i = 0; i < 4; i++) {
    const FaultPlan plan(HAK_FAULT_MAP, 2, 1);
    // 1 GiB: no address is a multiple of it by luck, but for one in 2^18.
    void *start = hak_os_map(kPage, size_t{1} << 30);
    EXPECT_EQ(start, nullptr);
    EXPECT_EQ(hak_fault_hits(), 1u);
  }
  EXPECT_EQ(hak_os_totals().mapped, before);
}

TEST(Os, PeakIsTheMostThatWasMapped) {
  const uint64_t mapped = hak_os_totals().mapped;
  const size_t size = static_cast<size_t>(hak_os_totals().peak_mapped - mapped) + 16 * kPage;
  void *start = hak_os_map(size, kPage);
  ASSERT_NE(start, nullptr);
  EXPECT_EQ(hak_os_totals().peak_mapped, mapped + size);
  EXPECT_TRUE(hak_os_unmap(start, size));
  EXPECT_EQ(hak_os_totals().peak_mapped, mapped + size);
}

TEST(Os, TotalsAreExactAcrossThreads) {
  const struct hak_os_totals before = hak_os_totals();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([] {
      for (int i = 0; i < 200; i++) {
        void *start = hak_os_map(2 * kPage, kPage);
        if (start != nullptr) hak_os_unmap(start, 2 * kPage);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(hak_os_totals().mapped, before.mapped);
  EXPECT_EQ(hak_os_totals().calls, before.calls + 2 * 4 * 200);
}

TEST(Os, ClockNeverGoesBackAndMoves) {
  const uint64_t first = hak_os_now_ms();
  uint64_t last = first;
  for (int i = 0; i < 1000; i++) {
    const uint64_t now = hak_os_now_ms();
    ASSERT_GE(now, last);
    last = now;
  }
  usleep(30000);
  EXPECT_GE(hak_os_now_ms(), first + 20);
}

TEST(Os, AddressSpaceLimitIsTheProcessesOwn) {
  if (!hak_unit::LimitsAddressSpace()) GTEST_SKIP() << "this kernel or emulator keeps no limit on the address space";
  struct rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_AS, &old), 0);
  if (old.rlim_cur == RLIM_INFINITY) {
    EXPECT_EQ(hak_os_address_space_limit(), UINT64_MAX);
  }
  struct rlimit limited = old;
  limited.rlim_cur = rlim_t{1} << 40;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limited), 0);
  errno = E2BIG;
  const uint64_t answer = hak_os_address_space_limit();
  const int kept = errno;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &old), 0);
  EXPECT_EQ(answer, uint64_t{1} << 40);
  EXPECT_EQ(kept, E2BIG);
}

TEST(Os, RandomNumbersDiffer) {
  errno = E2BIG;
  const uint64_t a = hak_os_random();
  const uint64_t b = hak_os_random();
  EXPECT_EQ(errno, E2BIG);
  EXPECT_NE(a, b);
  EXPECT_NE(a >> 32, 0u);  // by chance once in 2^32 runs
}

}  // namespace
