// SPDX-License-Identifier: Apache-2.0
//
// hak_heap_visit: exactly the live blocks, wherever the freed ones are: in a thread's cache, on the way to another
// thread's slab, in the quarantine, in their slabs. This program's own malloc is not hakmem's.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/idle_worker.h"
#include "allocator/test/many_blocks.h"
#include "allocator/test/probe.h"
#include "allocator/test/test_random.h"

namespace {

using hak_test::AllocateMany;
using hak_test::FreeAll;
using hak_test::FreeHalf;
using hak_test::Random;
using hak_test::Worker;

struct Seen {
  size_t usable;
  size_t class_size;
  unsigned times;
};
using Heap = std::map<const void *, Seen>;

bool Note(const hak_block *block, void *context) {
  auto [at, is_new] =
      static_cast<Heap *>(context)->insert({block->address, Seen{block->usable_size, block->class_size, 0}});
  ++at->second.times;
  return true;
}

Heap Visit() {
  Heap heap;
  size_t times = 0;
  const size_t visited = hak_heap_visit(Note, &heap);
  for (const auto &[address, seen] : heap) times += seen.times;
  EXPECT_EQ(visited, times);
  return heap;
}

// What differs between the heap and the blocks that are live; "" for nothing.
std::string Difference(const std::vector<void *> &blocks) {
  Heap heap = Visit();
  std::string text;
  for (void *p : blocks) {
    const auto at = heap.find(p);
    if (at == heap.end()) return "a live block of " + std::to_string(hak_usable_size(p)) + " bytes was not visited";
    if (at->second.times != 1) return "a block was visited twice";
    if (at->second.usable != hak_usable_size(p)) return "a block has the wrong size";
    if (at->second.class_size != 0 && at->second.class_size < at->second.usable) return "a class is too small";
    heap.erase(at);
  }
  if (heap.empty()) return "";
  return std::to_string(heap.size()) + " freed blocks were visited, one of " +
         std::to_string(heap.begin()->second.usable) + " bytes";
}

TEST(HeapVisit, AnEmptyHeapAndEachSize) {
  EXPECT_EQ(Difference({}), "");
  std::vector<void *> blocks;
  for (size_t size = 0; size < size_t{3} << 20; size += 1 + size / 9) {
    blocks.push_back(hak_malloc(size));
    if (size < 5000) {
      EXPECT_EQ(Difference(blocks), "") << size;
    }
  }
  EXPECT_EQ(Difference(blocks), "");
  FreeAll(blocks);
  EXPECT_EQ(Difference({}), "");
}

TEST(HeapVisit, AgreesWithTheStatistics) {
  Random random(hak_test::TestSeed(0x71517));
  std::vector<void *> blocks = AllocateMany(&random, 5000, 40000);
  for (int round = 0; round < 6; ++round) {
    EXPECT_EQ(Difference(blocks), "") << "round " << round;
    const hak_stats stats = hak_test::Stats();
    uint64_t bytes = 0;
    const Heap heap = Visit();
    for (const auto &[address, seen] : heap) bytes += seen.usable;
    EXPECT_EQ(stats.live_blocks, heap.size());
    EXPECT_EQ(stats.live_bytes, bytes);
    blocks = FreeHalf(blocks, &random);
    if (round % 3 == 1) hak_thread_flush();
    if (round % 3 == 2) hak_trim(0);
  }
  FreeAll(blocks);
  EXPECT_EQ(Difference({}), "");
}

// More large blocks than one batch has.
TEST(HeapVisit, ManyLargeBlocks) {
  Random random(hak_test::TestSeed(0x1a86e));
  std::vector<void *> blocks;
  for (int i = 0; i < 300; ++i) blocks.push_back(hak_malloc(40000 + random.Index(40000)));
  EXPECT_EQ(Difference(blocks), "");
  blocks = FreeHalf(blocks, &random);
  EXPECT_EQ(Difference(blocks), "");
  FreeAll(blocks);
}

// Blocks that each of two threads allocates and the other one frees: in the caches of both, on chains, and collected.
TEST(HeapVisit, FreedByOtherThreads) {
  Random random(hak_test::TestSeed(0x07e2));
  std::vector<void *> theirs;
  std::vector<void *> mine = AllocateMany(&random, 3000, 40000);
  const auto all = [&] {
    std::vector<void *> blocks = theirs;
    blocks.insert(blocks.end(), mine.begin(), mine.end());
    return blocks;
  };
  {
    Worker worker;
    worker.Do([&] { theirs = AllocateMany(&random, 3000, 40000); });
    for (int round = 0; round < 4; ++round) {
      EXPECT_EQ(Difference(all()), "");
      theirs = FreeHalf(theirs, &random);
      EXPECT_EQ(Difference(all()), "") << "in this thread's cache, in the other one's slabs";
      worker.Do([&] { mine = FreeHalf(mine, &random); });
      EXPECT_EQ(Difference(all()), "") << "in the other thread's cache";
      hak_thread_flush();
      EXPECT_EQ(Difference(all()), "") << "on chains of remote frees";
      worker.Do([&] { hak_thread_flush(); });
      EXPECT_EQ(Difference(all()), "");
    }
  }
  EXPECT_EQ(Difference(all()), "") << "the other thread has ended";
  FreeAll(all());
  EXPECT_EQ(Difference({}), "");
}

TEST(HeapVisit, StopsWhenTold) {
  std::vector<void *> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(hak_malloc(i % 10 == 0 ? 100000 : 100));
  for (size_t most = 1; most <= 100; most += 3) {
    size_t left = most;
    EXPECT_EQ(
        hak_heap_visit([](const hak_block *, void *context) { return --*static_cast<size_t *>(context) != 0; }, &left),
        most);
  }
  FreeAll(blocks);
}

// No lock is held: the visitor may call every function, even this one.
TEST(HeapVisit, TheVisitorMayAllocate) {
  std::vector<void *> blocks;
  for (int i = 0; i < 500; ++i) blocks.push_back(hak_malloc(static_cast<size_t>(i) * 100));
  struct Context {
    size_t visited;
    size_t nested;
  } context = {0, 0};
  hak_heap_visit(
      [](const hak_block *block, void *of) {
        auto *at = static_cast<Context *>(of);
        hak_free(hak_malloc(block->usable_size + 1));
        void *other = nullptr;
        std::thread([&] { other = hak_malloc(70000); }).join();
        hak_free(other);
        if (++at->visited == 250) {
          at->nested = hak_heap_visit([](const hak_block *, void *) { return true; }, nullptr);
          hak_trim(0);
        }
        return at->visited < 600;
      },
      &context);
  EXPECT_GE(context.visited, 500U);
  EXPECT_EQ(context.nested, 500U);
  FreeAll(blocks);
}

// Blocks that stay live are visited exactly once, whatever others do.
TEST(HeapVisit, WhileOthersAllocateAndFree) {
  std::atomic<unsigned> ended{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      Random random(hak_test::TestSeed(0x0a11) + t);
      for (int round = 0; round < (hak_test::kSlowBuild ? 60 : 400); ++round) {
        FreeAll(AllocateMany(&random, 200, 40000));
        if (random.Index(8) == 0) hak_trim(0);
      }
      ended.fetch_add(1, std::memory_order_relaxed);
    });
  }
  Random random(hak_test::TestSeed(0x57a1));
  const std::vector<void *> blocks = AllocateMany(&random, 1000, 40000);
  unsigned rounds = 0;
  do {
    const Heap heap = Visit();
    for (void *p : blocks) {
      const auto at = heap.find(p);
      ASSERT_NE(at, heap.end());
      ASSERT_EQ(at->second.times, 1U);
      ASSERT_EQ(at->second.usable, hak_usable_size(p));
    }
    ++rounds;
  } while (ended.load(std::memory_order_relaxed) < threads.size());
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(Difference(blocks), "") << "after " << rounds << " rounds";
  FreeAll(blocks);
}

// In the child of a fork the caches of the lost threads still count.
TEST(HeapVisit, InTheChildOfAFork) {
  Random random(hak_test::TestSeed(0xf0));
  std::vector<void *> blocks;
  Worker worker;
  worker.Do([&] { blocks = FreeHalf(AllocateMany(&random, 2000, 40000), &random); });
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(Difference(blocks).empty() ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  FreeAll(blocks);
}

}  // namespace
