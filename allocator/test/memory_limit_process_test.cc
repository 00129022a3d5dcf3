// SPDX-License-Identifier: Apache-2.0
//
// HAKMEM_MEMORY_LIMIT_MB in a process: a request beyond it returns NULL with ENOMEM, nothing else goes wrong, and freed
// memory can be taken again.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;
// More than a sanitizer's runtime needs before the first request.
constexpr uint64_t kLimit = (kSlowBuild ? 128 : 64) * kMib;
// Threads that grow at once may each exceed the limit by their request, and memory grows by whole slabs and runs.
constexpr uint64_t kSlack = 4 * kMib;
constexpr int kErrnoBefore = 4242;

void Print(const char *name, uint64_t value) { printf("%s=%llu\n", name, static_cast<unsigned long long>(value)); }

// ---- In the child -------------------------------------------------------------------------------

// Blocks with a tag at both ends.
class Hoard {
 public:
  explicit Hoard(uint64_t seed) : random_(seed) {}

  // Takes blocks of up to `most` bytes until a request fails or they have `bytes` bytes. False: something was wrong.
  bool Fill(size_t most, uint64_t bytes) {
    full_ = false;
    for (uint64_t taken = 0; taken < bytes;) {
      const size_t size = std::max<size_t>(16, 1 + random_.Index(most));
      errno = kErrnoBefore;
      auto *p = static_cast<unsigned char *>(hak_malloc(size));
      if (p == nullptr) {
        full_ = true;
        return errno == ENOMEM;
      }
      if (errno != kErrnoBefore) return false;
      const unsigned char tag = static_cast<unsigned char>(random_.Next());
      p[0] = p[size - 1] = tag;
      blocks_.push_back({p, size, tag});
      taken += size;
    }
    return true;
  }
  bool full() const { return full_; }
  size_t size() const { return blocks_.size(); }

  // Frees one block in `of`. False: a block was damaged.
  bool FreeOneOf(size_t of) {
    bool good = true;
    size_t kept = 0;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const Block &block = blocks_[i];
      if (i % of != 0) {
        blocks_[kept++] = block;
        continue;
      }
      good = good && block.p[0] == block.tag && block.p[block.size - 1] == block.tag;
      hak_free(block.p);
    }
    blocks_.resize(kept);
    return good;
  }

 private:
  struct Block {
    unsigned char *p;
    size_t size;
    unsigned char tag;
  };
  Random random_;
  std::vector<Block> blocks_;
  bool full_ = false;
};

void PrintEnd() {
  const hak_stats stats = Stats();
  Print("purges", stats.limit_purges);
  Print("refusals", stats.limit_refusals);
  Print("live", stats.live_blocks);
  Print("verifies", hak_heap_verify());
}

// One thread takes blocks of up to `most` bytes up to the limit, frees half of them, and fills up again.
int Alone(size_t most) {
  Hoard hoard(1);
  bool good = hoard.Fill(most, 2 * kLimit);
  Print("full", hoard.full());
  Print("committed", Stats().committed_bytes);
  Print("blocks", hoard.size());
  good = good && hak_heap_verify();
  // These requests may fail, but nothing else may happen.
  for (const size_t size : {size_t{1} << 20, size_t{1} << 22, size_t{1} << 26}) {
    errno = kErrnoBefore;
    void *p = hak_malloc(size);
    good = good && (p != nullptr || errno == ENOMEM);
    hak_free(p);
  }
  good = good && hoard.FreeOneOf(2);
  const size_t half = hoard.size();
  good = good && hoard.Fill(most, 2 * kLimit);
  Print("again", hoard.size() - half);
  Print("committed_again", Stats().committed_bytes);
  good = good && hoard.FreeOneOf(1);
  good = good && hoard.Fill(most, kLimit / 2);
  Print("after_all", !hoard.full());
  good = good && hoard.FreeOneOf(1);
  Print("good", good);
  PrintEnd();
  return 0;
}

// The same by several threads at once, with small and large blocks. The committed bytes are read when all threads are
// done, because they are not exact while others are inside the allocator.
int Together() {
  constexpr size_t kThreads = 4;
  std::atomic<size_t> good{0};
  std::atomic<size_t> full{0};
  uint64_t most_committed = 0;
  pthread_barrier_t all;
  pthread_barrier_init(&all, nullptr, kThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Hoard hoard(t);
      bool mine = true;
      for (size_t round = 0; round < 6; ++round) {
        mine = hoard.Fill(t % 2 == 0 ? 2000 : 400000, kLimit) && mine;
        full += hoard.full();
        pthread_barrier_wait(&all);
        if (t == 0) most_committed = std::max(most_committed, Stats().committed_bytes);
        mine = hak_heap_verify() && mine;
        pthread_barrier_wait(&all);
        mine = hoard.FreeOneOf(1 + round % 3) && mine;
      }
      mine = hoard.FreeOneOf(1) && mine;
      good += mine;
    });
  }
  for (std::thread &thread : threads) thread.join();
  pthread_barrier_destroy(&all);
  Print("good", good == kThreads);
  Print("full", full);
  Print("committed", most_committed);
  Hoard hoard(99);
  Print("after_all", hoard.Fill(1000, kLimit / 2) && !hoard.full());
  hoard.FreeOneOf(1);
  PrintEnd();
  return 0;
}

// Pages that were returned from slabs in use make room for other memory. When the slabs are used again, they count
// again.
int AfterPagesWentBack() {
  std::vector<void *> kept;
  for (;;) {
    void *p = hak_malloc(400);
    if (p == nullptr) break;
    kept.push_back(p);
  }
  size_t left = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (i % 100 == 0) {
      kept[left++] = kept[i];
    } else {
      hak_free(kept[i]);
    }
  }
  kept.resize(left);
  hak_trim(0);
  Print("committed_trimmed", Stats().committed_bytes);
  Print("purged", Stats().purged_bytes);
  for (const size_t size : {size_t{500000}, size_t{400}}) {
    for (;;) {
      void *p = hak_malloc(size);
      if (p == nullptr) break;
      kept.push_back(p);
    }
  }
  Print("committed", Stats().committed_bytes);
  for (void *p : kept) hak_free(p);
  PrintEnd();
  return 0;
}

// Threads that have one block of many sizes each. A slab for each of them would exceed the limit: they must share. They
// allocate in turn: if all began at once, slabs of the first sizes could fill the memory before any is shared, and a
// slab with a live block cannot serve another size.
int Apart() {
  constexpr size_t kThreads = 60;
  constexpr size_t kSizes = 40;
  std::mutex turn;
  size_t failed = 0;
  pthread_barrier_t all;
  pthread_barrier_init(&all, nullptr, kThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      void *blocks[kSizes];
      std::unique_lock<std::mutex> mine(turn);
      for (size_t i = 0; i < kSizes; ++i) {
        // 16 to 256 bytes by 16, and then eight sizes in each power of two.
        const size_t size = i < 16 ? 16 * (i + 1) : (size_t{256} << (i - 16) / 8) * (9 + (i - 16) % 8) / 8;
        blocks[i] = hak_malloc(size);
        if (blocks[i] == nullptr) {
          failed++;
        } else {
          memset(blocks[i], 1, size);
        }
      }
      mine.unlock();
      pthread_barrier_wait(&all);
      for (void *p : blocks) hak_free(p);
    });
  }
  for (std::thread &thread : threads) thread.join();
  pthread_barrier_destroy(&all);
  Print("failed", failed);
  PrintEnd();
  return 0;
}

// A block of three quarters of the limit grows by an eighth of the limit: there is no room for a copy.
int Grow() {
  constexpr size_t kBefore = kLimit / 4 * 3;
  constexpr size_t kAfter = kBefore + kLimit / 8;
  auto *block = static_cast<unsigned char *>(hak_malloc(kBefore));
  if (block == nullptr) return 2;
  memset(block, 5, kBefore);
  auto *grown = static_cast<unsigned char *>(hak_realloc(block, kAfter));
  Print("grown", grown != nullptr);
  if (grown != nullptr) block = grown;
  Print("kept", static_cast<uint64_t>(std::count(block, block + kBefore, 5)) == kBefore);
  if (grown != nullptr) memset(block, 5, kAfter);
  Print("committed", Stats().committed_bytes);
  errno = kErrnoBefore;
  Print("refused", hak_realloc(block, kLimit + 1) == nullptr && errno == ENOMEM);
  Print("in_place_refused", hak_realloc_in_place(block, kLimit + 1) == nullptr);
  hak_free(block);
  PrintEnd();
  return 0;
}

// ---- In the test --------------------------------------------------------------------------------

class MemoryLimit : public testing::Test {
 protected:
  void SetUp() override {
    if (!CanRunSelf()) GTEST_SKIP() << "this emulator cannot start itself";
    if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: there is no limit";
  }
  static Outcome Run(const std::vector<std::string> &arguments, uint64_t limit = kLimit) {
    Outcome outcome = RunSelf(arguments, {"HAKMEM_MEMORY_LIMIT_MB=" + std::to_string(limit / kMib)}, 60);
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    EXPECT_EQ(outcome.err, "");
    return outcome;
  }
  static void ExpectKept(const Outcome &outcome) {
    EXPECT_EQ(NumberOf(outcome.out, "good"), 1U) << outcome;
    EXPECT_GE(NumberOf(outcome.out, "full"), 1U) << outcome;
    EXPECT_LE(NumberOf(outcome.out, "committed"), kLimit + kSlack) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "after_all"), 1U) << outcome;
    EXPECT_GT(NumberOf(outcome.out, "purges"), 0U) << outcome;
    EXPECT_GT(NumberOf(outcome.out, "refusals"), 0U) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "live"), 0U) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
  }
};

TEST_F(MemoryLimit, IsKeptByBlocksOfEverySize) {
  for (const uint64_t most : {400U, 30000U, 500000U, 5000000U}) {
    SCOPED_TRACE(most);
    const Outcome outcome = Run({"--child=alone", std::to_string(most)});
    ExpectKept(outcome);
    EXPECT_GE(NumberOf(outcome.out, "committed"), kLimit / 2) << "refused too early";
    EXPECT_GE(NumberOf(outcome.out, "again"), NumberOf(outcome.out, "blocks") / 4) << outcome;
    EXPECT_LE(NumberOf(outcome.out, "committed_again"), kLimit + kSlack) << outcome;
  }
}

TEST_F(MemoryLimit, IsKeptByThreads) { ExpectKept(Run({"--child=together"})); }

TEST_F(MemoryLimit, ThreadsShareSlabsBeforeARequestFails) {
  const Outcome outcome = Run({"--child=apart"});
  EXPECT_EQ(NumberOf(outcome.out, "failed"), 0U) << outcome;
  EXPECT_GT(NumberOf(outcome.out, "purges"), 0U) << outcome << "the limit was never near";
  EXPECT_EQ(NumberOf(outcome.out, "refusals"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "live"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
}

TEST_F(MemoryLimit, HoldsAfterPagesWentBack) {
  const Outcome outcome = Run({"--child=pages"});
  EXPECT_LE(NumberOf(outcome.out, "committed"), kLimit + kSlack) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "live"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
}

TEST_F(MemoryLimit, PagesThatWentBackAreNotCommitted) {
  const Outcome outcome = Run({"--child=pages"});
  EXPECT_GT(NumberOf(outcome.out, "purged"), 0U) << outcome;
  EXPECT_LE(NumberOf(outcome.out, "committed_trimmed") + NumberOf(outcome.out, "purged"), kLimit + kSlack) << outcome;
}

#if defined(HAK_PROFILE_STANDARD)
// OBSERVE and HARDENED copy each large block that grows.
TEST_F(MemoryLimit, ABlockGrowsWhereThereIsNoRoomForACopy) {
  const Outcome outcome = Run({"--child=grow"});
  EXPECT_EQ(NumberOf(outcome.out, "grown"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "kept"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "refused"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "in_place_refused"), 1U) << outcome;
  EXPECT_LE(NumberOf(outcome.out, "committed"), kLimit) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "live"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
}
#endif

TEST_F(MemoryLimit, IsNoneByDefault) {
  const Outcome outcome = Run({"--child=alone", "30000"}, 0);
  EXPECT_EQ(NumberOf(outcome.out, "good"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "full"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "purges"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "refusals"), 0U) << outcome;
}

TEST_F(MemoryLimit, BelowWhatIsInUseIsNotAccepted) {
  const Outcome outcome = RunSelf({"--child=alone", "30000"}, {"HAKMEM_MEMORY_LIMIT_MB=1"}, 60);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.err.rfind("hakmem: HAKMEM_MEMORY_LIMIT_MB=\"1\" is not accepted", 0), 0U) << outcome;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1);
  EXPECT_EQ(NumberOf(outcome.out, "refusals"), 0U) << outcome;
}

TEST(MemoryLimitInFast, IsNotThere) {
  if (!IsFastBuild()) GTEST_SKIP() << "for FAST builds";
  EXPECT_EQ(hak_pressure_set(nullptr, nullptr), ENOTSUP);
  const Outcome outcome = RunSelf({"--child=alone", "30000"}, {"HAKMEM_MEMORY_LIMIT_MB=8"}, 60);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(NumberOf(outcome.out, "full"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "refusals"), 0U) << outcome;
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--child=alone") == 0) return hak_test::Alone(strtoull(argv[2], nullptr, 10));
  if (argc == 2 && strcmp(argv[1], "--child=together") == 0) return hak_test::Together();
  if (argc == 2 && strcmp(argv[1], "--child=apart") == 0) return hak_test::Apart();
  if (argc == 2 && strcmp(argv[1], "--child=pages") == 0) return hak_test::AfterPagesWentBack();
  if (argc == 2 && strcmp(argv[1], "--child=grow") == 0) return hak_test::Grow();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
