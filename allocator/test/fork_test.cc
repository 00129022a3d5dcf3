// SPDX-License-Identifier: Apache-2.0
//
// fork while other threads are inside the allocator: the child and its own child must be able to use the heap. An alarm
// ends a child that hangs, and the test fails.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr int kForks = kSlowBuild ? 40 : 120;
constexpr unsigned kAlarmSeconds = 60;

// Exit codes of children, which tell what failed.
enum Code { kGood = 0, kNoMemory = 10, kDamaged = 11, kBadHeap = 12, kGrandchild = 13, kThread = 14 };

// Calls of every kind: small, large, realloc, flush, trim, verify.
Code UseHeap(uint64_t seed) {
  Random random(TestSeed(seed));
  void *blocks[60] = {};
  size_t sizes[60] = {};
  for (int op = 0; op < 300; ++op) {
    const size_t i = random.Index(60);
    auto *p = static_cast<unsigned char *>(blocks[i]);
    if (p != nullptr) {
      if (p[0] != static_cast<unsigned char>(i) || p[sizes[i] - 1] != static_cast<unsigned char>(i)) return kDamaged;
      hak_free(p);
      blocks[i] = nullptr;
      continue;
    }
    sizes[i] = 1 + random.Index(random.OneIn(20) ? 300000 : 1500);
    blocks[i] = hak_malloc(sizes[i]);
    if (blocks[i] == nullptr) return kNoMemory;
    memset(blocks[i], static_cast<int>(i), sizes[i]);
  }
  for (void *p : blocks) hak_free(p);
  hak_thread_flush();
  hak_trim(0);
  return hak_heap_verify() ? kGood : kBadHeap;
}

int WaitFor(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// The child's part: uses the heap, frees blocks of the parent's threads, starts a thread, forks again.
[[noreturn]] void Child(uint64_t seed, void **inherited, size_t count) {
  alarm(kAlarmSeconds);
  for (size_t i = 0; i < count; ++i) hak_free(inherited[i]);
  Code code = UseHeap(seed);
  if (code != kGood) _exit(code);
#if !HAK_TEST_TSAN  // ThreadSanitizer ends a forked child that starts a thread
  std::atomic<int> from_thread{-1};
  std::thread([&] { from_thread = UseHeap(seed + 1); }).join();
  if (from_thread != kGood) _exit(kThread);
#endif
  const pid_t grandchild = fork();
  if (grandchild == 0) {
    alarm(kAlarmSeconds);
    _exit(UseHeap(seed + 2));
  }
  if (grandchild < 0 || WaitFor(grandchild) != kGood) code = kGrandchild;
  _exit(code);
}

TEST(Fork, StormWithThreadsAllocating) {
  std::atomic<bool> stop{false};
  std::atomic<int> thread_code{kGood};
  std::atomic<void *> shared[64] = {};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Random random(TestSeed(t));
      while (!stop) {
        // Remote frees and large blocks keep every lock of the allocator busy.
        hak_free(shared[random.Index(64)].exchange(hak_malloc(1 + random.Index(random.OneIn(30) ? 400000 : 600))));
        if (random.OneIn(500)) {
          const Code code = UseHeap(random.Next());
          if (code != kGood) thread_code = code;
        }
      }
    });
  }
  void *inherited[20];
  for (void *&p : inherited) p = hak_malloc(100);
  for (int i = 0; i < kForks; ++i) {
    const pid_t pid = fork();
    if (pid == 0) Child(static_cast<uint64_t>(i) * 7 + 1, inherited, 20);
    if (pid < 0) {
      ADD_FAILURE() << "fork: " << strerror(errno);
      break;
    }
    const int code = WaitFor(pid);
    EXPECT_EQ(code, kGood) << "fork " << i << (code == 1000 + SIGALRM ? ": the child hung" : "");
    if (code != kGood) break;
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(thread_code, kGood);
  // The children freed their copies; the parent's blocks are still live.
  for (void *p : inherited) hak_free(p);
  for (std::atomic<void *> &p : shared) hak_free(p.exchange(nullptr));
  EXPECT_TRUE(hak_heap_verify());
}

// Several threads fork at the same time, and each child forks once more.
TEST(Fork, FromSeveralThreadsAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> bad{0};
  for (uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < kForks / 10; ++i) {
        void *mine = hak_malloc(500);
        const pid_t pid = fork();
        if (pid == 0) Child(t * 1000 + i, &mine, 1);
        if (pid < 0 || WaitFor(pid) != kGood) bad.fetch_add(1);
        hak_free(mine);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(bad, 0);
}

// The watchdog detects a child that hangs. Otherwise the two tests above could not fail on a deadlock.
TEST(Fork, WatchdogSeesAHang) {
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(1);
    for (;;) pause();
  }
  EXPECT_EQ(WaitFor(pid), 1000 + SIGALRM);
}

TEST(Fork, ChildThenExec) {
  void *p = hak_malloc(1000);
  ASSERT_NE(p, nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(kAlarmSeconds);
    hak_free(p);
    execl("/bin/sh", "sh", "-c", "exit 7", static_cast<char *>(nullptr));
    _exit(1);
  }
  EXPECT_EQ(WaitFor(pid), 7);
  hak_free(p);
}

// In a new process the first call to the allocator comes after the fork, in parent and child.
int ForkFirst() {
  alarm(kAlarmSeconds);
  const pid_t pid = fork();
  if (pid == 0) Child(1, nullptr, 0);
  const Code own = UseHeap(2);
  const int child = WaitFor(pid);
  return child == kGood ? own : child;
}

TEST(Fork, BeforeTheFirstMalloc) {
  const Outcome outcome = RunSelf({"--child=fork-first"}, {});
  EXPECT_EQ(outcome.exit_code, kGood) << outcome;
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--child=fork-first") == 0) return hak_test::ForkFirst();
  testing::InitGoogleTest(&argc, argv);
  hak_test::RunSeed();  // Draws the seed before threads exist that could draw it while this one forks.
  return RUN_ALL_TESTS();
}
