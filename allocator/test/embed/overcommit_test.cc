// SPDX-License-Identifier: Apache-2.0
//
// The system's overcommit policy applies to the program's blocks: a request for which there can never be memory is
// refused, and blocks are counted. Also: what a program with the purge thread cannot do.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace {

constexpr size_t kMiB = size_t{1} << 20;

// 0: heuristic, 1: always allowed, 2: strict; -1: not known.
int Policy() {
  std::ifstream file("/proc/sys/vm/overcommit_memory");
  int policy = -1;
  file >> policy;
  return policy;
}

// Memory and swap of the machine; 0: not known.
size_t MachineBytes() {
  std::ifstream file("/proc/meminfo");
  size_t kilobytes = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("MemTotal:", 0) == 0 || line.rfind("SwapTotal:", 0) == 0) {
      kilobytes += strtoull(line.c_str() + line.find(':') + 1, nullptr, 10);
    }
  }
  return kilobytes * 1024;
}

template <typename T>
T Hide(T value) {
  volatile T hidden = value;
  return hidden;
}

void ExpectWorks() {
  void *block = hak_malloc(kMiB);
  ASSERT_NE(block, nullptr);
  memset(block, 1, kMiB);
  hak_free(block);
  EXPECT_TRUE(hak_heap_verify());
}

class TooMuch : public testing::Test {
 protected:
  void SetUp() override {
    if (MachineBytes() == 0 || Policy() < 0 || Policy() == 1) GTEST_SKIP() << "the system gives everything";
  }
};

TEST_F(TooMuch, IsRefusedInEachWayOfAsking) {
  for (const size_t times : {size_t{2}, size_t{8}, size_t{512}}) {
    const size_t size = Hide(MachineBytes() * times);
    errno = 0;
    EXPECT_EQ(hak_malloc(size), nullptr) << times;
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(hak_calloc(times, size / times), nullptr) << times;
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(hak_aligned_alloc(4096, size), nullptr) << times;
    EXPECT_EQ(errno, ENOMEM);
    void *out = &out;
    EXPECT_EQ(hak_posix_memalign(&out, 4 * kMiB, size), ENOMEM) << times;
    EXPECT_EQ(out, &out);
    ExpectWorks();
  }
}

TEST_F(TooMuch, ReallocKeepsTheBlock) {
  for (const size_t old_size : {size_t{100}, size_t{40000}, 3 * kMiB}) {
    char *block = static_cast<char *>(hak_malloc(old_size));
    ASSERT_NE(block, nullptr);
    memset(block, 7, old_size);
    errno = 0;
    EXPECT_EQ(hak_realloc(block, Hide(MachineBytes() * 2)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    for (size_t i = 0; i < old_size; i++) ASSERT_EQ(block[i], 7);
    hak_free(block);
    ExpectWorks();
  }
}

// The flags of the mapping that contains the address, from the kernel's list.
std::string FlagsOf(const void *address) {
  std::ifstream file("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(file, line);) {
    uintptr_t start, end;
    if (sscanf(line.c_str(), "%lx-%lx ", &start, &end) == 2) {
      here = start <= reinterpret_cast<uintptr_t>(address) && reinterpret_cast<uintptr_t>(address) < end;
    }
    if (here && line.rfind("VmFlags:", 0) == 0) return line.substr(8) + " ";
  }
  return "";
}

TEST(Account, CountsTheBlocksOfEverySize) {
  if (FlagsOf(&errno).empty()) GTEST_SKIP() << "no /proc/self/smaps with flags";
  for (const size_t size : {size_t{10}, size_t{3000}, size_t{40000}, size_t{500000}, 3 * kMiB, 100 * kMiB}) {
    for (const size_t align : {size_t{16}, 4 * kMiB}) {
      char *block = static_cast<char *>(hak_aligned_alloc(align, size));
      ASSERT_NE(block, nullptr);
      *block = 1;
      const std::string flags = FlagsOf(block);
      EXPECT_NE(flags.find(" ac "), std::string::npos) << size << ' ' << align << flags;
      EXPECT_EQ(flags.find(" nr "), std::string::npos) << size << ' ' << align << flags;
      block = static_cast<char *>(hak_realloc(block, size * 3));
      ASSERT_NE(block, nullptr);
      EXPECT_NE(FlagsOf(block).find(" ac "), std::string::npos) << size << ' ' << align << FlagsOf(block);
      hak_free(block);
    }
  }
}

// EMBEDDING.md: a process with a second thread gets no user namespace of its own.
TEST(PurgeThread, EndsForAProgramThatWantsAUserNamespace) {
  if (hak_test::IsFastBuild() || !hak_test::CanRunSelf()) GTEST_SKIP() << "no setting, or no second run";
  const hak_test::Outcome outcome =
      hak_test::RunSelf({"--gtest_filter=Namespace.*", "--gtest_also_run_disabled_tests"}, {"HAKMEM_BACKGROUND=1"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_NE(outcome.out.find("[  PASSED  ] 1 test"), std::string::npos) << outcome;
}

TEST(Namespace, DISABLED_AfterThePurgeThread) {
  hak_free(hak_malloc(1));
  ASSERT_TRUE(hak_test::WaitUntil([] { return hak_test::PurgeThread() != 0; }));
  ASSERT_EQ(hak_config_set("HAKMEM_BACKGROUND", "0"), 0);
  ASSERT_TRUE(hak_test::WaitUntil([] { return hak_test::PurgeThread() == 0; }));
  // EPERM: the system allows them to nobody. EINVAL would be caused by the thread.
  EXPECT_TRUE(unshare(CLONE_NEWUSER) == 0 || errno == EPERM || errno == ENOSPC || errno == ENOSYS) << strerror(errno);
}

}  // namespace
