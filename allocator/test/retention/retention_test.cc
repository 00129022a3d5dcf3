// SPDX-License-Identifier: Apache-2.0
//
// After a peak the memory is returned whatever the program does afterwards: calls at full speed that its cache serves,
// a few calls from time to time, or no calls with the purge thread. This holds for the heap of the thread that made the
// peak and for threads that have ended. The measure is the resident memory. Each case is a process of its own with the
// default settings.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <string>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr int kTimeout = 60;
// The time in which the memory of a peak must be returned: three deadlines. A slow build gets more.
constexpr uint64_t kSpanMs = kSlowBuild ? 20000 : 3000;

void Print(const char *name, uint64_t value) { printf("%s=%llu\n", name, static_cast<unsigned long long>(value)); }

uint64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

// ---- In the child -------------------------------------------------------------------------------

// The list of blocks has memory of its own, so that the measurement does not include it.
class Blocks {
 public:
  explicit Blocks(size_t most)
      : bytes_(most * sizeof(void *)),
        at_(static_cast<void **>(
            mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0))) {}
  ~Blocks() { munmap(at_, bytes_); }
  Blocks(const Blocks &) = delete;
  Blocks &operator=(const Blocks &) = delete;

  void Add(size_t size) {
    at_[count_] = hak_malloc(size);
    memset(at_[count_++], 1, size);
  }
  void Free(size_t index) {
    hak_free(at_[index]);
    at_[index] = nullptr;
  }
  void FreeAll() {
    for (size_t i = 0; i < count_; ++i) hak_free(at_[i]);
    count_ = 0;
  }
  size_t count() const { return count_; }

 private:
  size_t bytes_;
  void **at_;
  size_t count_ = 0;
};

// Volatile, because the compiler may remove the calls otherwise.
void *volatile g_block;

// What a server does for a request. After the first round the thread's cache serves each call.
void Serve() {
  for (size_t i = 0; i < 20; ++i) {
    g_block = hak_malloc(100 + i * 50);
    hak_free(g_block);
  }
}

// Serves a request every `each_ms` (0: without a pause, -1: makes no calls) until at most `most` bytes are resident, or
// kSpanMs have passed. A pause that is longer than it should be counts as a usual one: then the machine did not let the
// process work, so that nothing could be returned either.
void ServeUntil(int each_ms, uint64_t most) {
  const uint64_t longest = static_cast<uint64_t>(each_ms > 0 ? each_ms : 20) + 20;
  uint64_t next_check_ms = 0;
  uint64_t last = NowMs();
  for (uint64_t passed = 0; passed < kSpanMs;) {
    const uint64_t now = NowMs();
    passed += std::min(now - last, longest);
    last = now;
    if (now >= next_check_ms) {
      // The report itself touches some pages.
      if (ResidentBytes() + 256 * 1024 <= most) return;
      next_check_ms = now + 20;
    }
    if (each_ms != 0) SleepMs(each_ms > 0 ? each_ms : 20);
    if (each_ms >= 0) Serve();
  }
}

uint64_t Allowed(uint64_t live) { return IsHardenedBuild() ? 2 * live + 16 * kMib : live + live * 3 / 10 + 8 * kMib; }

void Report(uint64_t base, uint64_t peak, uint64_t most) {
  Print("peak", peak > base ? peak - base : 0);
  Print("allowed", most - base);
  Print("left", ResidentBytes() > base ? ResidentBytes() - base : 0);
  Print("verifies", hak_heap_verify());
}

// 64 MiB of small blocks beside 8 MiB that stay live.
int Peak(int each_ms) {
  constexpr uint64_t kLive = 8 * kMib;
  Blocks stay(kLive / 1000);
  Blocks go(64 * kMib / 1000);
  hak_free(hak_malloc(100));
  const uint64_t base = ResidentBytes();
  for (uint64_t i = 0; i < kLive / 1000; ++i) stay.Add(1000);
  for (uint64_t i = 0; i < 64 * kMib / 1000; ++i) go.Add(32 + i * 37 % 2000);
  const uint64_t peak = ResidentBytes();
  go.FreeAll();
  const uint64_t most = base + Allowed(kLive);
  ServeUntil(each_ms, most);
  Report(base, peak, most);
  stay.FreeAll();
  return 0;
}

// All are freed except one block in each 64 KiB, so only pages can be returned.
int Scattered(int each_ms) {
  constexpr size_t kCount = 160 * kMib / 512;
  Blocks blocks(kCount);
  hak_free(hak_malloc(100));
  const uint64_t base = ResidentBytes();
  for (size_t i = 0; i < kCount; ++i) blocks.Add(512);
  const uint64_t peak = ResidentBytes();
  for (size_t i = 0; i < kCount; ++i) {
    if (i % 128 != 5) blocks.Free(i);
  }
  // A page or two for each block that stays.
  const uint64_t most = base + kCount / 128 * 2 * 4096 + 8 * kMib;
  ServeUntil(each_ms, most);
  Report(base, peak, most);
  blocks.FreeAll();
  return 0;
}

// ---- Threads ------------------------------------------------------------------------------------

// Few pages, so that the stacks are small beside what the threads allocate.
constexpr size_t kStack = 64 * 1024;

pthread_t Start(void *(*body)(void *), void *argument) {
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStack);
  if (pthread_create(&thread, &attributes, body, argument) != 0) abort();
  pthread_attr_destroy(&attributes);
  return thread;
}

// Blocks of many classes, some of them several times, and all freed again.
void UseManyClasses(pthread_barrier_t *all_have) {
  void *blocks[80];
  for (size_t i = 0; i < 80; ++i) {
    blocks[i] = hak_malloc(16 + i * 97 % 40 * 60);
    memset(blocks[i], 1, 16);
  }
  if (all_have != nullptr) {
    pthread_barrier_wait(all_have);
    pthread_barrier_wait(all_have);  // The peak is measured here.
  }
  for (void *block : blocks) hak_free(block);
}

void *BodyOfMany(void *barrier) {
  UseManyClasses(static_cast<pthread_barrier_t *>(barrier));
  return nullptr;
}

// Many threads at once use many classes and end. The memory of their records and cache arrays is returned too.
int Threads(int each_ms) {
  // In HARDENED each thread takes about thirty mappings, whose number is limited.
  const size_t count = IsHardenedBuild() ? 400 : 1200;
  static pthread_t threads[1200];
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, static_cast<unsigned>(count) + 1);
  // What the C library needs for its first thread is not counted.
  pthread_join(Start(BodyOfMany, nullptr), nullptr);
  const uint64_t base = ResidentBytes();
  for (size_t i = 0; i < count; ++i) threads[i] = Start(BodyOfMany, &barrier);
  pthread_barrier_wait(&barrier);
  const uint64_t peak = ResidentBytes();
  const uint64_t metadata = Stats().metadata_bytes;
  pthread_barrier_wait(&barrier);
  for (size_t i = 0; i < count; ++i) pthread_join(threads[i], nullptr);
  const uint64_t most = base + 8 * kMib;
  ServeUntil(each_ms, most);
  Print("metadata", metadata);
  Report(base, peak, most);
  return 0;
}

void *BodyOfOne(void *) {
  UseManyClasses(nullptr);
  return nullptr;
}

// One short thread after the other.
int Churn(int count) {
  for (int i = 0; i < 100; ++i) pthread_join(Start(BodyOfOne, nullptr), nullptr);
  rusage before;
  rusage after;
  const uint64_t calls = Stats().os_calls;
  getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < count; ++i) pthread_join(Start(BodyOfOne, nullptr), nullptr);
  getrusage(RUSAGE_SELF, &after);
  Print("faults", static_cast<uint64_t>(after.ru_minflt - before.ru_minflt));
  Print("calls", Stats().os_calls - calls);
  Print("verifies", hak_heap_verify());
  return 0;
}

// With all memory locked the kernel refuses to take pages back, and is asked only a limited number of times.
int Locked() {
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    Print("skipped", 1);
    return 0;
  }
  Blocks blocks(20000);
  for (int i = 0; i < 20000; ++i) blocks.Add(2000);
  for (size_t i = 0; i < 20000; ++i) {
    if (i % 320 > 10) blocks.Free(i);
  }
  for (size_t i = 0; i < 3000; ++i) hak_free(hak_malloc(100 + i * 10));
  const uint64_t before = Stats().os_calls;
  SleepMs(1500);
  Print("calls", Stats().os_calls - before);
  Print("rounds", Stats().background_rounds);
  Print("verifies", hak_heap_verify());
  return 0;
}

int Child(const std::string &name, int each_ms) {
  if (name == "threads") return Threads(each_ms);
  if (name == "churn") return Churn(each_ms);
  if (name == "peak") return Peak(each_ms);
  if (name == "scattered") return Scattered(each_ms);
  return name == "locked" ? Locked() : 2;
}

// ---- In the test --------------------------------------------------------------------------------

class Retention : public testing::Test {
 protected:
  void SetUp() override {
    if (!CanRunSelf()) GTEST_SKIP() << "this emulator cannot start itself";
  }
  static Outcome Run(const std::string &child, int each_ms, const std::vector<std::string> &environment = {}) {
    Outcome outcome = RunSelf({"--child=" + child, std::to_string(each_ms)}, environment, kTimeout);
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    EXPECT_EQ(outcome.err, "");
    return outcome;
  }
  static void ExpectGone(const Outcome &outcome) {
    EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
    // The sanitizers' records of touched memory are not counted.
    if (kSlowBuild || NumberOf(outcome.out, "peak") == 0) return;
    EXPECT_GT(NumberOf(outcome.out, "peak"), NumberOf(outcome.out, "allowed") * 2) << "the peak proves nothing\n"
                                                                                   << outcome;
    EXPECT_LE(NumberOf(outcome.out, "left"), NumberOf(outcome.out, "allowed")) << outcome;
  }
};

TEST_F(Retention, AtFullSpeed) { ExpectGone(Run("peak", 0)); }
TEST_F(Retention, WithCallsEachMillisecond) { ExpectGone(Run("peak", 1)); }
TEST_F(Retention, WithCallsEachTenMilliseconds) { ExpectGone(Run("peak", 10)); }
TEST_F(Retention, WithCallsNowAndThen) { ExpectGone(Run("peak", 150)); }

TEST_F(Retention, WithThePurgeThreadAndNoCall) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the thread is off";
  ExpectGone(Run("peak", -1, {"HAKMEM_BACKGROUND=1"}));
}

// More slabs of one class than one slice of the page purge checks.
TEST_F(Retention, PagesOfAllSlabs) { ExpectGone(Run("scattered", 1)); }

TEST_F(Retention, RecordsOfEndedThreads) {
  const Outcome outcome = Run("threads", 1);
  EXPECT_GT(NumberOf(outcome.out, "metadata"), NumberOf(outcome.out, "allowed") * 5 / 4)
      << "few records prove nothing\n"
      << outcome;
  ExpectGone(outcome);
}
TEST_F(Retention, RecordsOfEndedThreadsWithCallsNowAndThen) { ExpectGone(Run("threads", 100)); }

TEST_F(Retention, RecordsOfEndedThreadsWithThePurgeThreadAndNoCall) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the thread is off";
  ExpectGone(Run("threads", -1, {"HAKMEM_BACKGROUND=1"}));
}

// Threads that start and end reuse the same records: without system calls, and without touching new pages.
TEST_F(Retention, ShortThreadsCostNoPageFaults) {
  const Outcome outcome = Run("churn", 2000);
  EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
  EXPECT_LE(NumberOf(outcome.out, "faults"), 1000U) << outcome;
  EXPECT_LE(NumberOf(outcome.out, "calls"), 500U) << outcome;
}

TEST_F(Retention, LockedMemoryIsLeftAlone) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the thread is off";
  const Outcome outcome = Run("locked", 0, {"HAKMEM_PROFILE=lean", "HAKMEM_BACKGROUND=1"});
  if (NumberOf(outcome.out, "skipped") == 1) GTEST_SKIP() << "memory cannot be locked here";
  EXPECT_GT(NumberOf(outcome.out, "rounds"), 0U) << outcome;
  EXPECT_LE(NumberOf(outcome.out, "calls"), 100U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 3 && strncmp(argv[1], "--child=", 8) == 0) return hak_test::Child(argv[1] + 8, atoi(argv[2]));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
