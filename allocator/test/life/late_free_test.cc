// SPDX-License-Identifier: Apache-2.0
//
// Blocks outlive their threads, and are freed after the memory of those threads' heap records was returned: by the main
// thread, by threads that reuse the records, in a child that was forked before or after, and while all of this happens
// at once.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr size_t kThreads = 100;
constexpr size_t kBlocks = 40;

struct Block {
  unsigned char *start = nullptr;
  size_t size = 0;
};

Block New(size_t size, unsigned char fill) {
  const Block block = {static_cast<unsigned char *>(hak_malloc(size)), size};
  if (block.start == nullptr) abort();
  memset(block.start, fill, size);
  return block;
}

// Frees the block. False: its contents have changed.
bool Free(const Block &block) {
  bool intact = true;
  for (size_t i = 1; i < block.size; i++) intact = intact && block.start[i] == block.start[0];
  hak_free(block.start);
  return intact;
}

// Blocks of many classes left by threads that ran at the same time. Afterwards their records rest.
std::vector<Block> LeftBehind() {
  std::vector<Block> blocks(kThreads * kBlocks);
  std::atomic<size_t> ready{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; t++) {
    threads.emplace_back([&blocks, &ready, t] {
      for (size_t i = 0; i < kBlocks; i++) {
        blocks[t * kBlocks + i] = New(16 + i * 75, static_cast<unsigned char>(t + 1));
      }
      ready++;
      while (ready != kThreads) std::this_thread::yield();
    });
  }
  for (std::thread &thread : threads) thread.join();
  hak_trim(0);
  return blocks;
}

// This thread frees half of them. New threads, which have used some memory before, free the others.
bool FreeAll(const std::vector<Block> &blocks) {
  std::atomic<bool> good{true};
  for (size_t i = 0; i < blocks.size(); i += 2) good = Free(blocks[i]) && good;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 8; t++) {
    threads.emplace_back([&, t] {
      const Block own = New(1000, 7);
      for (size_t i = 1 + 2 * t; i < blocks.size(); i += 16) {
        if (!Free(blocks[i])) good = false;
      }
      if (!Free(own)) good = false;
    });
  }
  for (std::thread &thread : threads) thread.join();
  return good && hak_heap_verify() != 0;
}

// The test itself may allocate or free a block meanwhile.
bool IsAsBefore(uint64_t live_before) { return Stats().live_blocks <= live_before + 50; }

// ThreadSanitizer ends a forked child that starts a thread.
constexpr bool kHasChildren = HAK_TEST_TSAN == 0;

template <typename Work>
bool InChild(Work work) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(work() ? 0 : 1);
  }
  int status = -1;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

TEST(LateFree, AfterTheRecordsAreGone) {
  const uint64_t live = Stats().live_blocks;
  for (int round = 0; round < 3; round++) {
    const std::vector<Block> blocks = LeftBehind();
    EXPECT_TRUE(FreeAll(blocks));
  }
  EXPECT_TRUE(IsAsBefore(live));
}

TEST(LateFree, InAChildAndInItsParent) {
  if (!kHasChildren) GTEST_SKIP();
  const uint64_t live = Stats().live_blocks;
  const std::vector<Block> blocks = LeftBehind();
  EXPECT_TRUE(InChild([&] { return FreeAll(blocks) && IsAsBefore(live); }));
  EXPECT_TRUE(FreeAll(blocks));
  EXPECT_TRUE(IsAsBefore(live));
}

TEST(LateFree, OfRecordsThatGoInTheChild) {
  if (!kHasChildren) GTEST_SKIP();
  EXPECT_TRUE(InChild([] {
    const uint64_t live = Stats().live_blocks;
    const std::vector<Block> blocks = LeftBehind();
    return InChild([&] { return FreeAll(blocks); }) && FreeAll(blocks) && IsAsBefore(live);
  }));
}

// Threads start, leave blocks and end; other threads free these; one trims all the time, one forks.
TEST(LateFree, WhileRecordsComeAndGo) {
  const int rounds = kSlowBuild ? 60 : 400;
  // The user emulator itself is not safe to fork while its other threads run.
  const bool forks = kHasChildren && CanRunSelf();
  std::mutex lock;
  std::vector<Block> left;
  std::atomic<bool> done{false};
  std::atomic<bool> good{true};
  const auto take = [&] {
    const std::lock_guard<std::mutex> guard(lock);
    std::vector<Block> taken;
    taken.swap(left);
    return taken;
  };
  std::vector<std::thread> others;
  for (int t = 0; t < 2; t++) {
    others.emplace_back([&] {
      while (!done) {
        for (const Block &block : take()) {
          if (!Free(block)) good = false;
        }
      }
    });
  }
  others.emplace_back([&] {
    while (!done) hak_trim(0);
  });
  for (int round = 0; round < rounds; round++) {
    std::thread threads[4];
    for (std::thread &thread : threads) {
      thread = std::thread([&, round] {
        std::vector<Block> mine;
        for (size_t i = 0; i < 30; i++) mine.push_back(New(16 + i * 50, static_cast<unsigned char>(round)));
        const std::lock_guard<std::mutex> guard(lock);
        left.insert(left.end(), mine.begin(), mine.end());
      });
    }
    for (std::thread &thread : threads) thread.join();
    if (forks && round % 40 == 20) {
      const bool child = InChild([] {
        bool intact = true;
        for (int i = 0; i < 20; i++) std::thread([&intact] { intact = Free(New(500, 3)) && intact; }).join();
        hak_trim(0);
        return intact;
      });
      if (!child) good = false;
    }
  }
  done = true;
  for (std::thread &thread : others) thread.join();
  for (const Block &block : take()) EXPECT_TRUE(Free(block));
  EXPECT_TRUE(good);
  EXPECT_TRUE(hak_heap_verify());
}

}  // namespace
}  // namespace hak_test
