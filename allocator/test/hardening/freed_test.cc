// SPDX-License-Identifier: Apache-2.0
//
// HARDENED: the bytes in front of a freed block are checked like the block itself; blocks of size 0 cannot be touched;
// a canary detects a string's terminating zero, and ends a string without one.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

char *New(size_t size) { return static_cast<char *>(hak_malloc(size)); }
void Write(char *at) { *const_cast<volatile char *>(at) = static_cast<char>(*at ^ 0x15); }

// Expects that the allocator ends the process with one line that begins like this.
void ExpectCaught(const Outcome &outcome) {
  EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
  EXPECT_EQ(outcome.err.find("hakmem: "), 0u) << outcome;
}

// ---- In front of a freed block ------------------------------------------------------------------

enum class Then { kExit, kReuse, kFlushAndExit };

int WriteInFront(size_t size, size_t before, ptrdiff_t offset, Then then) {
  std::vector<char *> others;
  for (size_t i = 0; i < before; ++i) others.push_back(New(size));
  char *block = New(size);
  char *behind = New(size);
  hak_free(block);
  if (then == Then::kFlushAndExit) hak_thread_flush();
  Write(block + offset);
  // Enough for the block to leave the quarantine, which is random.
  for (int i = 0; then == Then::kReuse && i < 400; ++i) hak_free(New(size));
  if (then == Then::kReuse) _exit(0);  // Without the last check.
  hak_free(behind);
  return 0;
}

TEST(InFrontOfAFreedBlock, AWriteIsSeenAtTheEndAndAtReuse) {
  for (const size_t size : {size_t{4096}, size_t{6000}, size_t{16000}}) {
    for (const ptrdiff_t offset : {-1, -2, -8, -9, -16, 100}) {
      for (const Then then : {Then::kExit, Then::kReuse, Then::kFlushAndExit}) {
        SCOPED_TRACE(std::to_string(size) + " " + std::to_string(offset) + " " +
                     std::to_string(static_cast<int>(then)));
        ExpectCaught(RunForked([&] { return WriteInFront(size, 0, offset, then); }));
      }
    }
  }
}

TEST(InFrontOfAFreedBlock, AWriteIsSeenWhenTheThreadEnds) {
  for (const ptrdiff_t offset : {-1, -8, -16, 100}) {
    SCOPED_TRACE(offset);
    ExpectCaught(RunForked([&]() -> int {
      std::thread([&] { WriteInFront(6000, 0, offset, Then::kExit); }).join();
      _exit(0);  // Without the check at the process's end.
    }));
  }
}

// ---- In front of a freed block, behind a live one -----------------------------------------------

struct Pair {
  char *before = nullptr;
  char *block = nullptr;  // begins where the other one's stride ends
};

// Two adjacent blocks of the size.
Pair Neighbours(size_t size) {
  std::set<char *> blocks;
  for (int i = 0; i < 300; ++i) blocks.insert(New(size));
  for (auto block = std::next(blocks.begin()); block != blocks.end(); ++block) {
    char *const before = *std::prev(block);
    if (*block - before < static_cast<ptrdiff_t>(size + size / 4 + 64)) return {before, *block};
  }
  return {};
}

enum class Whose { kOwn, kAnotherThreads };

enum class What { kOneByte, kZeroes };

// The block before it stays live, and so does its thread.
int WriteBetween(size_t size, ptrdiff_t offset, What what, Whose whose, Then then) {
  Pair pair;
  std::promise<void> never;
  hak_free(New(1));  // Gives the thread a heap: without one it would cache nothing.
  if (whose == Whose::kOwn) {
    pair = Neighbours(size);
  } else {
    std::promise<Pair> made;
    std::thread([&] {
      made.set_value(Neighbours(size));
      never.get_future().wait();
    }).detach();
    pair = made.get_future().get();
  }
  if (pair.block == nullptr) return 2;
  hak_free(pair.block);
  if (what == What::kZeroes) {
    memset(pair.block + offset, 0, 8);
  } else {
    Write(pair.block + offset);
  }
  if (then == Then::kFlushAndExit) hak_thread_flush();
  bool again = false;
  for (int i = 0; then == Then::kReuse && i < 20000 && !again; ++i) {
    char *block = New(size);
    again = block == pair.block;
    hak_free(block);
  }
  if (then == Then::kReuse) _exit(again ? 0 : 3);  // Without the last check.
  exit(0);
}

// In classes with such large blocks, the canary of the block before covers these bytes.
TEST(InFrontOfAFreedBlock, AWriteBehindALiveBlockIsSeen) {
  for (const size_t size : {size_t{4096}, size_t{4100}, size_t{4592}, size_t{4599}, size_t{6000}, size_t{16000}}) {
    for (const ptrdiff_t offset : {-1, -2, -8, -9, -10, -12, -16}) {
      for (const Then then : {Then::kExit, Then::kReuse, Then::kFlushAndExit}) {
        SCOPED_TRACE(std::to_string(size) + " " + std::to_string(offset) + " " +
                     std::to_string(static_cast<int>(then)));
        ExpectCaught(RunForked([&] { return WriteBetween(size, offset, What::kOneByte, Whose::kOwn, then); }));
      }
    }
  }
}

TEST(InFrontOfAFreedBlock, ASmallLiveBlockHasACanaryToo) {
  for (const size_t size : {size_t{16}, size_t{48}, size_t{100}, size_t{112}, size_t{1000}}) {
    for (const ptrdiff_t offset : {-1, -2, -8, -9}) {
      SCOPED_TRACE(std::to_string(size) + " " + std::to_string(offset));
      ExpectCaught(RunForked([&] { return WriteBetween(size, offset, What::kOneByte, Whose::kOwn, Then::kExit); }));
    }
  }
}

TEST(InFrontOfAFreedBlock, ZeroesAreSeenAsOtherBytesAre) {
  for (const ptrdiff_t offset : {-8, -10, -16}) {
    SCOPED_TRACE(offset);
    ExpectCaught(RunForked([&] { return WriteBetween(4096, offset, What::kZeroes, Whose::kOwn, Then::kExit); }));
    ExpectCaught(RunForked([&] { return WriteBetween(4096, offset, What::kZeroes, Whose::kOwn, Then::kReuse); }));
  }
}

// The block returns to the other thread's slab, and that thread uses it again. Checked when this thread ends.
TEST(InFrontOfAFreedBlock, AnotherThreadsLiveBlockIsLookedAtToo) {
  for (const ptrdiff_t offset : {-1, -8, -16}) {
    SCOPED_TRACE(offset);
    ExpectCaught(
        RunForked([&] { return WriteBetween(4096, offset, What::kOneByte, Whose::kAnotherThreads, Then::kExit); }));
  }
}

// Stops the thread wherever it is.
void Linger(int) {
  for (volatile int i = 0; i < 20000; i = i + 1) continue;
}

// Threads change, free and take blocks that lie between each other's while these are checked. A signal stops them in
// the middle.
TEST(InFrontOfAFreedBlock, ANeighbourAtWorkIsNotTakenForDamaged) {
  const Outcome outcome = RunForked([] {
    constexpr int kThreads = 4;
    constexpr int kSlots = 64;
    static std::atomic<char *> slots[kSlots];
    signal(SIGUSR1, Linger);
    std::atomic<bool> done{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&done, t] {
        uint64_t random = static_cast<uint64_t>(t) + 1;
        while (!done) {
          random = random * 6364136223846793005U + 1442695040888963407U;
          const size_t size = 2050 + (random >> 40) % 180;
          char *block = New(size);
          if (block == nullptr) abort();
          block[0] = block[size - 1] = 1;
          for (int resizes = 0; resizes < 4; ++resizes) {
            const size_t other = 2050 + (random >> (20 + resizes)) % 180;
            block = static_cast<char *>(hak_realloc(block, other));
            block[other - 1] = 2;
          }
          hak_free(slots[(random >> 33) % kSlots].exchange(block));
        }
      });
    }
    std::vector<pthread_t> handles;
    for (std::thread &thread : threads) handles.push_back(thread.native_handle());
    std::thread stops([&] {
      for (size_t i = 0; !done; ++i) {
        pthread_kill(handles[i % handles.size()], SIGUSR1);
        usleep(20);
      }
    });
    usleep(700000);
    done = true;
    stops.join();
    for (std::thread &thread : threads) thread.join();
    return 0;
  });
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.err, "");
}

TEST(InFrontOfAFreedBlock, NothingIsSeenWhereNothingIsWrong) {
  const Outcome outcome = RunForked([] {
    std::vector<char *> blocks;
    for (int round = 0; round < 20; ++round) {
      for (size_t size = 0; size < 40000; size += 631) {
        blocks.push_back(New(size));
        memset(blocks.back(), 0x5A, size);
      }
      for (size_t i = static_cast<size_t>(round) % 2; i < blocks.size(); i += 2) {
        hak_free(blocks[i]);
        blocks[i] = New(i * 7);
      }
      hak_thread_flush();
    }
    for (size_t i = 0; i < blocks.size(); i += 3) hak_free(blocks[i]);
    return hak_heap_verify() ? 0 : 1;
  });
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.err, "");
}

// ---- In pages that went back -----------------------------------------------------------------------

// Blocks whose pages went back, because nearly all blocks of their slabs were freed.
std::vector<char *> FreedAndReturned(size_t size) {
  std::vector<char *> blocks;
  for (int i = 0; i < 20000; ++i) blocks.push_back(New(size));
  std::vector<char *> freed;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % (40000 / size) == 0) continue;
    hak_free(blocks[i]);
    freed.push_back(blocks[i]);
  }
  hak_trim(0);
  return freed;
}

TEST(PagesThatWentBack, ADoubleFreeIsNamed) {
  for (const size_t size : {size_t{40}, size_t{500}, size_t{3000}}) {
    for (const size_t at : {size_t{1000}, size_t{7001}, size_t{15002}}) {
      const Outcome outcome = RunForked([&] {
        const std::vector<char *> freed = FreedAndReturned(size);
        hak_stats stats = {};
        stats.version = HAK_STATS_VERSION;
        if (hak_stats_get(&stats) != 0 || stats.purged_bytes < 20000 * size / 4) return 3;
        hak_free(freed[at]);
        return 0;
      });
      ExpectCaught(outcome);
      EXPECT_EQ(outcome.err.find("hakmem: double free: "), 0u) << size << ' ' << outcome;
    }
  }
}

TEST(PagesThatWentBack, TheirBlocksAreUsedAgain) {
  const Outcome outcome = RunForked([] {
    for (int round = 0; round < 3; ++round) {
      for (const size_t size : {size_t{40}, size_t{500}, size_t{3000}}) {
        FreedAndReturned(size);
        std::vector<char *> blocks;
        for (int i = 0; i < 3000; ++i) blocks.push_back(static_cast<char *>(memset(New(size), i, size)));
        if (!hak_heap_verify()) return 1;
        for (char *block : blocks) hak_free(block);
      }
    }
    return 0;
  });
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.err, "");
}

// ---- Size 0 -------------------------------------------------------------------------------------

std::vector<void *> EmptyOfEachKind() {
  void *aligned = nullptr;
  EXPECT_EQ(hak_posix_memalign(&aligned, 64, 0), 0);
  void *shrunk = hak_realloc(hak_realloc(nullptr, 0), 0);
  EXPECT_EQ(shrunk, nullptr);
  return {hak_malloc(0),           hak_calloc(0, 8),           hak_calloc(8, 0),    hak_zalloc(0),
          hak_realloc(nullptr, 0), hak_aligned_alloc(4096, 0), hak_memalign(32, 0), aligned};
}

TEST(SizeZero, NoByteCanBeTouched) {
  std::set<void *> seen;
  for (void *block : EmptyOfEachKind()) {
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(seen.insert(block).second) << "two blocks at one address";
    EXPECT_EQ(hak_usable_size(block), 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 16, 0u);
    EXPECT_FALSE(hak_unit::IsReadable(block));
    EXPECT_FALSE(hak_unit::IsReadable(static_cast<char *>(block) - 1));
    EXPECT_EQ(RunForked([&] {
                Write(static_cast<char *>(block));
                return 0;
              }).signal,
              SIGSEGV);
  }
  for (void *block : seen) hak_free(block);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(SizeZero, BlocksGrowAndShrink) {
  char *block = static_cast<char *>(hak_realloc(hak_malloc(0), 100));
  ASSERT_NE(block, nullptr);
  memset(block, 1, 100);
  EXPECT_EQ(hak_realloc(block, 0), nullptr);
  block = New(0);
  EXPECT_EQ(hak_realloc_in_place(block, 0), block);
  EXPECT_EQ(hak_realloc_in_place(block, 1), nullptr);
  hak_free_sized(block, 0);
}

TEST(SizeZero, MisuseIsFound) {
  const auto line = [](const Outcome &outcome) { return outcome.err.substr(0, outcome.err.find(": 0x")); };
  Outcome outcome = RunForked([] {
    void *block = hak_malloc(0);
    hak_free(block);
    hak_free(block);
    return 0;
  });
  EXPECT_EQ(line(outcome), "hakmem: double free");
  outcome = RunForked([] {
    hak_free(New(0) + 16 * 5000);
    return 0;
  });
  EXPECT_EQ(line(outcome), "hakmem: invalid free");
  outcome = RunForked([] {
    hak_free(New(0) + 8);
    return 0;
  });
  EXPECT_EQ(line(outcome), "hakmem: invalid free");
  outcome = RunForked([] {
    void *block = hak_malloc(0);
    hak_free(block);
    return hak_realloc(block, 10) == nullptr ? 1 : 2;
  });
  EXPECT_EQ(line(outcome), "hakmem: invalid pointer");
  outcome = RunForked([] {
    hak_free_sized(hak_malloc(0), 16);
    return 0;
  });
  EXPECT_EQ(line(outcome), "hakmem: free with a wrong size");
}

TEST(SizeZero, ManyMoreThanTheRangeHas) {
  hak_stats before = {};
  before.version = HAK_STATS_VERSION;
  hak_stats_get(&before);
  std::vector<void *> blocks;
  std::set<void *> seen;
  for (size_t i = 0; i < (size_t{1} << 20) + 20000; ++i) {
    blocks.push_back(hak_malloc(0));
    ASSERT_NE(blocks.back(), nullptr) << i;
    ASSERT_EQ(hak_usable_size(blocks.back()), 0u);
  }
  for (size_t i = 0; i < blocks.size(); i += 97) EXPECT_TRUE(seen.insert(blocks[i]).second);
  hak_stats after = {};
  after.version = HAK_STATS_VERSION;
  hak_stats_get(&after);
  EXPECT_EQ(after.live_blocks, before.live_blocks + blocks.size());
  for (void *block : blocks) hak_free(block);
  hak_stats_get(&after);
  EXPECT_EQ(after.live_blocks, before.live_blocks);
}

// ---- Canaries and strings -----------------------------------------------------------------------

TEST(Strings, OneThatFillsItsBlockEndsBehindIt) {
  for (size_t size = 1; size < 3000; size += 1 + size / 8) {
    char *block = New(size);
    memset(block, 'x', size);
    EXPECT_EQ(strlen(block), size + 1) << "the canary's first byte is no zero, its second is";
    hak_free(block);
  }
}

TEST(Strings, OneZeroTooMuchIsSeen) {
  for (const size_t size : {size_t{1}, size_t{8}, size_t{23}, size_t{24}, size_t{25}, size_t{40}, size_t{1000}}) {
    SCOPED_TRACE(size);
    ExpectCaught(RunForked([&] {
      char *block = New(size);
      block[size] = 0;
      hak_free(block);
      return 0;
    }));
  }
}

}  // namespace
}  // namespace hak_test
