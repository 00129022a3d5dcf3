// SPDX-License-Identifier: Apache-2.0
//
// A program that sandboxes itself after its start. From then on every system call kills it, except those for memory,
// futex, and what the test itself needs.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "allocator/test/kernel/filter.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace {

using hak_test::Outcome;
using hak_test::RunForked;

constexpr int kCannot = 77;

bool AllowMemoryOnly(std::vector<long> more = {}) {
  std::vector<long> allowed = {SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_futex,
                               // For the C library's threads and this test.
                               SYS_exit, SYS_exit_group, SYS_clone, SYS_clone3, SYS_set_robust_list, SYS_rseq,
                               SYS_rt_sigprocmask, SYS_brk, SYS_nanosleep, SYS_clock_nanosleep, SYS_write,
                               SYS_sched_yield};
  allowed.insert(allowed.end(), more.begin(), more.end());
  return hak_test::SetFilter(allowed, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
}

// Blocks of small and large sizes, 40 MiB of them, then most of them freed, and some time with few calls.
void Work() {
  std::vector<void *> blocks;
  for (size_t i = 0; i < 8000; i++) {
    const size_t size = i % 500 == 0 ? 2000000 : 16 + i * 37 % 8000;
    blocks.push_back(hak_malloc(size));
    memset(blocks.back(), 1, size < 8000 ? size : 8000);
  }
  for (size_t i = 0; i < blocks.size(); i++) {
    if (i % 16 != 0) hak_free(blocks[i]);
  }
  for (int turn = 0; turn < 40; turn++) {
    hak_test::SleepMs(10);
    for (size_t k = 0; k < 60; k++) hak_free(hak_malloc(3000 + k * 100));
    hak_free(hak_realloc(hak_calloc(1, 300000), 1400000));
  }
  for (size_t i = 0; i < blocks.size(); i += 16) hak_free(blocks[i]);
}

std::vector<void *> g_shared;  // allocated by one thread, freed by another
std::atomic<bool> g_in_sandbox{false};

void *Worker(void *begin) {
  void *blocks[64];
  for (void *&block : blocks) block = hak_malloc(3000);
  for (void *block : blocks) hak_free(block);
  pthread_barrier_wait(static_cast<pthread_barrier_t *>(begin));
  hak_test::SleepMs(300);
  // Before that the other thread may have taken all memory.
  while (!g_in_sandbox) hak_test::SleepMs(10);
  for (void *block : g_shared) hak_free(block);
  g_shared.clear();
  Work();
  return nullptr;
}

// Threads that started before and sleep with full caches, and one that starts later.
int WorkWithThreads(bool (*sandbox)()) {
  hak_free(hak_malloc(5000));
  pthread_barrier_t begin;
  pthread_barrier_init(&begin, nullptr, 2);
  pthread_t thread;
  pthread_t later;
  if (pthread_create(&thread, nullptr, Worker, &begin) != 0) return 2;
  for (int i = 0; i < 2000; i++) g_shared.push_back(hak_malloc(500));
  // The C library opens a file when the first thread ends.
  pthread_barrier_wait(&begin);
  if (!sandbox()) return kCannot;
  g_in_sandbox = true;
  const auto work = [](void *) -> void * {
    Work();
    return nullptr;
  };
  if (pthread_create(&later, nullptr, work, nullptr) != 0) return 4;
  Work();
  pthread_join(thread, nullptr);
  pthread_join(later, nullptr);
  return 0;
}

#define EXPECT_WORKS(outcome)                                                      \
  if ((outcome).exit_code == kCannot) GTEST_SKIP() << "no filter can be set here"; \
  EXPECT_EQ((outcome).exit_code, 0) << (outcome)

TEST(Sandbox, TheFilterKills) {
  const Outcome outcome = RunForked([] {
    if (!AllowMemoryOnly()) return kCannot;
    return static_cast<int>(syscall(SYS_getuid) * 0);
  });
  if (outcome.exit_code == kCannot) GTEST_SKIP() << "no filter can be set here";
  EXPECT_EQ(outcome.signal, SIGSYS) << outcome;
}

TEST(Sandbox, OneThread) {
  const Outcome outcome = RunForked([] {
    hak_free(hak_malloc(5000));
    if (!AllowMemoryOnly()) return kCannot;
    Work();
    return 0;
  });
  EXPECT_WORKS(outcome);
}

TEST(Sandbox, Threads) {
  const Outcome outcome = RunForked([] { return WorkWithThreads([] { return AllowMemoryOnly(); }); });
  EXPECT_WORKS(outcome);
}

// A request that the kernel refuses: hakmem returns what it has before it answers NULL, without another system call.
TEST(Sandbox, ARefusedRequestIsNull) {
  const Outcome outcome = RunForked([] {
    return WorkWithThreads([] {
      if (!AllowMemoryOnly()) return false;
      const bool refused = hak_malloc(size_t{1} << 46) == nullptr && hak_malloc(size_t{1} << 60) == nullptr;
      if (!refused) _exit(3);
      return true;
    });
  });
  EXPECT_WORKS(outcome);
}

// The same when the address space is used up.
TEST(Sandbox, TheLastRequestIsNull) {
  const Outcome outcome = RunForked([] {
    // The C library's malloc, which this test uses too, opens a file when it returns memory of another arena.
    mallopt(M_ARENA_MAX, 1);
    return WorkWithThreads([] {
      const rlimit limit = {rlim_t{1} << 30, rlim_t{1} << 30};
      if (setrlimit(RLIMIT_AS, &limit) != 0 || !AllowMemoryOnly()) return false;
      std::vector<void *> blocks;
      blocks.reserve(1000);
      for (size_t i = 0; i < 1000; i++) {
        void *block = hak_malloc(size_t{10} << 20);
        if (block != nullptr) blocks.push_back(block);
      }
      if (blocks.size() > 110) _exit(3);
      for (void *block : blocks) hak_free(block);
      return true;
    });
  });
  EXPECT_WORKS(outcome);
}

// The program requests a trim itself, and a trim may call membarrier.
TEST(Sandbox, TrimMayAskForABarrier) {
  const Outcome outcome = RunForked([] {
    return WorkWithThreads([] {
      const bool set = AllowMemoryOnly({SYS_membarrier});
      if (set) hak_trim(0);
      return set;
    });
  });
  EXPECT_WORKS(outcome);
}

}  // namespace
