// SPDX-License-Identifier: Apache-2.0
//
// The address space that the allocator takes, measured from outside, and blocks outside the slab map's window. Each
// case is a process of its own.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// A line of /proc/self/status, in bytes.
uint64_t Status(const char *name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name, 0) == 0) return strtoull(line.c_str() + strlen(name) + 1, nullptr, 10) * 1024;
  }
  return 0;
}

void FirstBlock() {
  // It includes what the allocator reserves when the process starts.
  hak_free(hak_malloc(100));
  EXPECT_GT(Status("VmSize"), kMiB);
  EXPECT_LT(Status("VmSize"), 128 * kMiB);
}

TEST(AddressWindow, TheFirstBlockTakesFewAddresses) { HAK_EXPECT_PASSES_IN_CHILD(FirstBlock()); }

// A program that limits its address space after it has begun to allocate, as contest judges, build farms and scripting
// languages do.
void LimitedLater() {
  hak_free(hak_malloc(1));
  rlimit limit = {};
  limit.rlim_cur = limit.rlim_max = 256 * kMiB;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  for (int i = 0; i < 64; i++) {
    void *block = hak_malloc(kMiB);
    ASSERT_NE(block, nullptr) << i;
    memset(block, 1, kMiB);
  }
  for (int i = 0; i < 20000; i++) ASSERT_NE(hak_malloc(700), nullptr) << i;
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void *) -> void * {
                  hak_free(hak_malloc(100));
                  return nullptr;
                },
                nullptr),
            0);
  pthread_join(thread, nullptr);
  // The limit has an effect.
  void *block;
  do {
    block = hak_malloc(kMiB);
  } while (block != nullptr);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(AddressWindow, ALimitOnAddressesThatIsSetLaterLeavesRoom) {
  if (!hak_unit::LimitsAddressSpace()) GTEST_SKIP() << "this kernel keeps no limit on the address space";
  HAK_EXPECT_PASSES_IN_CHILD(LimitedLater());
}

void Locked() {
  hak_free(hak_malloc(100));
  const uint64_t size = Status("VmSize");
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return;  // not permitted
  EXPECT_LT(Status("VmLck"), size + kMiB);
  EXPECT_LT(Status("VmLck"), 96 * kMiB);
  for (int i = 0; i < 1000; i++) ASSERT_NE(hak_malloc(1000), nullptr);
  EXPECT_LT(Status("VmRSS"), 64 * kMiB);
}

TEST(AddressWindow, LockingAllMemoryLocksLittle) { HAK_EXPECT_PASSES_IN_CHILD(Locked()); }

// The kernel counts all addresses when a process locks its memory, and refuses when they exceed the limit.
constexpr rlim_t kLockLimit = 16 * kMiB;

TEST(AddressWindowChild, LocksAllMemoryWithoutPrivilege) {
  if (getenv("HAK_TEST_CHILD") == nullptr) GTEST_SKIP() << "run by another test";
  const rlimit limit = {kLockLimit, kLockLimit};
  ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
  ASSERT_EQ(getuid() == 0 ? setresuid(65534, 65534, 65534) : 0, 0);
  hak_free(hak_malloc(100));
  ASSERT_EQ(mlockall(MCL_CURRENT | MCL_FUTURE), 0) << Status("VmSize");
  EXPECT_LE(Status("VmLck"), kLockLimit);
  void *block = hak_malloc(100000);
  ASSERT_NE(block, nullptr);
  memset(block, 1, 100000);
}

TEST(AddressWindow, TwoLevelsLetAProgramLockItsMemoryUnderASmallLimit) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST's settings are constants";
  if (!CanRunSelf()) GTEST_SKIP() << "this emulator cannot start itself";
  rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  if (limit.rlim_max < kLockLimit) GTEST_SKIP() << "the limit here is smaller";
  const std::vector<std::string> child = {"--gtest_filter=AddressWindowChild.*"};
  const Outcome two_levels = RunSelf(child, {"HAK_TEST_CHILD=1", "HAKMEM_SLAB_MAP=two_level"});
  EXPECT_EQ(two_levels.exit_code, 0) << two_levels;
  const Outcome flat = RunSelf(child, {"HAK_TEST_CHILD=1", "HAKMEM_SLAB_MAP=flat"});
  EXPECT_EQ(flat.exit_code, 1) << "the limit does not distinguish the two: " << flat;
}

// Reserved memory that reads as zero is useless in a core file.
void CoreFiles() {
  hak_free(hak_malloc(100));
  std::ifstream file("/proc/self/smaps");
  std::string mapping;
  uint64_t bytes = 0;
  int reservations = 0;
  for (std::string line; std::getline(file, line);) {
    uintptr_t from = 0;
    uintptr_t to = 0;
    char dash = 0;
    std::string permissions;
    std::string offset;
    std::string device;
    uint64_t inode = 1;
    std::istringstream words(line);
    if (words >> std::hex >> from >> dash >> to >> permissions >> offset >> device >> inode && dash == '-') {
      mapping = permissions == "r--p" && inode == 0 ? line : "";
      bytes = to - from;
    } else if (!mapping.empty() && bytes >= 2 * kMiB && line.rfind("VmFlags:", 0) == 0) {
      reservations++;
      EXPECT_NE((line + " ").find(" dd "), std::string::npos) << mapping;
    }
  }
  EXPECT_GT(reservations, 0);
}

TEST(AddressWindow, ReservationsAreLeftOutOfCoreFiles) { HAK_EXPECT_PASSES_IN_CHILD(CoreFiles()); }

// The program takes the addresses around the allocator's, so the allocator's next memory lies outside the window.
void Outside() {
  std::vector<char *> inside;
  for (int i = 0; i < 3000; i++) inside.push_back(static_cast<char *>(hak_malloc(600)));
  constexpr size_t kMuch = size_t{5} << 37;  // 640 GiB: more than half a window
  for (int i = 0; i < 2; i++) {
    void *much = mmap(nullptr, kMuch, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (much == MAP_FAILED) return;  // a small address space
  }
  std::vector<char *> blocks = inside;
  Random random(5);
  uint64_t far = 0;
  for (int i = 0; i < 60000; i++) {
    const size_t size = i % 1000 == 0 ? 200000 : 16 + random.Index(3000);
    char *block = static_cast<char *>(hak_malloc(size));
    ASSERT_NE(block, nullptr);
    ASSERT_GE(hak_usable_size(block), size);
    block[0] = block[size - 1] = 1;
    const intptr_t distance = reinterpret_cast<intptr_t>(block) - reinterpret_cast<intptr_t>(inside[0]);
    far += distance > intptr_t{1} << 39 || distance < -(intptr_t{1} << 39);
    blocks.push_back(block);
  }
  EXPECT_GT(far, 40000u) << "the case that is meant";
  EXPECT_TRUE(hak_heap_verify());
  for (size_t i = 0; i < blocks.size(); i += 2) {
    blocks[i] = static_cast<char *>(hak_realloc(blocks[i], 100 + random.Index(5000)));
    ASSERT_NE(blocks[i], nullptr);
  }
  const uint64_t live = Stats().live_blocks;
  EXPECT_GE(live, blocks.size());
  for (char *block : blocks) hak_free(block);
  EXPECT_EQ(Stats().live_blocks, live - blocks.size());
  hak_trim(0);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(AddressWindow, BlocksOutsideItAreLikeAnyOther) { HAK_EXPECT_PASSES_IN_CHILD(Outside()); }

// Misuse of a block outside the window is noticed too.
void FreesTwiceOutside() {
  hak_free(hak_malloc(100));
  constexpr size_t kMuch = size_t{5} << 37;
  for (int i = 0; i < 2; i++) mmap(nullptr, kMuch, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  char *block = nullptr;
  for (int i = 0; i < 20000; i++) block = static_cast<char *>(hak_malloc(600));
  hak_free(block);
  hak_free(block);
  hak_trim(0);
}

TEST(AddressWindow, AFreeTooManyIsNoticedOutsideToo) {
  EXPECT_EXIT(
      {
        FreesTwiceOutside();
        _exit(0);
      },
      testing::KilledBySignal(SIGABRT), "double free");
}

}  // namespace
}  // namespace hak_test
