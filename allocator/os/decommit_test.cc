// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/decommit.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <fstream>
#include <sstream>
#include <string>

#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::IsMapped;
using hak_unit::IsZero;
using hak_unit::ResidentPages;

const size_t kPage = hak_os_page_size();
constexpr hak_decommit_mode kModes[] = {HAK_DECOMMIT_OFF, HAK_DECOMMIT_FREE, HAK_DECOMMIT_DONTNEED};

// The emulator reports success for most advice and does nothing. The kernel refuses advice that it does not know.
bool AdviceReachesTheKernel() {
  const int saved = errno;
  void *page = hak_os_map(kPage, kPage);
  const bool refused = page != nullptr && madvise(page, kPage, 12345) != 0;
  hak_os_unmap(page, kPage);
  errno = saved;
  return refused;
}

std::string FileText(const char *path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Pages that hold 7, for one test. Calls on them must not change errno.
class Decommit : public testing::Test {
 protected:
  static constexpr size_t kPages = 8;

  void SetUp() override {
    start_ = static_cast<char *>(hak_os_map(kPages * kPage, kPage));
    ASSERT_NE(start_, nullptr);
    memset(start_, 7, kPages * kPage);
    before_ = hak_os_totals();
    errno = E2BIG;
  }

  void TearDown() override {
    EXPECT_EQ(errno, E2BIG);
    EXPECT_TRUE(hak_os_unmap(start_, kPages * kPage));
  }

  bool Holds(size_t first, size_t pages, char value) const {
    for (size_t i = first * kPage; i < (first + pages) * kPage; i++) {
      if (start_[i] != value) return false;
    }
    return true;
  }

  // What the calls since SetUp added to the totals.
  void ExpectCounted(uint64_t calls, uint64_t decommits, uint64_t decommitted_bytes, uint64_t lazy_bytes) const {
    const struct hak_os_totals now = hak_os_totals();
    EXPECT_EQ(now.calls - before_.calls, calls);
    EXPECT_EQ(now.decommits - before_.decommits, decommits);
    EXPECT_EQ(now.decommitted_bytes - before_.decommitted_bytes, decommitted_bytes);
    EXPECT_EQ(now.lazy_bytes - before_.lazy_bytes, lazy_bytes);
    EXPECT_EQ(now.mapped, before_.mapped);
  }

  char *start_ = nullptr;
  struct hak_os_totals before_ = {};
};

TEST_F(Decommit, DontNeedGivesThePagesOfTheRangeBackAtOnce) {
  EXPECT_TRUE(hak_os_decommit(start_ + kPage, 5 * kPage, HAK_DECOMMIT_DONTNEED));
  ExpectCounted(2, 1, 5 * kPage, 0);  // the second call checks that the first one had an effect
  EXPECT_EQ(ResidentPages(start_ + kPage, 5 * kPage), 0u);
  EXPECT_TRUE(IsMapped(start_, kPages * kPage));
  EXPECT_TRUE(IsZero(start_ + kPage, 5 * kPage));
  EXPECT_TRUE(Holds(0, 1, 7));
  EXPECT_TRUE(Holds(6, 2, 7));
  memset(start_ + kPage, 9, 5 * kPage);
  EXPECT_TRUE(Holds(1, 5, 9));
}

TEST_F(Decommit, ToZeroGivesThePagesBackAndLooks) {
  EXPECT_TRUE(hak_os_decommit_to_zero(start_ + kPage, 5 * kPage));
  ExpectCounted(1, 1, 5 * kPage, 0);
  EXPECT_LE(ResidentPages(start_ + kPage, 5 * kPage), 1u);  // the page of zeros
  EXPECT_TRUE(IsZero(start_ + kPage, 5 * kPage));
  EXPECT_TRUE(Holds(0, 1, 7));
  EXPECT_TRUE(Holds(6, 2, 7));
  EXPECT_FALSE(hak_os_decommit_to_zero(start_ + 1, kPage));
  EXPECT_FALSE(hak_os_decommit_to_zero(start_, 0));
}

// The kernel refuses advice on locked memory. Its contents stay, including the first word.
TEST_F(Decommit, ToZeroKeepsWhatTheKernelKeeps) {
  {
    const FaultPlan plan(HAK_FAULT_DECOMMIT);
    EXPECT_FALSE(hak_os_decommit_to_zero(start_, kPages * kPage));
    EXPECT_EQ(hak_fault_hits(), 1u);
  }
  EXPECT_TRUE(Holds(0, kPages, 7));
  if (mlock(start_, kPages * kPage) != 0 || madvise(start_, kPage, MADV_DONTNEED) == 0) {
    errno = E2BIG;
    GTEST_SKIP() << "memory cannot be locked here";
  }
  errno = E2BIG;
  EXPECT_FALSE(hak_os_decommit_to_zero(start_, kPages * kPage));
  EXPECT_TRUE(Holds(0, kPages, 7));
  ASSERT_EQ(munlock(start_, kPages * kPage), 0);
  EXPECT_TRUE(hak_os_decommit_to_zero(start_, kPages * kPage));
}

TEST_F(Decommit, FreeKeepsTheMappingUsable) {
  EXPECT_TRUE(hak_os_decommit(start_ + kPage, 5 * kPage, HAK_DECOMMIT_FREE));
  ExpectCounted(1, 1, 0, 5 * kPage);
  EXPECT_TRUE(IsMapped(start_, kPages * kPage));
  // Each page is unchanged, or was taken and reads as zero.
  for (size_t page = 1; page < 6; page++) EXPECT_TRUE(Holds(page, 1, 7) || Holds(page, 1, 0)) << page;
  EXPECT_TRUE(Holds(0, 1, 7));
  EXPECT_TRUE(Holds(6, 2, 7));
  // Later writes stay.
  memset(start_ + kPage, 9, 5 * kPage);
  EXPECT_TRUE(Holds(1, 5, 9));
}

// Otherwise FREE would be the same as DONTNEED. The kernel may take the pages at once when memory is short, but not
// every time.
TEST_F(Decommit, FreeLeavesThePagesUntilTheKernelNeedsThem) {
  if (!AdviceReachesTheKernel()) GTEST_SKIP() << "this emulator takes all advice";
  bool left = false;
  for (int i = 0; i < 100 && !left; i++) {
    memset(start_, 9, kPages * kPage);
    ASSERT_TRUE(hak_os_decommit(start_, kPages * kPage, HAK_DECOMMIT_FREE));
    left = ResidentPages(start_, kPages * kPage) > 0;
  }
  EXPECT_TRUE(left);
}

TEST_F(Decommit, TotalsAddUp) {
  EXPECT_TRUE(hak_os_decommit(start_, kPage, HAK_DECOMMIT_FREE));
  EXPECT_TRUE(hak_os_decommit(start_, 2 * kPage, HAK_DECOMMIT_DONTNEED));
  EXPECT_TRUE(hak_os_decommit(start_, 4 * kPage, HAK_DECOMMIT_FREE));
  EXPECT_TRUE(
      hak_os_decommit(start_, kPages * kPage, HAK_DECOMMIT_DONTNEED));  // pages that were returned before are allowed
  ExpectCounted(6, 4, (2 + kPages) * kPage, 5 * kPage);
}

TEST_F(Decommit, OffIsNothing) {
  EXPECT_FALSE(hak_os_decommit(start_, kPages * kPage, HAK_DECOMMIT_OFF));
  ExpectCounted(0, 0, 0, 0);
  EXPECT_TRUE(Holds(0, kPages, 7));
}

// The kernel would round up the size of such a range, report success for an empty one, or set another errno.
TEST_F(Decommit, TheGuardRefusesOddRangesWithoutAnyCall) {
  void *const last_page = reinterpret_cast<void *>(SIZE_MAX - kPage + 1);
  const size_t half = (SIZE_MAX / 2 + 1) & ~(kPage - 1);
  const struct {
    const char *what;
    void *start;
    size_t size;
  } cases[] = {
      {"start one byte up", start_ + 1, kPage},
      {"start half a page up", start_ + kPage / 2, kPage},
      {"start one byte down", start_ + kPage - 1, kPage},
      {"size one byte over", start_, kPage + 1},
      {"size one byte short", start_, kPage - 1},
      {"size of one byte", start_, 1},
      {"size of half a page", start_, kPage / 2},
      {"both off", start_ + 16, kPage - 16},
      {"empty", start_, 0},
      {"empty and off", start_ + 1, 0},
      {"NULL", nullptr, kPage},
      {"NULL and empty", nullptr, 0},
      {"wraps to zero", last_page, kPage},
      {"wraps beyond zero", last_page, 3 * kPage},
      {"wraps to before its start", start_, SIZE_MAX - kPage + 1},
      {"half of all addresses from the upper half", reinterpret_cast<void *>(half), half},
      {"all addresses and one byte off", start_, SIZE_MAX},
  };
  for (const auto &c : cases) {
    for (const hak_decommit_mode mode : kModes) EXPECT_FALSE(hak_os_decommit(c.start, c.size, mode)) << c.what;
    EXPECT_FALSE(hak_os_advise_huge(c.start, c.size, true)) << c.what;
    EXPECT_FALSE(hak_os_advise_huge(c.start, c.size, false)) << c.what;
    EXPECT_FALSE(hak_os_populate(c.start, c.size)) << c.what;
  }
  ExpectCounted(0, 0, 0, 0);
  EXPECT_TRUE(Holds(0, kPages, 7));
}

TEST_F(Decommit, WhatTheKernelRefusesIsNotCountedAsDone) {
  if (!AdviceReachesTheKernel()) GTEST_SKIP() << "this emulator takes all advice";
  ASSERT_EQ(munmap(start_ + 2 * kPage, kPage), 0);
  const int saved = errno;
  const bool taken = madvise(start_ + 2 * kPage, kPage, MADV_DONTNEED) == 0;
  errno = saved;
  if (taken) {
    GTEST_SKIP() << "this emulator takes advice on memory that is not there";
  }
  before_ = hak_os_totals();
  EXPECT_FALSE(hak_os_decommit(start_ + 2 * kPage, kPage, HAK_DECOMMIT_DONTNEED));  // ENOMEM
  EXPECT_FALSE(hak_os_decommit(start_ + 2 * kPage, kPage, HAK_DECOMMIT_FREE));
  EXPECT_FALSE(hak_os_populate(start_ + 2 * kPage, kPage));
  EXPECT_EQ(hak_os_totals().calls, before_.calls + 3);
  EXPECT_EQ(hak_os_totals().decommits, before_.decommits);
  EXPECT_EQ(hak_os_totals().decommitted_bytes, before_.decommitted_bytes);
  EXPECT_EQ(hak_os_totals().lazy_bytes, before_.lazy_bytes);
}

TEST_F(Decommit, APlannedFaultKeepsTheContents) {
  {
    const FaultPlan plan(HAK_FAULT_DECOMMIT);
    EXPECT_FALSE(hak_os_decommit(start_, kPages * kPage, HAK_DECOMMIT_OFF));
    EXPECT_EQ(hak_fault_hits(), 0u);  // there was no decommit that could fail
    EXPECT_FALSE(hak_os_decommit(start_, kPages * kPage, HAK_DECOMMIT_DONTNEED));
    EXPECT_FALSE(hak_os_decommit(start_, kPages * kPage, HAK_DECOMMIT_FREE));
    EXPECT_EQ(hak_fault_hits(), 2u);
  }
  ExpectCounted(0, 0, 0, 0);
  EXPECT_TRUE(Holds(0, kPages, 7));
  {
    const FaultPlan plan(HAK_FAULT_DECOMMIT, 2, 1);
    EXPECT_TRUE(hak_os_decommit(start_, kPage, HAK_DECOMMIT_DONTNEED));
    EXPECT_FALSE(hak_os_decommit(start_ + kPage, kPage, HAK_DECOMMIT_DONTNEED));
    EXPECT_TRUE(hak_os_decommit(start_ + 2 * kPage, kPage, HAK_DECOMMIT_DONTNEED));
  }
  ExpectCounted(4, 2, 2 * kPage, 0);
  EXPECT_TRUE(Holds(0, 1, 0) && Holds(1, 1, 7) && Holds(2, 1, 0));
  {
    const FaultPlan plan(HAK_FAULT_ALL & ~HAK_FAULT_DECOMMIT);
    EXPECT_TRUE(hak_os_decommit(start_ + 3 * kPage, kPage, HAK_DECOMMIT_DONTNEED));
  }
}

TEST_F(Decommit, PopulateFillsTheRangeAndNoMore) {
  if (!AdviceReachesTheKernel()) GTEST_SKIP() << "this emulator takes all advice";
  ASSERT_TRUE(hak_os_decommit(start_, kPages * kPage, HAK_DECOMMIT_DONTNEED));
  ASSERT_EQ(ResidentPages(start_, kPages * kPage), 0u);
  before_ = hak_os_totals();
  if (!hak_os_populate(start_ + 2 * kPage, 3 * kPage)) {
    EXPECT_EQ(ResidentPages(start_, kPages * kPage), 0u);
    GTEST_SKIP() << "this kernel cannot populate (Linux 5.14 and later can)";
  }
  ExpectCounted(1, 0, 0, 0);
  EXPECT_EQ(ResidentPages(start_ + 2 * kPage, 3 * kPage), 3u);
  EXPECT_EQ(ResidentPages(start_, 2 * kPage) + ResidentPages(start_ + 5 * kPage, 3 * kPage), 0u);
  EXPECT_TRUE(IsZero(start_, kPages * kPage));
}

TEST_F(Decommit, PopulateKeepsWhatIsThere) {
  hak_os_populate(start_, kPages * kPage);
  EXPECT_TRUE(Holds(0, kPages, 7));
}

// The flags of the mapping that contains `address`, from /proc/self/smaps: "... hg ..." means that huge pages are
// requested.
std::string MappingFlags(const void *address) {
  std::ifstream file("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    unsigned long long first, end;
    if (sscanf(line.c_str(), "%llx-%llx ", &first, &end) == 2) {
      const uintptr_t at = reinterpret_cast<uintptr_t>(address);
      inside = first <= at && at < end;
    } else if (inside && line.rfind("VmFlags:", 0) == 0) {
      return line + ' ';
    }
  }
  return "";
}

TEST_F(Decommit, GuardedPagesCannotBeTouchedUntilTheyAreZero) {
  const int saved = errno;
  const size_t page = hak_os_page_size();
  char *start = static_cast<char *>(hak_os_map(4 * page, page));
  ASSERT_NE(start, nullptr);
  memset(start, 1, 4 * page);
  if (!hak_os_guard(start + page, 2 * page)) {
    EXPECT_FALSE(hak_os_guards_work());
    EXPECT_EQ(start[page], 1) << "as it was, or closed";
    hak_os_unmap(start, 4 * page);
    GTEST_SKIP() << "this kernel has no guards (Linux 6.13 and later have)";
  }
  EXPECT_TRUE(hak_os_guards_work());
  EXPECT_TRUE(hak_unit::IsReadable(start + page - 1));
  EXPECT_FALSE(hak_unit::IsReadable(start + page));
  EXPECT_FALSE(hak_unit::IsReadable(start + 3 * page - 1));
  EXPECT_TRUE(hak_unit::IsReadable(start + 3 * page));
  const pid_t child = fork();
  if (child == 0) _exit(hak_unit::IsReadable(start + page) ? 1 : 0);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "a child of fork has them too";
  {
    const hak_unit::FaultPlan plan(HAK_FAULT_COMMIT | HAK_FAULT_PROTECT);
    EXPECT_FALSE(hak_os_unguard(start + page, 2 * page));
    EXPECT_FALSE(hak_os_guard(start, page));
  }
  EXPECT_TRUE(hak_os_guards_work()) << "a planned fault says nothing of the kernel";
  EXPECT_FALSE(hak_unit::IsReadable(start + page));
  EXPECT_TRUE(hak_os_unguard(start + page, 2 * page));
  EXPECT_TRUE(hak_unit::IsZero(start + page, 2 * page));
  EXPECT_EQ(start[0], 1);
  EXPECT_EQ(start[3 * page], 1);
  hak_os_unmap(start, 4 * page);
  errno = saved;  // Reading /proc changed it.
}

TEST_F(Decommit, AdviceOnHugePagesChangesNothingElse) {
  const bool asked = hak_os_advise_huge(start_, kPages * kPage, true);
  EXPECT_EQ(errno, E2BIG);
  const std::string flags_asked = MappingFlags(start_);
  errno = E2BIG;
  const bool forbidden = hak_os_advise_huge(start_, kPages * kPage, false);
  EXPECT_EQ(errno, E2BIG);
  const std::string flags_forbidden = MappingFlags(start_);
  errno = E2BIG;  // The test's own reading of /proc may change it.
  ExpectCounted(2, 0, 0, 0);
  EXPECT_TRUE(Holds(0, kPages, 7));
  // Both succeed or both fail: a kernel without huge pages knows neither.
  EXPECT_EQ(asked, forbidden);
  if (!AdviceReachesTheKernel()) GTEST_SKIP() << "this emulator takes all advice";
  if (!asked) GTEST_SKIP() << "this kernel has no huge pages";
  if (flags_asked.empty()) GTEST_SKIP() << "this kernel does not show the flags of a mapping";
  EXPECT_NE(flags_asked.find(" hg "), std::string::npos) << flags_asked;
  EXPECT_EQ(flags_asked.find(" nh "), std::string::npos) << flags_asked;
  EXPECT_NE(flags_forbidden.find(" nh "), std::string::npos) << flags_forbidden;
  EXPECT_EQ(flags_forbidden.find(" hg "), std::string::npos) << flags_forbidden;
}

TEST(HugeByDefault, IsWhatTheSystemSays) {
  const std::string enabled = FileText("/sys/kernel/mm/transparent_hugepage/enabled");
  const bool always = enabled.find("[always]") != std::string::npos;
  const bool some = always || enabled.find("[madvise]") != std::string::npos;
  if (sysconf(_SC_PAGESIZE) != 4096 || !some) {
    EXPECT_EQ(hak_os_huge_pages(), HAK_HUGE_NEVER);
  } else if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0) {
    EXPECT_EQ(hak_os_huge_pages(), always ? HAK_HUGE_ALWAYS : HAK_HUGE_ON_ADVICE);
  }
  for (int i = 0; i < 3; i++) {
    errno = E2BIG;
    EXPECT_EQ(hak_os_huge_by_default(), always);
    EXPECT_EQ(errno, E2BIG);
  }
}

}  // namespace
