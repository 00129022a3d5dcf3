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

// Whether the address can be written: the kernel tries it, and reports failure instead of faulting.
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

TEST(Os, ProtectedMemoryKeepsItsContentsAndClosedMemoryDoesNot) {
  char *start = static_cast<char *>(hak_os_map(2 * kPage, kPage));
  ASSERT_NE(start, nullptr);
  memset(start, 9, 2 * kPage);
  EXPECT_TRUE(hak_os_protect(start, kPage));
  EXPECT_TRUE(hak_os_close(start + kPage, kPage));
  EXPECT_FALSE(IsWritable(start));
  EXPECT_FALSE(IsWritable(start + kPage));
  EXPECT_TRUE(hak_os_commit(start, 2 * kPage));
  EXPECT_EQ(start[0], 9);
  EXPECT_EQ(start[kPage - 1], 9);
  EXPECT_TRUE(IsZero(start + kPage, kPage));
  EXPECT_TRUE(IsWritable(start + kPage));
  EXPECT_TRUE(hak_os_unmap(start, 2 * kPage));
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

TEST(Os, MovesWithTheContents) {
  char *start = static_cast<char *>(hak_os_map(2 * kPage, kPage));
  char *target = static_cast<char *>(hak_os_map(64 * kPage, kPage));
  ASSERT_TRUE(start != nullptr && target != nullptr);
  memset(start, 5, 2 * kPage);
  memset(target, 7, 64 * kPage);
  const uint64_t before = hak_os_totals().mapped;
  ASSERT_TRUE(hak_os_move_onto(start, 2 * kPage, target, 64 * kPage));
  EXPECT_EQ(hak_os_totals().mapped, before - 2 * kPage);
  EXPECT_FALSE(IsMapped(start, 2 * kPage));
  EXPECT_EQ(target[0], 5);
  EXPECT_EQ(target[2 * kPage - 1], 5);
  EXPECT_TRUE(IsZero(target + 2 * kPage, 62 * kPage));
  // A range that is not mapped cannot move. The target stays mapped.
  errno = E2BIG;
  EXPECT_FALSE(hak_os_move_onto(start, 2 * kPage, target, 64 * kPage));
  EXPECT_EQ(errno, E2BIG);
  EXPECT_TRUE(IsMapped(target, 64 * kPage));
  EXPECT_TRUE(hak_os_unmap(target, 64 * kPage));
}

// If the excess around an aligned range cannot be unmapped, it stays mapped and unused.
TEST(Os, AlignsAlsoWhereNothingCanBeCutOff) {
  constexpr size_t kAlign = size_t{256} << 20;
  const FaultPlan plan(HAK_FAULT_TRIM);
  // Of two adjacent ranges, at most one is aligned by chance.
  for (int i = 0; i < 2; i++) {
    char *start = static_cast<char *>(hak_os_map(kPage, kAlign));
    ASSERT_NE(start, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(start) % kAlign, 0u);
    start[0] = 1;
    EXPECT_TRUE(hak_os_unmap(start, kPage));
  }
  EXPECT_GE(hak_fault_hits(), 1u);
}

TEST(Os, MapsWhereItIsAskedToOrNotAtAll) {
  char *start = static_cast<char *>(hak_os_map(2 * kPage, kPage));
  ASSERT_NE(start, nullptr);
  start[0] = 5;
  const uint64_t before = hak_os_totals().mapped;
  EXPECT_FALSE(hak_os_map_at(start, kPage));
  EXPECT_EQ(start[0], 5);
  EXPECT_EQ(hak_os_totals().mapped, before);
  EXPECT_TRUE(hak_os_unmap(start, 2 * kPage));
  EXPECT_TRUE(hak_os_map_at(start, 2 * kPage));
  EXPECT_TRUE(IsZero(start, 2 * kPage));
  EXPECT_EQ(hak_os_totals().mapped, before);
  EXPECT_TRUE(hak_os_unmap(start, 2 * kPage));
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
    EXPECT_FALSE(hak_os_map_at(start + 64 * kPage, kPage));
    EXPECT_FALSE(hak_os_move_onto(start, 2 * kPage, start + 2 * kPage, 2 * kPage));
    EXPECT_FALSE(hak_os_protect(start, kPage));
    EXPECT_FALSE(hak_os_close(start, kPage));
    EXPECT_EQ(hak_fault_hits(), 8u);
  }
  EXPECT_EQ(errno, E2BIG);
  EXPECT_EQ(hak_os_totals().calls, before.calls);
  EXPECT_EQ(hak_os_totals().mapped, before.mapped);
  for (size_t i = 0; i < 4 * kPage; i++) ASSERT_EQ(start[i], 9);
  EXPECT_TRUE(hak_os_unmap(start, 4 * kPage));
}

// The second mapping of an aligned request may fail after the first was unmapped.
TEST(Os, TheSecondMapOfAnAlignedRequestMayFail) {
  const uint64_t before = hak_os_totals().mapped;
  for (int i = 0; i < 4; i++) {
    const FaultPlan plan(HAK_FAULT_MAP, 2, 1);
    // 1 GiB: an address is a multiple of it by chance only once in 2^18.
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
  // At least as far as the time that is slept, less the resolution. The kernel's tick may be late by any time, so there
  // is a second look.
  usleep(30000);
  for (int waits = 0; waits < 1000 && hak_os_now_ms() < first + 20; waits++) usleep(10000);
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
