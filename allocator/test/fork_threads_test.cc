// SPDX-License-Identifier: Apache-2.0
//
// What the child of a fork does with the heaps of threads that do not exist in it. After a while it uses their caches
// and slabs, also in a grandchild, and also if other threads were emptying caches when it was forked.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "allocator/test/idle_worker.h"
#include "allocator/test/probe.h"

namespace hak_test {
namespace {

constexpr unsigned kAlarmSeconds = 30;
constexpr size_t kWorkers = 3;

// Exit codes of children, which tell what failed.
enum Code {
  kGood = 0,
  kThreads = 10,      // the other threads' heaps count as threads
  kLive = 11,         // the live blocks differ from the parent's
  kCached = 12,       // the other threads' caches are still full
  kMemory = 13,       // their slabs were not returned
  kDamaged = 14,      // a block's contents changed
  kBadHeap = 15,      // the heap does not verify
  kNoMemory = 16,     // a request failed
  kNotAdopted = 17,   // their slabs are not reused
  kGrandchild = 100,  // plus its own code
};

int WaitFor(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// Runs `body` in a child; returns its exit code, or 1000 plus the signal.
template <typename Body>
int InChild(const Body &body) {
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(kAlarmSeconds);
    _exit(body());
  }
  return pid < 0 ? -1 : WaitFor(pid);
}

// Makes calls of every kind and checks them.
int UseHeap(uint64_t seed) {
  Random random(TestSeed(seed));
  std::vector<Stamped> blocks(80);
  bool good = true;
  for (int op = 0; op < 1500; ++op) {
    Stamped &block = blocks[random.Index(blocks.size())];
    good = block.Free() && good;
    if (!block.New(1 + random.Index(random.OneIn(100) ? 300000 : 900), random.Next())) return kNoMemory;
  }
  for (Stamped &block : blocks) good = block.Free() && good;
  if (!good) return kDamaged;
  return hak_heap_verify() ? kGood : kBadHeap;
}

class ForkThreads : public testing::Test {
 protected:
  ForkThreads() : workers_(kWorkers) {
    hak_free(hak_malloc(1));  // Gives the thread that forks a heap.
    for (Worker &worker : workers_) {
      worker.Do([this] {
        FillCaches();
        for (size_t i = 0; i < 3000; ++i) {
          blocks_.emplace_back();
          ASSERT_TRUE(blocks_.back().New(1 + i % 700, blocks_.size()));
        }
      });
    }
    before_ = Stats();
  }
  ~ForkThreads() override {
    for (Stamped &block : blocks_) EXPECT_TRUE(block.Free());
    EXPECT_TRUE(hak_heap_verify());
  }

  // What every child must find: its parent's blocks, and no thread but its own.
  int Inherits() {
    const hak_stats now = Stats();
    if (now.threads != 1) return kThreads;
    if (now.live_blocks != before_.live_blocks || now.live_bytes != before_.live_bytes) return kLive;
    return kGood;
  }
  // Frees all of the parent's blocks; then all memory is returned.
  int FreesEverything() {
    bool good = true;
    for (Stamped &block : blocks_) good = block.Free() && good;
    if (!good) return kDamaged;
    const uint64_t freed = blocks_.size();
    hak_trim(0);
    const hak_stats now = Stats();
    if (now.threads != 1) return kThreads;
    if (now.live_blocks != before_.live_blocks - freed) return kLive;
    if (now.cached_blocks != 0) return kCached;
    if (now.slabs_used > 2 || now.committed_bytes >= before_.committed_bytes) return kMemory;
    return hak_heap_verify() ? kGood : kBadHeap;
  }

  std::vector<Worker> workers_;
  std::vector<Stamped> blocks_;
  hak_stats before_ = {};
};

// Forks while two threads do `work` all the time. The child closes their heaps and finds all records consistent.
void ForkWhile(void (*work)()) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (!stop) work();
    });
  }
  for (int round = 0; round < 30 && !testing::Test::HasFailure(); ++round) {
    EXPECT_EQ(InChild([]() -> int {
                void *span = hak_malloc(200000);
                if (span == nullptr) return kNoMemory;
                hak_free(span);
                hak_trim(0);
                if (Stats().threads != 1) return kThreads;
                return hak_heap_verify() ? kGood : kBadHeap;
              }),
              kGood);
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();
}

// Large blocks come from the page heap without a heap's lock, so its own lock must keep it consistent in the child.
TEST_F(ForkThreads, OthersTakeAndGiveSpansMeanwhile) {
  ForkWhile([] {
    for (const unsigned size : {100000U, 300000U, 700000U}) hak_free(hak_malloc(size));
  });
}

TEST_F(ForkThreads, OthersMakeSlowCallsMeanwhile) {
  ForkWhile([] {
    std::vector<void *> blocks;
    for (size_t i = 0; i < 500; ++i) blocks.push_back(hak_malloc(16 + i * 8));
    for (void *p : blocks) hak_free(p);
    hak_thread_flush();
  });
}

TEST_F(ForkThreads, TrimInTheChildTakesTheirCaches) {
  ASSERT_GT(before_.cached_blocks, 2000U);
  EXPECT_EQ(InChild([this]() -> int {
              if (const int code = Inherits()) return code;
              hak_trim(0);
              if (Stats().cached_blocks != 0) return kCached;
              if (const int code = Inherits()) return code;
              return FreesEverything();
            }),
            kGood);
}

TEST_F(ForkThreads, SlowCallsInAChildThatGrowsTakeThemToo) {
  EXPECT_EQ(InChild([this]() -> int {
              if (const int code = Inherits()) return code;
              Random random(TestSeed(1));
              // A child that does little leaves these heaps alone.
              const uint64_t before = Stats().cached_blocks;
              for (int i = 0; i < 20; ++i) SlowCalls(&random);
              hak_thread_flush();
              if (Stats().cached_blocks < before / 2) return kCached;
              Stamped more;
              if (!more.New(size_t{32} << 20, 1)) return kNoMemory;
              const uint64_t adopted = Stats().slabs_adopted;
              // Only what this thread caches itself may be left.
              const bool taken = WaitUntil([&] {
                SlowCalls(&random);
                hak_thread_flush();
                return Stats().cached_blocks == 0;
              });
              if (!taken) return kCached;
              const bool used = WaitUntil([&] {
                SlowCalls(&random);
                return Stats().slabs_adopted > adopted;
              });
              if (!used) return kNotAdopted;
              if (const int code = UseHeap(2)) return code;
              if (!more.Free()) return kBadHeap;
              return FreesEverything();
            }),
            kGood);
}

TEST_F(ForkThreads, GrandchildrenInheritToo) {
  // The grandchild is forked before the child has done any of the work, after a part of it, and after all of it.
  for (int stage = 0; stage < 3; ++stage) {
    EXPECT_EQ(InChild([&]() -> int {
                if (stage >= 1) {
                  Random random(TestSeed(3));
                  SlowCalls(&random);
                }
                if (stage >= 2) hak_trim(0);
                const int code = InChild([&]() -> int {
                  if (const int mine = Inherits()) return mine;
                  if (const int mine = UseHeap(4)) return mine;
                  return FreesEverything();
                });
                if (code != kGood) return kGrandchild + code;
                return FreesEverything();
              }),
              kGood)
        << "stage " << stage;
  }
}

// The parent's threads are not affected.
TEST_F(ForkThreads, TheParentGoesOn) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(InChild([this]() -> int { return FreesEverything(); }), kGood);
    for (Worker &worker : workers_) {
      int code = -1;
      worker.Do([&] { code = UseHeap(5); });
      EXPECT_EQ(code, kGood);
    }
  }
  const hak_stats now = Stats();
  EXPECT_EQ(now.live_blocks, before_.live_blocks);
  EXPECT_EQ(now.threads, before_.threads);
}

#if !HAK_TEST_TSAN  // ThreadSanitizer ends a forked child that starts a thread
TEST_F(ForkThreads, NewThreadsOfTheChildInheritAsWell) {
  EXPECT_EQ(InChild([this]() -> int {
              for (int round = 0; round < 3; ++round) {
                std::atomic<int> code{kGood};
                std::vector<std::thread> threads;
                for (uint64_t t = 0; t < 3; ++t) {
                  threads.emplace_back([&, t] {
                    if (const int mine = UseHeap(t)) code = mine;
                    if (t == 0) hak_trim(0);
                  });
                }
                for (std::thread &thread : threads) thread.join();
                if (code != kGood) return code;
              }
              return FreesEverything();
            }),
            kGood);
}
#endif

// ---- Storm --------------------------------------------------------------------------------------

// Frees most of a heap, so that the thread is watched and all bins are closed when it forks.
void LetGoOfMuch() {
  std::vector<void *> blocks(40000);
  for (void *&p : blocks) p = hak_malloc(400);
  for (void *p : blocks) hak_free(p);
}

TEST(ForkStorm, WhileCachesAreBeingEmptied) {
  constexpr int kForks = kSlowBuild ? 30 : 100;
  RunSeed();  // Draws the seed before threads exist that could draw it while this one forks.
  std::atomic<bool> stop{false};
  std::atomic<size_t> damaged{0};
  std::atomic<void *> shared[32] = {};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      Random random(TestSeed(t + 1));
      std::vector<Stamped> mine(200);
      while (!stop) {
        const size_t many = 1 + random.Index(mine.size());
        for (size_t i = 0; i < many; ++i) {
          damaged += !mine[i].Free();
          if (random.OneIn(2) && !mine[i].New(1 + random.Index(500), random.Next())) ++damaged;
        }
        hak_free(shared[random.Index(32)].exchange(hak_malloc(1 + random.Index(400))));
        if (random.OneIn(30)) SleepMs(1);
      }
      for (Stamped &block : mine) damaged += !block.Free();
    });
  }
  threads.emplace_back([&] {
    while (!stop) hak_trim(0);
  });
  for (int i = 0; i < kForks && !HasFailure(); ++i) {
    if (i % 10 == 0) LetGoOfMuch();
    const uint64_t seed = static_cast<uint64_t>(i) * 7 + 1;
    const int code = InChild([seed]() -> int {
      if (Stats().threads > 1) return kThreads;
      if (const int mine = UseHeap(seed)) return mine;
      hak_trim(0);
      if (Stats().cached_blocks != 0) return kCached;
      if (Stats().threads > 1) return kThreads;
      const int grandchild = InChild([seed]() -> int {
        if (const int mine = UseHeap(seed + 1)) return mine;
        hak_trim(0);
        return Stats().cached_blocks == 0 ? kGood : kCached;
      });
      return grandchild == kGood ? kGood : kGrandchild + grandchild;
    });
    EXPECT_EQ(code, kGood) << "fork " << i << (code == 1000 + SIGALRM ? ": the child hung" : "");
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();
  for (std::atomic<void *> &p : shared) hak_free(p.exchange(nullptr));
  EXPECT_EQ(damaged, 0U);
  EXPECT_TRUE(hak_heap_verify());
}

// The watchdog detects a child that hangs.
TEST(ForkStorm, TheWatchdogBarks) {
  EXPECT_EQ(InChild([]() -> int {
              alarm(1);
              for (;;) pause();
              return 0;
            }),
            1000 + SIGALRM);
}

}  // namespace
}  // namespace hak_test
