// SPDX-License-Identifier: Apache-2.0
//
// Memory that an idle process returns: by the purge thread if it makes no calls, by the watch if it makes a few, by
// LEAN at once. Each case is a process of its own with its settings in the environment.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr uint64_t kBytes = uint64_t{72} << 20;
constexpr int kSeconds = 10;
constexpr int kTimeout = 60;

void Print(const char *name, uint64_t value) { printf("%s=%llu\n", name, static_cast<unsigned long long>(value)); }

// ---- In the child -------------------------------------------------------------------------------

// The memory that the allocator may have resident, and that the process has resident.
struct Footprint {
  uint64_t committed = Stats().committed_bytes;
  uint64_t resident = ResidentBytes();
};

// A heap of kBytes in blocks of `least` to `most` bytes, all touched, which are freed in random order.
class Heap {
 public:
  Heap(size_t least, size_t most) {
    blocks_.resize(kBytes / least + 1);  // touched before the first measurement
    size_t count = 0;
    hak_free(hak_malloc(100));
    const Footprint before;
    Random random(TestSeed(11));
    for (uint64_t bytes = 0; bytes < kBytes;) {
      const size_t size = least + random.Index(most - least + 1);
      void *block = hak_malloc(size);
      memset(block, 1, size);
      blocks_[count++] = block;
      bytes += size;
    }
    blocks_.resize(count);
    std::shuffle(blocks_.begin(), blocks_.end(), std::minstd_rand(5));
    base_ = before;
    peak_ = Footprint();
  }
  void FreeAll() {
    for (void *block : blocks_) hak_free(block);
    freed_ = Footprint();
  }
  // Whether less than a fifth of it is left. The sanitizers' records of touched memory are not counted.
  bool IsGone() const {
    const Footprint now;
    if (now.committed > base_.committed + (peak_.committed - base_.committed) / 5) return false;
    return kSlowBuild || peak_.resident == 0 || now.resident <= base_.resident + (peak_.resident - base_.resident) / 5;
  }
  // `gone` is the result of the wait for IsGone: the kernel's count of resident pages is late by some hundred KiB, so a
  // second reading may be above the bound again.
  void Report(bool gone) const {
    const Footprint now;
    Print("base", base_.committed);
    Print("peak", peak_.committed);
    Print("freed", freed_.committed);
    Print("left", now.committed);
    Print("peak_resident", peak_.resident);
    Print("left_resident", now.resident);
    Print("gone", gone);
    Print("rounds", Stats().background_rounds);
    Print("verifies", hak_heap_verify());
  }

 private:
  std::vector<void *> blocks_;
  Footprint base_;
  Footprint peak_;
  Footprint freed_;
};

// The child's arguments are the bounds of the block sizes.
int FreesAllAndIsSilent(size_t least, size_t most, int seconds) {
  Heap heap(least, most);
  heap.FreeAll();
  heap.Report(WaitUntil([&] { return heap.IsGone(); }, seconds));
  return 0;
}

// Everything is freed only after the purge thread had no work for a while and waits.
int FreesAllLate(size_t least, size_t most) {
  Heap heap(least, most);
  uint64_t rounds = 0;
  const bool waits = WaitUntil(
      [&] {
        const uint64_t before = rounds;
        rounds = Stats().background_rounds;
        return before == rounds && rounds != 0;
      },
      3 * kSeconds, 400);
  Print("waits", waits);
  heap.FreeAll();
  heap.Report(WaitUntil([&] { return heap.IsGone(); }, kSeconds));
  return 0;
}

// Volatile, because the compiler may remove an allocation whose result is unused.
void *volatile g_sink;

int FreesAllAndMakesFewCalls(size_t least, size_t most, int seconds) {
  Heap heap(least, most);
  heap.FreeAll();
  const bool gone = WaitUntil(
      [&] {
        g_sink = hak_malloc(100);
        hak_free(g_sink);
        return heap.IsGone();
      },
      seconds, 150);
  heap.Report(gone);
  return 0;
}

// The signals that a thread blocks, from /proc.
uint64_t BlockedSignals(int thread) {
  FILE *file = fopen(("/proc/self/task/" + std::to_string(thread) + "/status").c_str(), "r");
  if (file == nullptr) return 0;
  char line[256];
  uint64_t mask = 0;
  while (fgets(line, sizeof line, file) != nullptr) {
    if (strncmp(line, "SigBlk:", 7) == 0) mask = strtoull(line + 7, nullptr, 16);
  }
  fclose(file);
  return mask;
}

std::atomic<int> g_signalled_thread;

// A signal to the process that its only thread blocks stays pending: the purge thread must not take it.
int PurgeThreadTakesNoSignals() {
  hak_free(hak_malloc(100));
  int thread = 0;
  WaitUntil([&] { return (thread = PurgeThread()) != 0; });
  Print("thread", thread != 0);
  // All signals that can be blocked. The C library keeps 32 and 33 for itself (not under ThreadSanitizer).
  uint64_t missing = ~BlockedSignals(thread);
  for (const int signal : {SIGKILL, SIGSTOP, 32, 33}) missing &= ~(uint64_t{1} << (signal - 1));
  Print("unblocked", missing);
  struct sigaction action = {};
  action.sa_handler = [](int) { g_signalled_thread = gettid(); };
  sigaction(SIGUSR1, &action, nullptr);
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &usr1, nullptr);
  kill(getpid(), SIGUSR1);
  SleepMs(100);
  Print("early", g_signalled_thread != 0);
  sigset_t pending;
  sigpending(&pending);
  Print("pending", sigismember(&pending, SIGUSR1) == 1);
  pthread_sigmask(SIG_UNBLOCK, &usr1, nullptr);
  WaitUntil([] { return g_signalled_thread != 0; });
  Print("own", g_signalled_thread == getpid());
  return 0;
}

// The child of a fork has no purge thread at first. It gets one when it allocates, and returns memory when idle like
// its parent.
int ForksAndGoesOn() {
  hak_free(hak_malloc(100));
  WaitUntil([] { return PurgeThread() != 0; });
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(kTimeout / 2);
    Print("at_first", PurgeThread() != 0);
    Heap heap(16, 1000);
    heap.FreeAll();
    const bool gone = WaitUntil([&] { return heap.IsGone(); }, kSeconds);
    Print("later", PurgeThread() != 0);
    heap.Report(gone);
    fflush(stdout);
    _exit(0);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  Print("status", static_cast<uint64_t>(status));
  Print("parent_verifies", hak_heap_verify());
  return 0;
}

// ---- In the test --------------------------------------------------------------------------------

using Environment = std::vector<std::string>;

uint64_t Percent(const Outcome &outcome, const char *part, const char *whole) {
  const uint64_t base = NumberOf(outcome.out, "base");
  return (NumberOf(outcome.out, part) - std::min(base, NumberOf(outcome.out, part))) * 100 /
         (NumberOf(outcome.out, whole) - base);
}

struct Sizes {
  size_t least;
  size_t most;
};

class Process : public testing::Test {
 protected:
  void SetUp() override {
    if (!CanRunSelf()) GTEST_SKIP() << "this emulator cannot start itself";
  }
  static Outcome Run(const std::string &child, const Environment &environment, Sizes sizes = {16, 1000}) {
    Environment all = environment;
    all.push_back("HAK_TEST_SEED=11");  // otherwise the child prints the seed that it drew
    Outcome outcome =
        RunSelf({"--child=" + child, std::to_string(sizes.least), std::to_string(sizes.most)}, all, kTimeout);
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    EXPECT_EQ(outcome.err, "");
    return outcome;
  }
  static void ExpectGone(const Outcome &outcome) {
    EXPECT_EQ(NumberOf(outcome.out, "gone"), 1U) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
  }
  // Without work for a while it waits, and does no more rounds until it is woken.
  static void ExpectWoken(const Outcome &outcome) {
    EXPECT_EQ(NumberOf(outcome.out, "waits"), 1U) << outcome;
    ExpectGone(outcome);
  }
  // Frees that took longer than the deadline, because the machine stopped the process or is slow, may have returned the
  // memory themselves: such a run says nothing, and there is another.
  static Outcome RunOfQuickFrees(const std::string &child, const Environment &environment) {
    for (int runs = 1;; ++runs) {
      const Outcome outcome = Run(child, environment);
      if (Percent(outcome, "freed", "peak") >= 50 || runs == 10) return outcome;
    }
  }
  static void ExpectKept(const Outcome &outcome) {
    EXPECT_GE(Percent(outcome, "freed", "peak"), 50U) << "the frees took longer than the deadline\n" << outcome;
    EXPECT_GE(Percent(outcome, "left", "freed"), 90U) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "gone"), 0U) << outcome;
  }
};

TEST_F(Process, ThePurgeThreadEmptiesASilentOne) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the thread is off";
  const Outcome outcome = Run("silent", {"HAKMEM_BACKGROUND=1"});
  ExpectGone(outcome);
  EXPECT_GT(NumberOf(outcome.out, "rounds"), 0U) << outcome;
}

TEST_F(Process, WithoutItASilentOneKeepsItsMemory) {
  const Outcome outcome = RunOfQuickFrees("silent-briefly", {"HAKMEM_BACKGROUND=0"});
  ExpectKept(outcome);
  EXPECT_EQ(NumberOf(outcome.out, "rounds"), 0U) << outcome;
}

// A short deadline, so that the thread soon has nothing to do.
const Environment kWaitsSoon = {"HAKMEM_BACKGROUND=1", "HAKMEM_DECOMMIT_DEADLINE_MS=200"};

TEST_F(Process, AWaitingPurgeThreadIsWokenBySmallFrees) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the thread is off";
  ExpectWoken(Run("late", kWaitsSoon));
}

TEST_F(Process, AWaitingPurgeThreadIsWokenByLargeFrees) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the thread is off";
  ExpectWoken(Run("late", kWaitsSoon, {300000, 300000}));
  ExpectWoken(Run("late", kWaitsSoon, {3000000, 3000000}));
}

TEST_F(Process, SignalsDoNotReachThePurgeThread) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the thread is off";
  const Outcome outcome = Run("signals", {"HAKMEM_BACKGROUND=1"});
  EXPECT_EQ(NumberOf(outcome.out, "thread"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "unblocked"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "early"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "pending"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "own"), 1U) << outcome;
}

TEST_F(Process, TheChildOfAForkGetsAPurgeThreadOfItsOwn) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the thread is off";
  if (HAK_TEST_TSAN) GTEST_SKIP() << "ThreadSanitizer ends a forked child that starts a thread";
  const Outcome outcome = Run("fork", {"HAKMEM_BACKGROUND=1"});
  EXPECT_EQ(NumberOf(outcome.out, "at_first"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "later"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "status"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "parent_verifies"), 1U) << outcome;
  ExpectGone(outcome);
}

const Environment kGoesSoon = {"HAKMEM_DECOMMIT_DEADLINE_MS=300"};  // 1,000 in FAST

// Blocks of one size and of many sizes, small and large: the last slow call comes at a different time in each.
TEST_F(Process, AFewCallsEmptyIt) {
  for (const Sizes sizes : {Sizes{16, 1000}, {16, 16}, {64, 64}, {400, 400}, {5000, 5000}, {20, 200}}) {
    const Outcome outcome = Run("few", kGoesSoon, sizes);
    ExpectGone(outcome);
    EXPECT_EQ(NumberOf(outcome.out, "rounds"), 0U);
  }
}

TEST_F(Process, AFewCallsEmptyItOfLargeBlocks) {
  ExpectGone(Run("few", kGoesSoon, {300000, 300000}));
  ExpectGone(Run("few", kGoesSoon, {3000000, 3000000}));
}

TEST_F(Process, WithoutTheWatchAFewCallsDoNot) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the watch is on";
  ExpectKept(RunOfQuickFrees("few-briefly", {"HAKMEM_IDLE_WATCH=0"}));
}

// Most of the memory at once. Single cached blocks keep the other slabs in use.
TEST_F(Process, LeanKeepsLittle) {
  if (IsFastBuild()) GTEST_SKIP() << "FAST has fixed settings: the preset is balanced";
  const Outcome outcome = Run("silent", {"HAKMEM_PROFILE=lean", "HAKMEM_BACKGROUND=1"});
  // A thread's quarantine is emptied when the thread is idle.
  if (!IsHardenedBuild()) {
    EXPECT_LE(Percent(outcome, "freed", "peak"), 60U) << outcome;
  }
  ExpectGone(outcome);
}

// FAST has no setting for this.
TEST_F(Process, FastHasNoPurgeThread) {
  if (!IsFastBuild()) GTEST_SKIP() << "for FAST builds";
  const Outcome outcome = Run("silent-briefly", {"HAKMEM_BACKGROUND=1", "HAKMEM_PROFILE=lean"});
  EXPECT_EQ(NumberOf(outcome.out, "rounds"), 0U) << outcome;
}

int Child(const std::string &name, size_t least, size_t most) {
  if (name == "silent") return FreesAllAndIsSilent(least, most, kSeconds);
  if (name == "silent-briefly") return FreesAllAndIsSilent(least, most, 2);
  if (name == "late") return FreesAllLate(least, most);
  if (name == "few") return FreesAllAndMakesFewCalls(least, most, kSeconds);
  if (name == "few-briefly") return FreesAllAndMakesFewCalls(least, most, 3);
  if (name == "signals") return PurgeThreadTakesNoSignals();
  return name == "fork" ? ForksAndGoesOn() : 2;
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 4 && strncmp(argv[1], "--child=", 8) == 0) {
    return hak_test::Child(argv[1] + 8, strtoull(argv[2], nullptr, 10), strtoull(argv[3], nullptr, 10));
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
