// SPDX-License-Identifier: Apache-2.0
//
// Many threads at once, many threads one after another, and allocations while a thread ends.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

// ThreadSanitizer keeps hundreds of KiB for each thread and slows thread creation.
constexpr size_t kLiveThreads = HAK_TEST_TSAN ? 100 : 1000;
constexpr size_t kShortThreads = HAK_TEST_TSAN ? 1000 : 10000;
constexpr size_t kWarmUp = HAK_TEST_TSAN ? 100 : 500;

// A block whose contents are checked: it holds its size and a checksum.
void *NewStamped(size_t size) {
  size = std::max<size_t>(size, 16);
  auto *words = static_cast<uint64_t *>(hak_malloc(size));
  if (words == nullptr) return nullptr;
  words[0] = size;
  words[1] = Mix64(size ^ reinterpret_cast<uintptr_t>(words));
  memset(words + 2, static_cast<int>(words[1] & 0xFF), size - 16);
  return words;
}

// Frees the block. False: its contents have changed.
bool FreeStamped(void *p) {
  auto *words = static_cast<uint64_t *>(p);
  const uint64_t size = words[0];
  bool good = words[1] == Mix64(size ^ reinterpret_cast<uintptr_t>(words));
  if (good) {
    const auto *bytes = reinterpret_cast<const unsigned char *>(words);
    for (size_t i = 16; i < size; ++i) good = good && bytes[i] == (words[1] & 0xFF);
  }
  hak_free(p);
  return good;
}

// Threads with small stacks: a thousand default stacks would take 8 GiB of address space.
class SmallThread {
 public:
  template <typename Body>
  explicit SmallThread(Body body) : body_(new std::function<void()>(std::move(body))) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, std::max<size_t>(256 * 1024, static_cast<size_t>(PTHREAD_STACK_MIN)));
    const int error = pthread_create(&thread_, &attributes, &SmallThread::Run, body_.get());
    pthread_attr_destroy(&attributes);
    if (error != 0) {
      fprintf(stderr, "pthread_create: %s\n", strerror(error));
      abort();
    }
  }
  void Join() { pthread_join(thread_, nullptr); }

 private:
  static void *Run(void *body) {
    (*static_cast<std::function<void()> *>(body))();
    return nullptr;
  }
  std::unique_ptr<std::function<void()>> body_;
  pthread_t thread_ = {};
};

TEST(Threads, ThousandLiveThreadsExchangeBlocks) {
  const hak_stats before = Stats();
  constexpr size_t kExchange = 4096;
  std::vector<std::atomic<void *>> exchange(kExchange);
  std::atomic<size_t> arrived{0};
  std::atomic<size_t> damaged{0};
  std::atomic<size_t> failed{0};
  std::atomic<uint32_t> threads_seen{0};
  pthread_barrier_t all_alive;
  pthread_barrier_init(&all_alive, nullptr, static_cast<unsigned>(kLiveThreads));
  std::vector<SmallThread> threads;
  threads.reserve(kLiveThreads);
  for (size_t i = 0; i < kLiveThreads; ++i) {
    threads.emplace_back([&, i] {
      Random random(TestSeed(i));
      const auto step = [&] {
        void *mine = NewStamped(16 + random.Index(random.OneIn(50) ? 40000 : 1000));
        if (mine == nullptr) {
          failed.fetch_add(1);
          return;
        }
        void *theirs = exchange[random.Index(kExchange)].exchange(mine);
        if (theirs != nullptr && !FreeStamped(theirs)) damaged.fetch_add(1);
      };
      for (int op = 0; op < 20; ++op) step();
      // Every thread has a heap now, and none has ended.
      pthread_barrier_wait(&all_alive);
      if (arrived.fetch_add(1) == 0) threads_seen = Stats().threads;
      for (int op = 0; op < 150; ++op) step();
      pthread_barrier_wait(&all_alive);
    });
  }
  for (SmallThread &thread : threads) thread.Join();
  pthread_barrier_destroy(&all_alive);
  for (std::atomic<void *> &slot : exchange) {
    void *left = slot.exchange(nullptr);
    if (left != nullptr && !FreeStamped(left)) damaged.fetch_add(1);
  }
  EXPECT_EQ(failed, 0U);
  EXPECT_EQ(damaged, 0U);
  EXPECT_GE(threads_seen, kLiveThreads);
  EXPECT_TRUE(hak_heap_verify());
  const hak_stats after = Stats();
  EXPECT_EQ(after.live_blocks, before.live_blocks);
  EXPECT_EQ(after.live_bytes, before.live_bytes);
  EXPECT_LE(after.threads, before.threads + 1);  // the main thread may have got its heap meanwhile
}

// The most that a series grew after its warm-up.
uint64_t GrowthAfter(const std::vector<uint64_t> &series, size_t warm_up) {
  uint64_t early = 0;
  uint64_t late = 0;
  for (size_t i = 0; i < series.size(); ++i)
    (i < warm_up ? early : late) = std::max(i < warm_up ? early : late, series[i]);
  return late > early ? late - early : 0;
}

TEST(GrowthAfter, SeesALeakAndIgnoresNoise) {
  std::vector<uint64_t> leak;
  std::vector<uint64_t> noise;
  for (size_t i = 0; i < kShortThreads; ++i) {
    leak.push_back(i * 4096);
    noise.push_back(1000000 + i % 7);
  }
  EXPECT_GT(GrowthAfter(leak, kWarmUp), uint64_t{2} << 20);
  EXPECT_EQ(GrowthAfter(noise, kWarmUp), 0U);
}

// One superslab more or less can be caused by placement. HARDENED also keeps up to 128 freed blocks, each between two
// guard pages.
uint64_t MayGrow() {
  const uint64_t held = IsHardenedBuild() ? 128 * 3 * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
  return (uint64_t{2} << 20) + held;
}

TEST(Threads, TenThousandShortThreadsDoNotGrow) {
  const hak_stats before = Stats();
  std::vector<void *> left;  // blocks that each thread leaves to the next one
  std::vector<uint64_t> mapped;
  size_t damaged = 0;
  for (size_t i = 0; i < kShortThreads; ++i) {
    SmallThread thread([&] {
      Random random(TestSeed(i));
      for (void *&p : left) {
        if (!FreeStamped(p)) ++damaged;
      }
      left.clear();
      std::vector<void *> mine;
      for (int block = 0; block < 130; ++block) mine.push_back(NewStamped(16 + random.Index(1000)));
      // Leaves a hundred blocks for the next thread.
      for (size_t block = 0; block < mine.size(); ++block) {
        if (block % 13 < 10) {
          left.push_back(mine[block]);
        } else if (!FreeStamped(mine[block])) {
          ++damaged;
        }
      }
    });
    thread.Join();
    mapped.push_back(Stats().mapped_bytes);
  }
  for (void *p : left) {
    if (!FreeStamped(p)) ++damaged;
  }
  EXPECT_EQ(damaged, 0U);
  // If each thread leaked a slab, this would be 600 MiB.
  EXPECT_LE(GrowthAfter(mapped, kWarmUp), MayGrow());
  EXPECT_TRUE(hak_heap_verify());
  const hak_stats after = Stats();
  EXPECT_EQ(after.live_blocks, before.live_blocks);
  EXPECT_EQ(after.live_bytes, before.live_bytes);
}

// Threads end while others free the blocks that they left, all at once.
TEST(Threads, ExitRacesWithRemoteFrees) {
  const hak_stats before = Stats();
  std::atomic<void *> slots[256] = {};
  std::atomic<size_t> damaged{0};
  for (int wave = 0; wave < 30; ++wave) {
    std::vector<SmallThread> threads;
    for (uint64_t i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        Random random(TestSeed(static_cast<uint64_t>(wave) * 8 + i));
        for (int op = 0; op < 200; ++op) {
          void *old = slots[random.Index(256)].exchange(NewStamped(16 + random.Index(300)));
          if (old != nullptr && !FreeStamped(old)) damaged.fetch_add(1);
        }
      });
    }
    for (SmallThread &thread : threads) thread.Join();
  }
  for (std::atomic<void *> &slot : slots) {
    void *old = slot.exchange(nullptr);
    if (old != nullptr && !FreeStamped(old)) damaged.fetch_add(1);
  }
  EXPECT_EQ(damaged, 0U);
  EXPECT_TRUE(hak_heap_verify());
  EXPECT_EQ(Stats().live_blocks, before.live_blocks);
}

// ---- The end of a thread ------------------------------------------------------------------------

// ThreadSanitizer ends its own data of the thread in the last round. Instrumented code cannot run after that.
constexpr size_t kRounds = PTHREAD_DESTRUCTOR_ITERATIONS - (HAK_TEST_TSAN ? 1 : 0);
constexpr size_t kKeys = 40;  // more than the 32 that glibc keeps in the thread itself
pthread_key_t g_keys[kKeys];
std::atomic<size_t> g_destructor_calls;
std::atomic<size_t> g_damaged;
std::atomic<void *> g_last_words[kKeys];

// Frees the block of this round, allocates and frees others, and requests another round with a new block. glibc stops
// after PTHREAD_DESTRUCTOR_ITERATIONS rounds; the test frees what the last round leaves.
void KeyDestructor(void *value) {
  auto *words = static_cast<uint64_t *>(value);
  const size_t index = words[2];
  const size_t round = words[3];
  g_destructor_calls.fetch_add(1);
  for (size_t i = 0; i < 10; ++i) {
    if (!FreeStamped(NewStamped(16 + 100 * i))) g_damaged.fetch_add(1);
  }
  hak_free(value);
  auto *next = static_cast<uint64_t *>(hak_malloc(64));
  next[2] = index;
  next[3] = round + 1;
  if (round + 1 < kRounds) {
    pthread_setspecific(g_keys[index], next);
  } else {
    g_last_words[index].store(next);
  }
}

struct LateLocal {
  void *block = nullptr;
  ~LateLocal() {
    if (block != nullptr && !FreeStamped(block)) g_damaged.fetch_add(1);
    for (size_t i = 0; i < 10; ++i) {
      if (!FreeStamped(NewStamped(20 + 500 * i))) g_damaged.fetch_add(1);
    }
    g_destructor_calls.fetch_add(1);
  }
};
thread_local LateLocal t_first;
thread_local LateLocal t_second;

TEST(ThreadEnd, DestructorsAllocateAndFreeInEveryRound) {
  for (pthread_key_t &key : g_keys) ASSERT_EQ(pthread_key_create(&key, KeyDestructor), 0);
  const hak_stats before = Stats();
  constexpr size_t kThreads = 20;
  // The keys are set before the thread's first use of the allocator in one half and after it in the other, so that its
  // own destructor runs both before and after these.
  for (size_t t = 0; t < kThreads; ++t) {
    g_destructor_calls = 0;
    const bool allocator_first = t % 2 == 0;
    void *preset[kKeys];
    for (void *&p : preset) p = hak_malloc(64);
    SmallThread thread([&] {
      if (allocator_first) t_first.block = NewStamped(100);
      for (size_t i = 0; i < kKeys; ++i) {
        auto *words = static_cast<uint64_t *>(preset[i]);
        words[2] = i;
        words[3] = 0;
        pthread_setspecific(g_keys[i], words);
      }
      t_second.block = NewStamped(3000);
    });
    thread.Join();
    const size_t locals = 1 + (allocator_first ? 1U : 0U);
    EXPECT_GE(g_destructor_calls, kKeys * kRounds + locals);
    for (std::atomic<void *> &p : g_last_words) {
      EXPECT_NE(p.load(), nullptr);
      hak_free(p.exchange(nullptr));
    }
  }
  for (const pthread_key_t key : g_keys) pthread_key_delete(key);
  EXPECT_EQ(g_damaged, 0U);
  EXPECT_TRUE(hak_heap_verify());
  const hak_stats after = Stats();
  EXPECT_EQ(after.live_blocks, before.live_blocks);
  EXPECT_EQ(after.live_bytes, before.live_bytes);
  EXPECT_LE(after.threads, before.threads + 1);
}

// A thread allocates after its heap was closed. This must not leave a heap behind each time.
TEST(ThreadEnd, LateAllocationsDoNotLeakHeaps) {
  pthread_key_t key;
  ASSERT_EQ(pthread_key_create(&key,
                               [](void *value) {
                                 hak_free(value);
                                 hak_free(hak_malloc(48));
                               }),
            0);
  std::vector<uint64_t> mapped;
  for (size_t i = 0; i < kShortThreads / 10; ++i) {
    SmallThread thread([&] { pthread_setspecific(key, hak_malloc(80)); });
    thread.Join();
    mapped.push_back(Stats().mapped_bytes);
  }
  pthread_key_delete(key);
  EXPECT_LE(GrowthAfter(mapped, kShortThreads / 100), MayGrow());
  EXPECT_LE(Stats().threads, 2U);
}

}  // namespace
}  // namespace hak_test
