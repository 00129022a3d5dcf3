// SPDX-License-Identifier: Apache-2.0
//
// Large blocks of OBSERVE and HARDENED: the system calls for their guards, kernels without guards in the page table,
// and threads that make all calls at once.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr size_t kSize = 48 * 1024;

char *New(size_t size) { return static_cast<char *>(hak_malloc(size)); }

uint64_t Calls() {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  hak_stats_get(&stats);
  return stats.os_calls;
}

constexpr unsigned kInstall = 102;
constexpr unsigned kRemove = 103;

// From now on these calls with this third argument have this result and no effect in the calling thread. False: no
// filter can be set here.
bool AnswerWith(unsigned error, const std::vector<unsigned> &calls, unsigned third) {
  std::vector<sock_filter> program = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const unsigned call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 4));
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, third, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog all = {.len = static_cast<unsigned short>(program.size()), .filter = program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) == 0;
}

bool AnswerAdviceWith(unsigned advice, unsigned error) { return AnswerWith(error, {SYS_madvise}, advice); }

// Checks blocks of many sizes: the pages around them are inaccessible, and so are freed blocks. Returns what is wrong,
// or 0.
int UseLargeBlocks() {
  std::vector<char *> blocks;
  for (int round = 0; round < 4; ++round) {
    for (size_t size = 40000; size < 400000; size += 7777) {
      char *block = New(size);
      if (block == nullptr) return 1;
      for (size_t i = 0; i < size; ++i) {
        if (block[i] != 0) return 2;
      }
      memset(block, 1, size);
      if (hak_unit::IsReadable(block - 1)) return 3;
      if (hak_unit::IsReadable(block + (size + 4095) / 4096 * 4096)) return 4;
      blocks.push_back(block);
    }
    while (blocks.size() > 10) {
      char *block = blocks.back();
      blocks.pop_back();
      hak_free(block);
      if (hak_unit::IsReadable(block) || hak_unit::IsReadable(block + 39999)) return 5;
    }
  }
  return hak_heap_verify() ? 0 : 6;
}

TEST(Guards, ALargeBlockTakesThreeCallsInItsLife) {
  const Outcome outcome = RunForked([] {
    const auto pairs = [](int count) {
      for (int i = 0; i < count; ++i) {
        char *block = New(kSize - static_cast<size_t>(i % 3) * 4096);
        block[0] = block[1000] = 1;
        hak_free(block);
      }
    };
    pairs(400);
    const uint64_t before = Calls();
    pairs(1000);
    const uint64_t calls = Calls() - before;
    // One closes the pages, one opens them, and one, which fails at once, checks that they are open. Mappings as guards
    // would need four or more, each of which changes the mappings.
    if (calls > 3100) printf("%llu calls\n", static_cast<unsigned long long>(calls));
    return calls <= 3100 ? 0 : 1;
  });
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

TEST(Guards, PagesAreClosed) {
  const Outcome outcome = RunForked(UseLargeBlocks);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

TEST(Guards, PagesAreClosedWhereTheKernelHasNoGuards) {
  for (const unsigned error : {static_cast<unsigned>(EINVAL), 0u}) {
    const Outcome outcome = RunForked([&] { return AnswerAdviceWith(kInstall, error) ? UseLargeBlocks() : 100; });
    if (outcome.exit_code == 100) GTEST_SKIP() << "no filter can be set here";
    EXPECT_EQ(outcome.exit_code, 0) << error << outcome;
  }
}

// A filter that the program sets later: there are ranges of both kinds, closed and in use. More blocks are freed than
// the quarantine holds, so that their ranges are reused. `by_another`: the filter is that of another thread, which
// frees them.
int UseBlocksAround(unsigned advice, bool by_another) {
  if (UseLargeBlocks() != 0) return 1;
  std::vector<char *> blocks;
  const auto make = [&] {
    for (int i = 0; i < 400; ++i) {
      char *block = New(kSize);
      for (size_t at = 0; at < kSize; ++at) {
        if (block == nullptr || block[at] != 0) return false;
      }
      memset(block, 1, kSize);
      blocks.push_back(block);
    }
    return true;
  };
  const auto drop = [&](size_t rest) {
    while (blocks.size() > rest) {
      hak_free(blocks.back());
      blocks.pop_back();
    }
  };
  if (!make()) return 2;
  drop(200);
  bool filtered = false;
  const auto filter_and_drop = [&] {
    filtered = AnswerAdviceWith(advice, 0);
    drop(0);
  };
  if (by_another) {
    std::thread(filter_and_drop).join();
  } else {
    filter_and_drop();
  }
  if (!filtered) return 100;
  for (int round = 0; round < 3; ++round) {
    if (!make()) return 3;
    drop(0);
  }
  return UseLargeBlocks();
}

TEST(Guards, PagesAreZeroAndClosedWhereTheyStopWorking) {
  for (const unsigned advice : {kInstall, kRemove}) {
    for (const bool by_another : {false, true}) {
      const Outcome outcome = RunForked([&] { return UseBlocksAround(advice, by_another); });
      if (outcome.exit_code == 100) GTEST_SKIP() << "no filter can be set here";
      EXPECT_EQ(outcome.exit_code, 0) << advice << by_another << outcome;
    }
  }
}

TEST(Guards, PagesAreClosedWhereMemoryIsLocked) {
  const Outcome outcome = RunForked([] {
    char *block = New(kSize);
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 100;
    hak_free(block);
    if (hak_unit::IsReadable(block)) return 7;
    return UseLargeBlocks();
  });
  if (outcome.exit_code == 100) GTEST_SKIP() << "memory cannot be locked here";
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

// A program with little memory in use fills the address space with its quarantine alone.
TEST(Guards, LeaveAddressesToOthersWhereTheyAreShort) {
  const Outcome outcome = RunForked([] {
    hak_free(New(100));
    const rlimit limit = {rlim_t{1} << 30, rlim_t{1} << 30};
    if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
    for (int round = 0; round < 30; round++) {
      char *const block = New(size_t{100} << 20);
      if (block == nullptr) return 3;
      block[0] = 1;
      hak_free(block);
    }
    // As for the stacks of threads.
    void *const others = mmap(nullptr, size_t{512} << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return others != MAP_FAILED ? 0 : 4;
  });
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

// Blocks where the kernel refuses inaccessible pages, as in a program that has nearly as many mappings as the kernel
// allows.
int UseWhereGuardsAreRefused() {
  hak_free(New(100));
  if (!AnswerWith(ENOMEM, {SYS_mprotect, SYS_mmap}, PROT_NONE)) return 100;
  for (const size_t size : {size_t{1} << 20, size_t{5000}, size_t{5000}, size_t{1} << 20}) {
    char *const block = New(size);
    if (block == nullptr) return 3;
    memset(block, 1, size);
    hak_free(block);
  }
  return hak_heap_verify() ? 0 : 4;
}

TEST(Guards, ALineSaysThatTheKernelRefusesThem) {
  const Outcome outcome = RunForked(UseWhereGuardsAreRefused);
  if (outcome.exit_code == 100) GTEST_SKIP() << "no filter can be set here";
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
#ifdef HAK_PROFILE_HARDENED
  EXPECT_EQ(outcome.err, "hakmem: the kernel has refused a guard page: from now on blocks may go without them\n");
#else
  EXPECT_EQ(outcome.err, "") << "only HARDENED has guard pages of slabs";
#endif
}

TEST(Guards, AreTheChildsOfAForkToo) {
  const Outcome outcome = RunForked([] {
    char *live = New(kSize);
    char *freed = New(kSize);
    memset(live, 7, kSize);
    hak_free(freed);
    const pid_t child = fork();
    if (child == 0) {
      if (hak_unit::IsReadable(live - 1) || hak_unit::IsReadable(live + kSize) || hak_unit::IsReadable(freed)) _exit(1);
      if (live[kSize - 1] != 7) _exit(2);
      hak_free(live);
      _exit(hak_unit::IsReadable(live) ? 3 : UseLargeBlocks());
    }
    int status = -1;
    if (waitpid(child, &status, 0) != child || status != 0) return 4;
    return hak_unit::IsReadable(live) && live[0] == 7 ? 0 : 5;
  });
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

// Threads that free each other's blocks, forks, trims, and caches that are idle after a millisecond.
int Everything(size_t least, size_t most) {
  if (hak_config_set("HAKMEM_IDLE_CACHE_MS", "1") != 0) return 1;
  constexpr size_t kSlots = 300;
  static std::atomic<char *> slots[kSlots];
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> workers;
  for (uint64_t t = 1; t <= 8; ++t) {
    workers.emplace_back([&, t] {
      uint64_t random = t;
      for (int i = 0; i < 1500; ++i) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        const size_t size = least + (random >> 33) % (most - least + 1);
        char *block = New(size);
        if (block == nullptr) {
          wrong++;
          return;
        }
        block[0] = block[size - 1] = 1;
        hak_free(slots[(random >> 20) % kSlots].exchange(block));
      }
    });
  }
  std::thread trims([&] {
    while (!done) {
      hak_trim(0);
      usleep(1000);
    }
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      for (size_t size = least; size <= most; size += (most - least) / 50 + 1) hak_free(New(size));
      _exit(0);
    }
    int status = -1;
    if (waitpid(child, &status, 0) != child || status != 0) wrong++;
  }
  for (std::thread &worker : workers) worker.join();
  done = true;
  trims.join();
  for (auto &slot : slots) hak_free(slot.exchange(nullptr));
  return wrong == 0 && hak_heap_verify() ? 0 : 2;
}

TEST(Guards, ThreadsForksTrimsAndIdleCachesAtOnce) {
  for (const auto &[least, most] : {std::pair<size_t, size_t>{16, 65536}, {40000, 300000}}) {
    const Outcome outcome = RunForked([&, from = least, to = most] { return Everything(from, to); }, 60);
    EXPECT_EQ(outcome.exit_code, 0) << least << outcome;
    EXPECT_EQ(outcome.err, "");
  }
}

}  // namespace
}  // namespace hak_test
