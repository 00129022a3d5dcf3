// SPDX-License-Identifier: Apache-2.0
//
// Huge pages, measured from outside: /proc/self/smaps, page faults and the control group's account for small heaps, for
// growing heaps, and for heaps of which most was freed. Each case is a process of its own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

// The sum of a field over all mappings of a file in the form of smaps, in bytes.
uint64_t Rollup(const char *name) {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name, 0) == 0) return strtoull(line.c_str() + strlen(name) + 1, nullptr, 10) * 1024;
  }
  return 0;
}

uint64_t HugeBytes() { return Rollup("AnonHugePages"); }
uint64_t ResidentNow() { return Rollup("Rss"); }

uint64_t Faults() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_minflt);
}

// The flags of the mapping that contains an address: "hg": huge pages advised, "nh": advised against.
std::string FlagsAt(const void *address) {
  std::ifstream file("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(file, line);) {
    uintptr_t from = 0;
    uintptr_t to = 0;
    char dash = 0;
    std::istringstream words(line);
    if (words >> std::hex >> from >> dash >> to && dash == '-') {
      const uintptr_t wanted = reinterpret_cast<uintptr_t>(address);
      here = from <= wanted && wanted < to;
    } else if (here && line.rfind("VmFlags:", 0) == 0) {
      return line + " ";
    }
  }
  return "";
}

// Whether a program that requests a huge page gets one here.
bool CanHaveHugePages() {
  if (sysconf(_SC_PAGESIZE) != 4096) return false;
  const size_t size = 4 * kMiB;
  char *start = static_cast<char *>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (start == MAP_FAILED) return false;
  const uint64_t before = HugeBytes();
  bool had = false;
  if (madvise(start, size, MADV_HUGEPAGE) == 0) {
    memset(start, 1, size);
    had = HugeBytes() > before;
  }
  munmap(start, size);
  return had;
}

// `count` blocks of 16 to 1,039 bytes, whose first and last bytes are touched.
std::vector<void *> Grow(size_t count) {
  Random random(7);
  std::vector<void *> blocks(count);
  for (void *&block : blocks) {
    const size_t size = 16 + random.Index(1024);
    block = hak_malloc(size);
    if (block == nullptr) abort();
    static_cast<char *>(block)[0] = static_cast<char *>(block)[size - 1] = 1;
  }
  return blocks;
}

// Frees all but every `nth` block.
void FreeMost(std::vector<void *> *blocks, size_t nth) {
  for (size_t i = 0; i < blocks->size(); i++) {
    if (i % nth == 0) continue;
    hak_free((*blocks)[i]);
    (*blocks)[i] = nullptr;
  }
}

// Moves this process into a control group of its own, and reads the group's memory account; nothing if no group can be
// created. Memory that the process had before is counted elsewhere.
class ControlGroup {
 public:
  ControlGroup() {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
      const size_t first = line.find(':');
      const size_t second = line.find(':', first + 1);
      if (second == std::string::npos) continue;
      const std::string kind = line.substr(first + 1, second - first - 1);
      const std::string path = line.substr(second + 1);
      if (kind == "memory" && Enter("/sys/fs/cgroup/memory" + path)) usage_ = folder_ + "/memory.usage_in_bytes";
      if (kind.empty() && usage_.empty() && Enter("/sys/fs/cgroup" + path)) usage_ = folder_ + "/memory.current";
    }
  }
  uint64_t Bytes() const {
    std::ifstream file(usage_);
    uint64_t bytes = 0;
    return file >> bytes ? bytes : 0;
  }
  bool Exists() const { return Bytes() != 0; }
  ~ControlGroup() {
    if (parent_.empty()) return;
    std::ofstream(parent_ + "/cgroup.procs") << getpid() << std::flush;
    rmdir(folder_.c_str());
  }

 private:
  bool Enter(const std::string &parent) {
    const std::string folder = parent + "/hakmem-test-" + std::to_string(getpid());
    if (mkdir(folder.c_str(), 0755) != 0) return false;
    std::ofstream procs(folder + "/cgroup.procs");
    procs << getpid() << std::flush;
    if (!procs || access((folder + "/memory.current").c_str(), F_OK) +
                          access((folder + "/memory.usage_in_bytes").c_str(), F_OK) ==
                      -2) {
      procs.close();
      std::ofstream(parent + "/cgroup.procs") << getpid() << std::flush;
      rmdir(folder.c_str());
      return false;
    }
    parent_ = parent;
    folder_ = folder;
    return true;
  }
  std::string parent_;
  std::string folder_;
  std::string usage_;
};

void SmallHeap() {
  const uint64_t huge = HugeBytes();
  const uint64_t resident = ResidentNow();
  const std::vector<void *> blocks = Grow(2000);
  EXPECT_EQ(HugeBytes(), huge);
  EXPECT_LE(ResidentNow(), resident + 4 * kMiB);
  EXPECT_GT(ResidentNow(), resident + kMiB);
}

TEST(HugePages, ASmallHeapStaysOnSmallPages) { HAK_EXPECT_PASSES_IN_CHILD(SmallHeap()); }

// Many small heaps of threads do not count as a large heap.
void ManySmallHeaps() {
  const uint64_t huge = HugeBytes();
  std::vector<pthread_t> threads(12);
  static pthread_barrier_t full;
  pthread_barrier_init(&full, nullptr, static_cast<unsigned>(threads.size()) + 1);
  for (pthread_t &thread : threads) {
    ASSERT_EQ(pthread_create(
                  &thread, nullptr,
                  [](void *) -> void * {
                    std::vector<void *> blocks = Grow(500);
                    pthread_barrier_wait(&full);
                    pthread_barrier_wait(&full);
                    for (void *block : blocks) hak_free(block);
                    return nullptr;
                  },
                  nullptr),
              0);
  }
  pthread_barrier_wait(&full);
  EXPECT_GT(Stats().committed_bytes, 8 * kMiB);
  EXPECT_EQ(HugeBytes(), huge);
  pthread_barrier_wait(&full);
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
}

TEST(HugePages, SmallHeapsOfManyThreadsStayOnSmallPages) { HAK_EXPECT_PASSES_IN_CHILD(ManySmallHeaps()); }

void GrowingHeap() {
  const uint64_t faults = Faults();
  const uint64_t resident = ResidentNow();
  std::vector<void *> blocks = Grow(60000);
  const uint64_t grown = ResidentNow() - resident;
  EXPECT_GT(grown, 30 * kMiB);
  EXPECT_LT(Faults() - faults, grown / 4096 / 4);
  EXPECT_GT(HugeBytes(), grown / 4 * 3);
  // The rest of one huge page, and a part of a slab for each class.
  EXPECT_LT(grown, Stats().live_bytes + 5 * kMiB);
  // The account equals the resident memory.
  EXPECT_LT(grown, Stats().committed_bytes + kMiB);
  EXPECT_TRUE(hak_heap_verify());
  for (void *block : blocks) hak_free(block);
  hak_trim(0);
  EXPECT_LT(ResidentNow(), resident + 5 * kMiB);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(HugePages, AGrowingHeapIsInHugePages) {
  if (IsHardenedBuild()) GTEST_SKIP() << "guard pages take each huge page apart";
  if (!CanHaveHugePages()) GTEST_SKIP() << "no huge pages on this system";
  HAK_EXPECT_PASSES_IN_CHILD(GrowingHeap());
}

// One block stays in about each half MiB: no superslab is free as a whole, and all must be split.
void PartsGoBack() {
  const ControlGroup group;
  const uint64_t account = group.Bytes();
  const uint64_t resident = ResidentNow();
  std::vector<void *> blocks = Grow(60000);
  EXPECT_GT(HugeBytes(), 20 * kMiB);
  const uint64_t account_full = group.Bytes();
  const uint64_t full = ResidentNow();
  FreeMost(&blocks, 1000);
  hak_trim(0);
  const uint64_t left = ResidentNow();
  EXPECT_LT(left - resident, 12 * kMiB);
  // No huge page may appear again in place of the returned part.
  for (size_t i = 0; i < blocks.size(); i += 1000) {
    EXPECT_EQ(FlagsAt(blocks[i]).find(" hg "), std::string::npos) << i;
  }
  EXPECT_EQ(HugeBytes(), 0u);
  EXPECT_TRUE(hak_heap_verify());
  for (void *block : blocks) {
    if (block == nullptr) continue;
    EXPECT_EQ(static_cast<char *>(block)[0], 1);
  }
  if (group.Exists()) {
    // If only some pages of a huge page are returned, the kernel keeps and counts it as a whole, unless it was split.
    EXPECT_GT(account_full, account + 25 * kMiB);
    EXPECT_LT(group.Bytes(), account_full - (full - left) / 8 * 7);
  }
}

TEST(HugePages, PartsThatGoBackAreSplitOffAndStayAway) {
  if (IsHardenedBuild()) GTEST_SKIP() << "guard pages take each huge page apart";
  if (!CanHaveHugePages()) GTEST_SKIP() << "no huge pages on this system";
  HAK_EXPECT_PASSES_IN_CHILD(PartsGoBack());
}

// Every page keeps one block in sixteen: free pages of slabs in use.
void PagesGoBack() {
  const ControlGroup group;
  const uint64_t resident = ResidentNow();
  std::vector<void *> blocks(60000);
  for (void *&block : blocks) block = memset(hak_malloc(512), 1, 512);
  EXPECT_GT(HugeBytes(), 20 * kMiB);
  const uint64_t account_full = group.Bytes();
  const uint64_t full = ResidentNow();
  FreeMost(&blocks, 32);
  hak_trim(0);
  const uint64_t left = ResidentNow();
  EXPECT_LT(left - resident, (full - resident) / 2);
  EXPECT_EQ(HugeBytes(), 0u);
  EXPECT_TRUE(hak_heap_verify());
  if (group.Exists()) {
    EXPECT_LT(group.Bytes(), account_full - (full - left) / 8 * 7);
  }
  // The free blocks are used again, on small pages.
  for (void *&block : blocks) {
    if (block == nullptr) block = memset(hak_malloc(512), 1, 512);
  }
  EXPECT_TRUE(hak_heap_verify());
}

TEST(HugePages, FreePagesOfSlabsInUseAreSplitOff) {
  if (IsHardenedBuild()) GTEST_SKIP() << "guard pages take each huge page apart";
  if (!CanHaveHugePages()) GTEST_SKIP() << "no huge pages on this system";
  HAK_EXPECT_PASSES_IN_CHILD(PagesGoBack());
}

// The same heap in a process that may not have huge pages. The allocator asks once, at the start.
TEST(HugePagesChild, Without) {
  if (getenv("HAK_TEST_CHILD") == nullptr) GTEST_SKIP() << "run by another test";
  ASSERT_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
  const uint64_t resident = ResidentNow();
  const std::vector<void *> blocks = Grow(60000);
  EXPECT_EQ(HugeBytes(), 0u);
  const uint64_t calls = Stats().os_calls;
  const uint64_t committed = Stats().committed_bytes;
  EXPECT_LT(ResidentNow() - resident, Stats().live_bytes + 6 * kMiB);
  const std::vector<void *> more = Grow(20000);
  const uint64_t slabs = (Stats().committed_bytes - committed) / 65536;
  EXPECT_GT(slabs, 100u);
  // Fresh memory comes in batches of pages: one call populates a part of a slab, so there are fewer calls than pages.
  if (!IsHardenedBuild()) {
    EXPECT_GT(Stats().os_calls - calls, slabs / 2);
    EXPECT_LT(Stats().os_calls - calls, slabs * 8);
  }
  EXPECT_TRUE(hak_heap_verify());
}

TEST(HugePages, WithoutThemNewPagesAreFilledInBatches) {
  if (!CanRunSelf() || prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) GTEST_SKIP() << "a kernel that cannot be told";
  const Outcome outcome = RunSelf({"--gtest_filter=HugePagesChild.Without"}, {"HAK_TEST_CHILD=1"});
  prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_NE(outcome.out.find("[       OK ] HugePagesChild.Without"), std::string::npos) << outcome;
}

// Near its limit a heap takes memory in small steps: a huge page would hold slabs that are not needed.
void NearTheLimit() {
  ASSERT_EQ(hak_config_set("HAKMEM_MEMORY_LIMIT_MB", "24"), 0);
  const uint64_t resident = ResidentNow();
  uint64_t bytes = 0;
  while (hak_malloc(500) != nullptr) bytes += 500;
  EXPECT_GT(bytes, 20 * kMiB);
  EXPECT_LE(Stats().committed_bytes, 24 * kMiB + 64 * 1024);
  EXPECT_LT(ResidentNow() - resident, 26 * kMiB);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(HugePages, ALimitIsKept) {
  if (IsFastBuild()) GTEST_SKIP() << "settings of FAST do not change";
  HAK_EXPECT_PASSES_IN_CHILD(NearTheLimit());
}

}  // namespace
}  // namespace hak_test
