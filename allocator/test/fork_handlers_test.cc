// SPDX-License-Identifier: Apache-2.0
//
// Fork handlers that use the allocator. Some are registered before the allocator's own, as by libraries that are
// initialised earlier, others after it. They run while other threads allocate, and some of them fork themselves. Then
// posix_spawn and vfork, which call no handlers. An alarm ends a process that hangs, and the test fails.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "allocator/test/idle_worker.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr unsigned kAlarmSeconds = 30;

enum Code { kGood = 0, kNoMemory = 10, kDamaged = 11, kBadHeap = 12, kThread = 13, kGrandchild = 14, kHandler = 15 };

// Calls of every kind. In a handler they need every lock of the allocator.
int UseHeap(uint64_t seed) {
  Random random(TestSeed(seed));
  std::vector<Stamped> blocks(20);
  bool good = true;
  for (int op = 0; op < 60; ++op) {
    Stamped &block = blocks[random.Index(blocks.size())];
    good = block.Free() && good;
    const size_t size = random.OneIn(30) ? 1200000 : random.OneIn(15) ? 100000 : 2000;
    if (!block.New(1 + random.Index(size), random.Next())) return kNoMemory;
  }
  for (Stamped &block : blocks) good = block.Free() && good;
  hak_thread_flush();
  hak_trim(0);
  if (!good) return kDamaged;
  return hak_heap_verify() ? kGood : kBadHeap;
}

int WaitFor(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) != pid) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// ---- The handlers -------------------------------------------------------------------------------

// While this is off the handlers do nothing, so that the forks of googletest and RunSelf are not tested.
std::atomic<bool> g_armed{false};
std::atomic<int> g_handler_code{kGood};
std::atomic<unsigned> g_calls[6];
std::atomic<bool> g_fork_in_handler{false};
thread_local bool t_inside = false;
// A block that each prepare handler leaves to the handlers after the fork, in the same thread.
thread_local void *t_left[2];

void Note(int code) {
  if (code != kGood) g_handler_code = code;
}

void Prepare(size_t which) {
  if (!g_armed || t_inside) return;
  g_calls[which].fetch_add(1);
  t_left[which] = hak_malloc(3000);
  if (t_left[which] == nullptr) Note(kNoMemory);
  Note(UseHeap(which));
  if (!g_fork_in_handler) return;
  t_inside = true;
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(kAlarmSeconds);
    _exit(UseHeap(which + 10));
  }
  if (pid < 0 || WaitFor(pid) != kGood) Note(kHandler);
  t_inside = false;
}

void Behind(size_t which, size_t counter) {
  if (!g_armed || t_inside) return;
  g_calls[counter].fetch_add(1);
  hak_free(t_left[which]);
  t_left[which] = nullptr;
  Note(UseHeap(counter));
}

void PrepareEarly() { Prepare(0); }
void ParentEarly() { Behind(0, 2); }
void ChildEarly() { Behind(0, 4); }
void PrepareLate() { Prepare(1); }
void ParentLate() { Behind(1, 3); }
void ChildLate() { Behind(1, 5); }

// Runs before the constructor of the allocator, which has the same priority and is linked later.
__attribute__((constructor(101))) void RegisterEarly() { pthread_atfork(PrepareEarly, ParentEarly, ChildEarly); }

class ForkHandlers : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    RunSeed();  // Draws the seed before threads exist that could draw it while others fork.
    ASSERT_EQ(pthread_atfork(PrepareLate, ParentLate, ChildLate), 0);
  }
  ForkHandlers() {
    g_handler_code = kGood;
    for (std::atomic<unsigned> &calls : g_calls) calls = 0;
    g_armed = true;
  }
  ~ForkHandlers() override {
    g_armed = false;
    g_fork_in_handler = false;
  }
  // Forks; the child checks that its handlers ran, and uses the heap.
  static int Fork(uint64_t seed) {
    const pid_t pid = fork();
    if (pid != 0) return pid < 0 ? -1 : WaitFor(pid);
    alarm(kAlarmSeconds);
    g_fork_in_handler = false;
    if (g_handler_code != kGood) _exit(g_handler_code);
    if (g_calls[4] == 0 || g_calls[5] == 0) _exit(kHandler);
    int code = UseHeap(seed);
    if (code != kGood) _exit(code);
#if !HAK_TEST_TSAN  // ThreadSanitizer ends a forked child that starts a thread
    std::atomic<int> from_thread{-1};
    std::thread([&] { from_thread = UseHeap(seed + 1); }).join();
    if (from_thread != kGood) _exit(kThread);
#endif
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      alarm(kAlarmSeconds);
      _exit(g_handler_code != kGood ? g_handler_code.load() : UseHeap(seed + 2));
    }
    _exit(grandchild < 0 || WaitFor(grandchild) != kGood ? kGrandchild : kGood);
  }
};

// Threads that allocate and exchange blocks as long as the object lives.
class Noise {
 public:
  Noise() {
    for (uint64_t t = 0; t < 3; ++t) {
      threads_.emplace_back([this, t] {
        Random random(TestSeed(t + 77));
        while (!stop_) {
          hak_free(shared_[random.Index(64)].exchange(hak_malloc(1 + random.Index(random.OneIn(30) ? 400000 : 600))));
          if (random.OneIn(2000)) hak_trim(0);
        }
      });
    }
  }
  ~Noise() {
    stop_ = true;
    for (std::thread &thread : threads_) thread.join();
    for (std::atomic<void *> &p : shared_) hak_free(p.exchange(nullptr));
  }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<void *> shared_[64] = {};
  std::vector<std::thread> threads_;
};

constexpr unsigned kForks = kSlowBuild ? 6 : 12;

TEST_F(ForkHandlers, AllocateWhileThreadsDo) {
  alarm(120);
  const Noise noise;
  for (unsigned i = 0; i < kForks; ++i) {
    const int code = Fork(i * 7 + 1);
    ASSERT_EQ(code, kGood) << "fork " << i << (code == 1000 + SIGALRM ? ": the child hung" : "");
  }
  alarm(0);
  EXPECT_EQ(g_handler_code, kGood);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(g_calls[i], kForks) << "handler " << i;
}

TEST_F(ForkHandlers, OfThreadsThatForkAtOnce) {
  alarm(120);
  std::vector<std::thread> threads;
  std::atomic<int> bad{kGood};
  for (uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < kForks / 4; ++i) {
        const pid_t pid = fork();
        if (pid == 0) {
          alarm(kAlarmSeconds);
          _exit(UseHeap(t * 100 + i));
        }
        const int code = pid < 0 ? -1 : WaitFor(pid);
        if (code != kGood) bad = code;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  alarm(0);
  EXPECT_EQ(bad, kGood);
  EXPECT_EQ(g_handler_code, kGood);
  EXPECT_TRUE(hak_heap_verify());
}

// ---- No handlers: posix_spawn and vfork ------------------------------------------------------------

#if !HAK_TEST_TSAN && !HAK_TEST_ASAN
// A separate function, because the child of vfork uses its caller's variables.
__attribute__((noinline)) pid_t ChildThatExits(int status) {
  const pid_t child = vfork();
  if (child == 0) _exit(status);
  return child;
}
#endif

TEST(Spawn, WhileThreadsAllocate) {
  alarm(120);
  const Noise noise;
  Random random(TestSeed(5));
  for (unsigned i = 0; i < kForks; ++i) {
    std::vector<Stamped> mine(20);
    for (Stamped &block : mine) ASSERT_TRUE(block.New(1 + random.Index(3000), random.Next()));
    char program[] = "/bin/sh";
    char option[] = "-c";
    char command[] = "exit 7";
    char *arguments[] = {program, option, command, nullptr};
    pid_t pid = 0;
    ASSERT_EQ(posix_spawn(&pid, program, nullptr, nullptr, arguments, environ), 0);
    ASSERT_EQ(WaitFor(pid), 7);
#if !HAK_TEST_TSAN && !HAK_TEST_ASAN  // their runtimes do not expect two processes in one memory
    ASSERT_EQ(WaitFor(ChildThatExits(9)), 9);
#endif
    for (Stamped &block : mine) ASSERT_TRUE(block.Free());
  }
  alarm(0);
  EXPECT_TRUE(hak_heap_verify());
}

}  // namespace
}  // namespace hak_test
