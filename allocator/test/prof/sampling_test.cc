// SPDX-License-Identifier: Apache-2.0
//
// The sampler through the public interface: which blocks it shows, with which stacks, and that its estimates are right.
// A bound on a random result is seven standard deviations wide: it is missed by chance once in 10^11 runs.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/test_random.h"

namespace {

// Whether this is FAST, which has no sampling and must say so.
bool IsFast() {
  const bool fast = strstr(hak_version(), " fast ") != nullptr;
  if (fast) {
    EXPECT_EQ(hak_prof_start(), ENOTSUP);
  }
  return fast;
}

constexpr double kWide = 7;

// Sampling with this mean, in KiB, for as long as it lives; 0: every block.
class Sampling {
 public:
  explicit Sampling(int mean_kb) {
    EXPECT_EQ(hak_config_set("HAKMEM_PROF_SAMPLE_KB", std::to_string(mean_kb).c_str()), 0);
    EXPECT_EQ(hak_prof_start(), 0);
  }
  ~Sampling() { EXPECT_EQ(hak_prof_stop(), 0); }
  Sampling(const Sampling &) = delete;
  Sampling &operator=(const Sampling &) = delete;
};

struct Seen {
  const void *address;
  hak_prof_sample sample = {};
  int times = 0;
};

int See(const hak_prof_sample *sample, void *argument) {
  Seen *seen = static_cast<Seen *>(argument);
  if (sample->address == seen->address) {
    seen->sample = *sample;
    seen->times++;
  }
  return 0;
}

// How often a block is among the live samples, and what it is there.
Seen Find(const void *block) {
  Seen seen;
  seen.address = block;
  EXPECT_EQ(hak_prof_visit_live(See, &seen), 0);
  return seen;
}

void ExpectSampled(const void *block, size_t size) {
  const Seen seen = Find(block);
  ASSERT_EQ(seen.times, 1) << size;
  EXPECT_EQ(seen.sample.size, size);
  EXPECT_EQ(seen.sample.weight_objects, 1);
  EXPECT_EQ(seen.sample.weight_bytes, static_cast<double>(size));
  EXPECT_GT(seen.sample.frames, 2u);
  EXPECT_EQ(seen.sample.thread, static_cast<unsigned>(gettid()));
  EXPECT_NE(seen.sample.when_ns, 0u);
}
void ExpectNotSampled(const void *block) { EXPECT_EQ(Find(block).times, 0); }

// ---- Which blocks -------------------------------------------------------------------------------

const size_t kSizes[] = {1, 16, 100, 1024, 4000, 8192, 30000, 32768, 40000, 300000, 2u << 20};

TEST(Sampling, EveryKindOfAllocationAndFree) {
  if (IsFast()) return;
  const Sampling sampling(0);
  for (const size_t size : kSizes) {
    void *const block = hak_malloc(size);
    ExpectSampled(block, size);
    EXPECT_GE(hak_usable_size(block), size);
    EXPECT_TRUE(hak_owns(block));
    memset(block, 1, size);
    hak_free(block);
    ExpectNotSampled(block);

    void *const uncached = hak_malloc_nocache(size);
    ExpectSampled(uncached, size);
    hak_free_nocache(uncached);
    ExpectNotSampled(uncached);

    unsigned char *const zeroed = static_cast<unsigned char *>(hak_calloc(1, size));
    ExpectSampled(zeroed, size);
    for (size_t i = 0; i < size; i++) ASSERT_EQ(zeroed[i], 0);
    hak_free_sized(zeroed, size);
    ExpectNotSampled(zeroed);

    for (const size_t align : {32u, 256u, 4096u, 65536u}) {
      void *const aligned = hak_aligned_alloc(align, size);
      ExpectSampled(aligned, size);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % align, 0u);
      hak_free_aligned_sized(aligned, align, size);
      ExpectNotSampled(aligned);
      unsigned char *const both = static_cast<unsigned char *>(hak_aligned_calloc(align, 1, size));
      ExpectSampled(both, size);
      for (size_t i = 0; i < size; i++) ASSERT_EQ(both[i], 0);
      hak_free(both);
      ExpectNotSampled(both);
    }
  }
  EXPECT_TRUE(hak_heap_verify());
}

TEST(Sampling, ReallocFreesTheOldAndAllocatesTheNew) {
  if (IsFast()) return;
  const Sampling sampling(0);
  for (const size_t from : kSizes) {
    for (const size_t to : kSizes) {
      char *block = static_cast<char *>(hak_malloc(from));
      memset(block, 'a', from);
      char *const moved = static_cast<char *>(hak_realloc(block, to));
      ASSERT_NE(moved, nullptr);
      for (size_t i = 0; i < std::min(from, to); i++) ASSERT_EQ(moved[i], 'a') << from << " " << to;
      if (moved != block) {
        ExpectNotSampled(block);
        ExpectSampled(moved, to);
      } else {
        EXPECT_EQ(Find(moved).times, 1) << from << " " << to;
      }
      hak_free(moved);
      ExpectNotSampled(moved);
    }
  }
  EXPECT_TRUE(hak_heap_verify());
}

TEST(Sampling, ReallocInPlace) {
  if (IsFast()) return;
  const Sampling sampling(0);
  void *const block = hak_malloc(1u << 20);
  if (hak_realloc_in_place(block, 600000) == block) ExpectSampled(block, 600000);
  EXPECT_EQ(Find(block).times, 1);
  // So large that there is no room, and it stays what it is.
  EXPECT_EQ(hak_realloc_in_place(block, size_t{1} << 45), nullptr);
  EXPECT_EQ(Find(block).times, 1);
  hak_free(block);
  ExpectNotSampled(block);
}

// Resizing is a free and an allocation: the free of a sampled block is seen also where the allocation is not sampled.
TEST(Sampling, ABlockThatIsResizedWhileItIsOffIsForgotten) {
  if (IsFast()) return;
  void *block = nullptr;
  {
    const Sampling sampling(0);
    block = hak_malloc(1u << 20);
    ExpectSampled(block, 1u << 20);
  }
  ASSERT_EQ(hak_realloc_in_place(block, 600000), block);
  ExpectNotSampled(block);
  hak_free(block);
  EXPECT_TRUE(hak_heap_verify());
}

TEST(Sampling, FreesAreSeenWhileItIsOff) {
  if (IsFast()) return;
  std::vector<void *> blocks;
  {
    const Sampling sampling(0);
    for (const size_t size : kSizes) blocks.push_back(hak_malloc(size));
  }
  for (void *block : blocks) EXPECT_EQ(Find(block).times, 1);
  for (void *block : blocks) hak_free(block);
  for (void *block : blocks) ExpectNotSampled(block);
  void *const after = hak_malloc(100);
  ExpectNotSampled(after);
  hak_free(after);
}

TEST(Sampling, OtherThreadsFree) {
  if (IsFast()) return;
  const Sampling sampling(0);
  std::vector<void *> blocks;
  for (const size_t size : kSizes) blocks.push_back(hak_malloc(size));
  std::thread([&] {
    for (void *block : blocks) hak_free(block);
  }).join();
  for (void *block : blocks) ExpectNotSampled(block);
}

// A thread that runs since before is counted from its next frees on: a loop of malloc and free of one size never calls
// the slow paths otherwise.
TEST(Sampling, BeginsInThreadsThatRunAlready) {
  if (IsFast()) return;
  std::atomic<int> phase{0};
  std::atomic<bool> seen{false};
  void *volatile keep = nullptr;
  std::thread worker([&] {
    while (phase.load() != 2) {
      void *const block = hak_malloc(64);
      keep = block;
      if (phase.load() == 1 && Find(block).times == 1) seen = true;
      hak_free(block);
      if (phase.load() == 0) phase = 3;  // It runs.
      while (phase.load() == 3) sched_yield();
      if (seen.load()) break;
    }
  });
  while (phase.load() != 3) sched_yield();
  {
    const Sampling sampling(0);
    phase = 1;
    worker.join();
  }
  EXPECT_TRUE(seen.load());
}

TEST(Sampling, BlocksOfEndedThreadsStay) {
  if (IsFast()) return;
  const Sampling sampling(0);
  void *block = nullptr;
  std::thread([&] { block = hak_malloc(500); }).join();
  EXPECT_EQ(Find(block).times, 1);
  hak_free(block);
  ExpectNotSampled(block);
}

// ThreadSanitizer ends its own data of the thread in the last round. Instrumented code cannot run after that.
constexpr int kRounds = PTHREAD_DESTRUCTOR_ITERATIONS - (HAK_TEST_TSAN ? 1 : 0);

// Allocates in each round of a thread's destructors. From the third on the thread has no heap.
struct LateBlocks {
  pthread_key_t key;
  int rounds = 0;
  std::vector<void *> blocks;
};

void AllocateLate(void *argument) {
  LateBlocks *const late = static_cast<LateBlocks *>(argument);
  for (const size_t size : {500u, 100000u}) late->blocks.push_back(hak_malloc(size));
  if (++late->rounds < kRounds) pthread_setspecific(late->key, late);
}

TEST(Sampling, AThreadWithoutAHeapIsNotCounted) {
  if (IsFast()) return;
  const Sampling sampling(0);
  LateBlocks late;
  late.blocks.reserve(2 * kRounds);
  ASSERT_EQ(pthread_key_create(&late.key, AllocateLate), 0);
  std::thread([&] {
    hak_free(hak_malloc(1));
    ASSERT_EQ(pthread_setspecific(late.key, &late), 0);
  }).join();
  pthread_key_delete(late.key);
  ASSERT_GT(late.blocks.size(), 2u);
  EXPECT_EQ(Find(late.blocks.front()).times, 1);
  ExpectNotSampled(late.blocks.back());
  for (void *const block : late.blocks) {
    EXPECT_NE(block, nullptr);
    hak_free(block);
    ExpectNotSampled(block);
  }
}

TEST(Sampling, ErrnoIsPreserved) {
  if (IsFast()) return;
  const Sampling sampling(0);
  errno = 77;
  void *block = hak_malloc(10);
  block = hak_realloc(block, 100000);
  block = hak_realloc(block, 300000);
  hak_free(block);
  EXPECT_EQ(errno, 77);
}

TEST(Sampling, HugeRequestsFail) {
  if (IsFast()) return;
  const Sampling sampling(0);
  volatile size_t huge = PTRDIFF_MAX;
  EXPECT_EQ(hak_malloc(huge), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(hak_calloc(1, huge), nullptr);
  void *const block = hak_malloc(1u << 20);
  EXPECT_EQ(hak_realloc(block, huge), nullptr);
  ExpectSampled(block, 1u << 20);
  hak_free(block);
}

// ---- Visits -------------------------------------------------------------------------------------

int StopAtThird(const hak_prof_sample *, void *argument) { return ++*static_cast<int *>(argument) == 3 ? 42 : 0; }

int AllocateWithin(const hak_prof_sample *sample, void *argument) {
  void *const block = hak_malloc(sample->size + 1);
  int nested = 0;
  EXPECT_EQ(hak_prof_visit_live(StopAtThird, &nested), 42);
  hak_free(block);
  // A visit that sees what it allocates itself would not end.
  return ++*static_cast<int *>(argument) == 1000 ? 1 : 0;
}

TEST(SamplingVisits, EndWhereTheVisitorSays) {
  if (IsFast()) return;
  const Sampling sampling(0);
  std::vector<void *> blocks;
  for (int i = 0; i < 200; i++) blocks.push_back(hak_malloc(50));
  int calls = 0;
  EXPECT_EQ(hak_prof_visit_live(StopAtThird, &calls), 42);
  EXPECT_EQ(calls, 3);
  calls = 0;
  EXPECT_EQ(hak_prof_visit_live(AllocateWithin, &calls), 0);
  EXPECT_GE(calls, 200);
  for (void *block : blocks) hak_free(block);
  EXPECT_EQ(hak_prof_visit_live(nullptr, nullptr), EINVAL);
  EXPECT_EQ(hak_prof_visit_stacks(nullptr, nullptr), EINVAL);
}

// ---- Stacks -------------------------------------------------------------------------------------

// Each function allocates at one place, and the address behind the call of it tells the stack.
struct Totals {
  const void *within;  // a return address of the stack
  hak_prof_stack sum = {};
  int stacks = 0;
};

int AddStack(const hak_prof_stack *stack, void *argument) {
  Totals *totals = static_cast<Totals *>(argument);
  for (uint32_t i = 0; i < stack->frames; i++) {
    if (stack->frame[i] != totals->within) continue;
    totals->sum.alloc_objects += stack->alloc_objects;
    totals->sum.alloc_bytes += stack->alloc_bytes;
    totals->sum.inuse_objects += stack->inuse_objects;
    totals->sum.inuse_bytes += stack->inuse_bytes;
    totals->stacks++;
    break;
  }
  return 0;
}

Totals TotalsOf(const void *within) {
  Totals totals;
  totals.within = within;
  EXPECT_EQ(hak_prof_visit_stacks(AddStack, &totals), 0);
  return totals;
}

// Calls `work`, and returns the address behind the call of this function, which is on the stack then.
__attribute__((noinline)) const void *Behind(const std::function<void()> &work) {
  work();
  return __builtin_return_address(0);
}

TEST(SamplingStacks, CountWhatIsAllocatedAndLive) {
  if (IsFast()) return;
  const Sampling sampling(0);
  std::vector<void *> blocks;
  const void *const within = Behind([&] {
    for (int i = 0; i < 100; i++) {
      blocks.push_back(nullptr);
      blocks.back() = hak_malloc(1000);
    }
  });
  for (int i = 0; i < 40; i++) hak_free(blocks[static_cast<size_t>(i)]);
  const hak_prof_stack some = TotalsOf(within).sum;
  EXPECT_EQ(some.alloc_objects, 100);
  EXPECT_EQ(some.alloc_bytes, 100000);
  EXPECT_EQ(some.inuse_objects, 60);
  EXPECT_EQ(some.inuse_bytes, 60000);
  for (size_t i = 40; i < 100; i++) hak_free(blocks[i]);
  const hak_prof_stack none = TotalsOf(within).sum;
  EXPECT_EQ(none.alloc_objects, 100);
  EXPECT_EQ(none.inuse_objects, 0);
  EXPECT_EQ(none.inuse_bytes, 0);
}

__attribute__((noinline)) void *Deep(int depth) {
  if (depth == 0) return hak_malloc(77);
  void *block = Deep(depth - 1);
  static_cast<volatile char *>(block)[0] = 1;
  return block;
}

TEST(SamplingStacks, OfEveryDepth) {
  if (IsFast()) return;
  const Sampling sampling(0);
  uint32_t least = 0;
  for (const uint32_t depth : {0u, 1u, 2u, 20u, 60u}) {
    void *const block = Deep(static_cast<int>(depth));
    const Seen seen = Find(block);
    ASSERT_EQ(seen.times, 1);
    if (depth == 0) least = seen.sample.frames;
    EXPECT_EQ(seen.sample.frames, least + depth);
    hak_free(block);
  }
  void *const block = Deep(500);
  EXPECT_EQ(Find(block).sample.frames, 128u);
  hak_free(block);
}

// ---- Estimates ----------------------------------------------------------------------------------

// Does the work `count` times. All calls go through a variable, so that there is one copy of this function, and the
// address that it returns, which is on the stack of all that the work allocates, is the same for all.
const void *RepeatHere(int count, const std::function<void(size_t)> &work) {
  return Behind([&] {
    for (int i = 0; i < count; i++) work(static_cast<size_t>(i));
  });
}
const void *(*volatile Repeat)(int count, const std::function<void(size_t)> &work) = RepeatHere;

// Allocates `count` blocks of the size, every second of which is freed at once, and compares the estimates. The
// variance of a sum of weights is count * (1 - p) / p, p being the chance of a sample.
// `then`, if not 0: each block is resized to so many bytes, for which it stays where it is. OBSERVE and HARDENED count
// that as an allocation, and know the new size.
void ExpectEstimate(size_t size, int count, int mean_kb, size_t then = 0) {
  std::vector<void *> kept(static_cast<size_t>(count), nullptr);
  const Sampling sampling(mean_kb);
  const std::function<void(size_t)> work = [&](size_t i) {
    kept[i] = hak_malloc(size);
    if (then != 0) kept[i] = hak_realloc(kept[i], then);
  };
  const hak_prof_stack before = TotalsOf(Repeat(0, work)).sum;
  const void *const within = Repeat(count, work);
  for (int i = 0; i < count; i += 2) hak_free(kept[static_cast<size_t>(i)]);
  const hak_prof_stack after = TotalsOf(within).sum;
  const double chance = -std::expm1(-static_cast<double>(size) / (mean_kb * 1024.0));
  const auto bound = [&](double n) { return kWide * std::sqrt(n * (1 - chance) / chance) + 4 / chance; };
  const double bytes = static_cast<double>(size);
  const double live = count / 2;
  if (then == 0) {
    EXPECT_NEAR(after.alloc_objects - before.alloc_objects, count, bound(count)) << size;
    EXPECT_NEAR(after.alloc_bytes - before.alloc_bytes, count * bytes, bound(count) * bytes) << size;
    EXPECT_NEAR(after.inuse_bytes - before.inuse_bytes, live * bytes, bound(live) * bytes) << size;
  }
  EXPECT_NEAR(after.inuse_objects - before.inuse_objects, live, bound(live)) << size;
  for (int i = 1; i < count; i += 2) hak_free(kept[static_cast<size_t>(i)]);
}

TEST(SamplingEstimates, AreUnbiasedForSizesOfEveryKind) {
  if (IsFast()) return;
  ExpectEstimate(16, 400000, 4);
  ExpectEstimate(100, 100000, 16);
  ExpectEstimate(1000, 40000, 16);
  ExpectEstimate(20000, 4000, 64);
  ExpectEstimate(40000, 2000, 64);
  ExpectEstimate(500000, 200, 512);
  ExpectEstimate(4u << 20, 20, 1024);
  ExpectEstimate(64u << 20, 6, 65536);
}

TEST(SamplingEstimates, AreUnbiasedForBlocksThatAreResized) {
  if (IsFast()) return;
  ExpectEstimate(100, 100000, 16, 106);
  ExpectEstimate(1000, 40000, 16, 980);
  ExpectEstimate(20000, 4000, 64, 20001);
}

// Many small runs together are as exact as one large run: an error that is always in the same direction would add up.
TEST(SamplingEstimates, AddUpOverManyRuns) {
  if (IsFast()) return;
  constexpr int kRuns = 200;
  constexpr size_t kSize = 256;
  constexpr int kBlocks = 500;
  std::mt19937_64 random(hak_test::TestSeed(1));
  double sum = 0;
  double variance = 0;
  double all = 0;
  for (int run = 0; run < kRuns; run++) {
    const int mean_kb = 1 + static_cast<int>(random() % 8);
    const Sampling sampling(mean_kb);
    const std::function<void(size_t)> work = [](size_t) { hak_free(hak_malloc(kSize)); };
    const hak_prof_stack before = TotalsOf(Repeat(0, work)).sum;
    const void *const within = Repeat(kBlocks, work);
    sum += TotalsOf(within).sum.alloc_objects - before.alloc_objects;
    const double chance = -std::expm1(-static_cast<double>(kSize) / (mean_kb * 1024.0));
    variance += kBlocks * (1 - chance) / chance;
    all += kBlocks;
  }
  EXPECT_NEAR(sum, all, kWide * std::sqrt(variance));
}

// ---- Fork ---------------------------------------------------------------------------------------

TEST(SamplingFork, ChildHasARightTable) {
  if (IsFast()) return;
  const Sampling sampling(0);
  void *const block = hak_malloc(1234);
  // Another thread is at work while the process forks.
  std::atomic<bool> end{false};
  std::thread worker([&] {
    while (!end.load()) hak_free(hak_malloc(99));
  });
  for (int i = 0; i < 20; i++) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      bool good = Find(block).times == 1;
      void *const own = hak_malloc(50);
      good = good && Find(own).times == 1;
      hak_free(own);
      hak_free(block);
      good = good && Find(own).times == 0 && Find(block).times == 0;
      _exit(good && hak_heap_verify() ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  end = true;
  worker.join();
  ExpectSampled(block, 1234);
  hak_free(block);
}

}  // namespace
