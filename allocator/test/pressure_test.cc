// SPDX-License-Identifier: Apache-2.0
//
// A process that is short of memory: the lines of HAKMEM_AUTOPSY and the callback of hak_pressure_set.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;
// More than a sanitizer's runtime needs before the first request.
constexpr uint64_t kLimit = (kSlowBuild ? 128 : 64) * kMib;
constexpr uint64_t kNear = kLimit / 8 * 7;
constexpr int kErrnoBefore = 4242;

void Print(const char *name, uint64_t value) { printf("%s=%llu\n", name, static_cast<unsigned long long>(value)); }

// ---- In the child -------------------------------------------------------------------------------

// Blocks that are linked through their first words, so that to hold them takes no other memory.
class Chain {
 public:
  // Whether there was memory for one more.
  bool Add(size_t size) {
    void **block = static_cast<void **>(hak_malloc(size));
    if (block == nullptr) return false;
    *block = last_;
    last_ = block;
    count_++;
    return true;
  }
  void FreeAll() {
    while (last_ != nullptr) {
      void **block = last_;
      last_ = static_cast<void **>(*block);
      hak_free(block);
    }
    count_ = 0;
  }
  uint64_t count() const { return count_; }

 private:
  void **last_ = nullptr;
  uint64_t count_ = 0;
};

// Takes blocks until a request fails, and then asks for some more.
void Exhaust(Chain *chain, size_t size) {
  while (chain->Add(size)) continue;
  for (int i = 0; i < 3; i++) chain->Add(size);
}

int Fill(size_t size) {
  Chain chain;
  Exhaust(&chain, size);
  Print("filled", chain.count());
  chain.FreeAll();
  Exhaust(&chain, size);
  chain.FreeAll();
  Print("verifies", hak_heap_verify());
  return 0;
}

// Holds much, but never beyond the limit without what it has freed.
int Garbage() {
  for (const size_t size : {size_t{64}, size_t{200000}, size_t{900}, size_t{300000}}) {
    Chain chain;
    for (uint64_t taken = 0; taken < kLimit / 2; taken += size) {
      if (!chain.Add(size)) return 1;
    }
    chain.FreeAll();
  }
  Print("purges", Stats().limit_purges);
  return 0;
}

struct Seen {
  Chain reserve;
  std::vector<uint32_t> reasons;  // of the C library's malloc
  hak_pressure last = {};
  int inside = 0;
  int deepest = 0;
};

// Frees the reserve when a request fails.
void FreeReserve(const hak_pressure *pressure, void *context) {
  Seen *seen = static_cast<Seen *>(context);
  seen->reasons.push_back(pressure->reason);
  seen->last = *pressure;
  if (pressure->reason == HAK_PRESSURE_REFUSED) seen->reserve.FreeAll();
  errno = 7;
}

int Reserve(size_t size) {
  Seen seen;
  for (uint64_t taken = 0; taken < 8 * kMib; taken += 500) seen.reserve.Add(500);
  if (hak_pressure_set(FreeReserve, &seen) != 0) return 1;
  Chain chain;
  bool errno_stays = true;
  const auto add = [&] {
    errno = kErrnoBefore;
    const bool added = chain.Add(size);
    errno_stays = errno_stays && errno == (added ? kErrnoBefore : ENOMEM);
    return added;
  };
  const auto refused = [&] {
    return std::count(seen.reasons.begin(), seen.reasons.end(), uint32_t{HAK_PRESSURE_REFUSED});
  };
  bool served = true;
  while (served && refused() == 0) served = add();
  Print("near",
        static_cast<uint64_t>(std::count(seen.reasons.begin(), seen.reasons.end(), uint32_t{HAK_PRESSURE_NEAR})));
  Print("first", seen.reasons.front());
  Print("served", served);  // the request that had failed
  Print("request", seen.last.request_bytes);
  Print("limit", seen.last.limit_bytes);
  Print("committed", seen.last.committed_bytes);
  const uint64_t before = chain.count();
  while (add()) continue;
  Print("more", (chain.count() - before) * size);
  hak_pressure_set(nullptr, nullptr);
  const size_t calls = seen.reasons.size();
  chain.Add(size);
  Print("calls_after", seen.reasons.size() - calls);
  Print("errno_stays", errno_stays);
  chain.FreeAll();
  Print("verifies", hak_heap_verify());
  return 0;
}

// A callback that itself meets the limit.
void AllocateAll(const hak_pressure *, void *context) {
  Seen *seen = static_cast<Seen *>(context);
  seen->inside++;
  seen->deepest = std::max(seen->deepest, seen->inside);
  seen->reasons.push_back(0);
  Chain chain;
  Exhaust(&chain, 100);
  chain.FreeAll();
  seen->inside--;
}

int Within() {
  Seen seen;
  hak_pressure_set(AllocateAll, &seen);
  Chain chain;
  Exhaust(&chain, 3000);
  chain.FreeAll();
  Print("calls", seen.reasons.size());
  Print("deepest", static_cast<uint64_t>(seen.deepest));
  return 0;
}

std::atomic<int> inside_now{0};
std::atomic<uint64_t> calls{0};
std::atomic<uint64_t> wrong{0};
int first_context;
int second_context;

void Count(bool is_right) {
  wrong += inside_now.fetch_add(1) != 0;
  wrong += !is_right;
  calls++;
  Chain chain;
  for (int i = 0; i < 100; i++) chain.Add(100);
  chain.FreeAll();
  inside_now--;
}
void First(const hak_pressure *, void *context) { Count(context == &first_context); }
void Second(const hak_pressure *, void *context) { Count(context == &second_context); }

int Threads() {
  std::atomic<bool> stop{false};
  std::thread setter([&] {
    for (uint64_t i = 0; !stop; i++) {
      if (i % 2 == 0) {
        hak_pressure_set(First, &first_context);
      } else {
        hak_pressure_set(Second, &second_context);
      }
    }
  });
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 3; t++) {
    threads.emplace_back([t] {
      for (int round = 0; round < 4; round++) {
        Chain chain;
        Exhaust(&chain, t == 0 ? 300000 : 1000);
        chain.FreeAll();
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  stop = true;
  setter.join();
  Print("calls", calls);
  Print("wrong", wrong);
  Print("verifies", hak_heap_verify());
  return 0;
}

// The child of a fork, from a process with one thread or with two.
int Fork(bool with_thread) {
  std::atomic<bool> stop{false};
  std::thread other;
  if (with_thread) {
    other = std::thread([&] {
      while (!stop) SleepMs(1);
    });
  }
  Chain chain;
  Exhaust(&chain, 1000);
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    Exhaust(&chain, 1000);
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  Exhaust(&chain, 1000);
  stop = true;
  if (with_thread) other.join();
  Print("parent", static_cast<uint64_t>(getpid()));
  Print("child", static_cast<uint64_t>(pid));
  return status;
}

std::atomic<bool> is_inside{false};
std::atomic<bool> may_return{false};

void StayInside(const hak_pressure *, void *) {
  calls++;
  is_inside = true;
  while (!may_return) SleepMs(1);
}

// The child of a fork while another thread is in the callback.
int ForkDuringCall() {
  hak_pressure_set(StayInside, nullptr);
  std::thread other([] {
    Chain chain;
    Exhaust(&chain, 1000);
    chain.FreeAll();
  });
  while (!is_inside) SleepMs(1);
  fflush(stdout);
  const pid_t pid = fork();
  may_return = true;
  if (pid == 0) {
    const uint64_t before = calls;
    Chain chain;
    Exhaust(&chain, 1000);
    _exit(calls == before);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  other.join();
  Print("child_failed", status != 0);
  return 0;
}

// With a stderr whose reader is gone, or never reads.
int Unread(bool is_full) {
  signal(SIGPIPE, SIG_DFL);
  int ends[2];
  if (pipe(ends) != 0 || dup2(ends[1], STDERR_FILENO) != STDERR_FILENO) return 1;
  if (is_full) {
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    const char byte = 'x';
    while (write(ends[1], &byte, 1) == 1) continue;
    fcntl(ends[1], F_SETFL, 0);
  } else {
    close(ends[0]);
  }
  Chain chain;
  Exhaust(&chain, 1000);
  chain.FreeAll();
  sigset_t pending;
  sigset_t blocked;
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  Print("pending", static_cast<uint64_t>(sigismember(&pending, SIGPIPE)));
  Print("blocked", static_cast<uint64_t>(sigismember(&blocked, SIGPIPE)));
  return 0;
}

// The system gives no more memory, and there is no limit.
int System() {
  Chain chain;
  chain.Add(100);
  hak_fault_set(HAK_FAULT_MAP, 1, UINT64_MAX);
  Exhaust(&chain, 100);
  hak_fault_clear();
  chain.FreeAll();
  return 0;
}

// ---- In the test --------------------------------------------------------------------------------

std::vector<std::string> Lines(const std::string &text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

uint64_t Field(const std::string &line, const std::string &name) {
  const size_t at = line.find(" " + name + "=");
  return at == std::string::npos ? UINT64_MAX : strtoull(line.c_str() + at + name.size() + 2, nullptr, 10);
}

// What the largest entry is called, and its bytes.
std::string LargestName(const std::string &line) {
  const size_t at = line.find("; largest: ");
  if (at == std::string::npos) return "";
  const std::string entry = line.substr(at + 11, line.find(',', at) - at - 11);
  return entry.substr(0, entry.rfind(' '));
}
uint64_t LargestBytes(const std::string &line) {
  const size_t at = line.find("; largest: " + LargestName(line));
  return strtoull(line.c_str() + at + 11 + LargestName(line).size(), nullptr, 10);
}

bool Begins(const std::string &line, const std::string &with) { return line.rfind(with, 0) == 0; }

const char kNearLine[] = "hakmem: memory: above 7/8 of the limit in exe[";
const char kRefusedLine[] = "hakmem: memory: a request was refused in exe[";

Outcome RunChild(const std::vector<std::string> &arguments, bool autopsy = true, uint64_t limit = kLimit) {
  Outcome outcome = RunSelf(arguments,
                            {"HAKMEM_MEMORY_LIMIT_MB=" + std::to_string(limit / kMib), "HAKMEM_CGROUP_LIMIT=0",
                             autopsy ? "HAKMEM_AUTOPSY=1" : "HAKMEM_AUTOPSY=0"},
                            120);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  return outcome;
}

void ExpectLine(const std::string &line, const char *begin, size_t size) {
  SCOPED_TRACE(line);
  EXPECT_TRUE(Begins(line, begin));
  EXPECT_NE(line.find(" (HAKMEM_MEMORY_LIMIT_MB) "), std::string::npos);
  EXPECT_EQ(Field(line, "limit_bytes"), kLimit);
  EXPECT_GE(Field(line, "request_bytes"), size);
  EXPECT_LE(Field(line, "request_bytes"), size + size / 4 + 64);
  EXPECT_GE(Field(line, "committed_bytes") + std::max<uint64_t>(size, 65536), kNear);
  EXPECT_LE(Field(line, "committed_bytes"), kLimit);
  // HARDENED has room for one block of 30,000 bytes in a slab.
  EXPECT_GE(Field(line, "live_bytes"), kNear / 10 * 4);
  EXPECT_LE(Field(line, "live_bytes"), kLimit);
  EXPECT_GE(LargestBytes(line), Field(line, "live_bytes") / 10 * 9);
  EXPECT_LE(LargestBytes(line), kLimit);
  const uint64_t named = strtoull(LargestName(line).c_str(), nullptr, 10);
  if (size <= 32768) {
    EXPECT_GE(named, size);
    EXPECT_LE(named, size + size / 4 + 64);
    EXPECT_EQ(LargestName(line), std::to_string(named) + "-byte blocks");
  } else {
    EXPECT_EQ(LargestName(line), size <= 65536 ? "blocks up to 65536 bytes" : "blocks up to 262144 bytes");
  }
}

TEST(Pressure, OneLineNearTheLimitAndOneAtARefusal) {
  for (const size_t size : {size_t{48}, size_t{1000}, size_t{30000}, size_t{60000}, size_t{200000}}) {
    SCOPED_TRACE(size);
    const Outcome outcome = RunChild({"--child=fill", std::to_string(size)});
    EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
    const std::vector<std::string> lines = Lines(outcome.err);
    ASSERT_EQ(lines.size(), 2U) << outcome;
    ExpectLine(lines[0], kNearLine, size);
    ExpectLine(lines[1], kRefusedLine, size);
  }
}

TEST(Pressure, IsSilentUnlessAsked) { EXPECT_EQ(RunChild({"--child=fill", "1000"}, false).err, ""); }

TEST(Pressure, FreedMemoryIsNone) {
  const Outcome outcome = RunChild({"--child=garbage"});
  EXPECT_EQ(outcome.err, "");
  EXPECT_GT(NumberOf(outcome.out, "purges"), 0U) << "nothing came near the limit";
}

TEST(Pressure, ARefusalOfTheSystem) {
  const Outcome outcome = RunChild({"--child=system"}, true, 0);
  const std::vector<std::string> lines = Lines(outcome.err);
  ASSERT_EQ(lines.size(), 1U) << outcome;
  EXPECT_TRUE(Begins(lines[0], kRefusedLine)) << outcome;
  EXPECT_NE(lines[0].find(" limit_bytes=none committed_bytes="), std::string::npos) << outcome;
}

TEST(Pressure, TheCallbackMayFree) {
  for (const size_t size : {size_t{1000}, size_t{200000}}) {
    SCOPED_TRACE(size);
    const Outcome outcome = RunChild({"--child=reserve", std::to_string(size)}, false);
    EXPECT_EQ(outcome.err, "");
    EXPECT_GT(NumberOf(outcome.out, "near"), 0U) << outcome;
    EXPECT_LT(NumberOf(outcome.out, "near"), 100U) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "first"), uint64_t{HAK_PRESSURE_NEAR}) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "served"), 1U) << outcome;
    EXPECT_GE(NumberOf(outcome.out, "request"), size) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "limit"), kLimit) << outcome;
    EXPECT_GE(NumberOf(outcome.out, "committed"), kNear) << outcome;
    EXPECT_GE(NumberOf(outcome.out, "more"), 4 * kMib) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "calls_after"), 0U) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "errno_stays"), 1U) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
  }
}

TEST(Pressure, TheCallbackIsNotReentered) {
  const Outcome outcome = RunChild({"--child=within"}, false);
  EXPECT_GT(NumberOf(outcome.out, "calls"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "deepest"), 1U) << outcome;
}

TEST(Pressure, OneCallAtATimeAndAlwaysWithItsContext) {
  const Outcome outcome = RunChild({"--child=threads"}, true);
  EXPECT_GT(NumberOf(outcome.out, "calls"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "wrong"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "verifies"), 1U) << outcome;
  const std::vector<std::string> lines = Lines(outcome.err);
  ASSERT_EQ(lines.size(), 2U) << outcome;
  EXPECT_TRUE(Begins(lines[0], kNearLine) != Begins(lines[1], kNearLine)) << outcome;
}

TEST(Pressure, AChildReportsItsOwn) {
  for (const char *how : {"--child=fork", "--child=fork-threads"}) {
    const Outcome outcome = RunChild({how});
    const std::vector<std::string> lines = Lines(outcome.err);
    ASSERT_EQ(lines.size(), 3U) << outcome;
    const auto of = [&](const char *line, const char *who) {
      return line + std::to_string(NumberOf(outcome.out, who)) + "]";
    };
    EXPECT_TRUE(Begins(lines[0], of(kNearLine, "parent"))) << outcome;
    EXPECT_TRUE(Begins(lines[1], of(kRefusedLine, "parent"))) << outcome;
    EXPECT_TRUE(Begins(lines[2], of(kRefusedLine, "child"))) << outcome;
  }
}

// The call that the parent's thread is in never ends in the child.
TEST(Pressure, AChildForkedDuringACallHasItsOwn) {
  const Outcome outcome = RunChild({"--child=fork-during-call"}, true);
  EXPECT_EQ(NumberOf(outcome.out, "child_failed"), 0U) << outcome;
}

TEST(Pressure, NobodyNeedsToRead) {
  for (const char *how : {"--child=gone", "--child=full"}) {
    const Outcome outcome = RunChild({how});
    EXPECT_EQ(NumberOf(outcome.out, "pending"), 0U) << outcome;
    EXPECT_EQ(NumberOf(outcome.out, "blocked"), 0U) << outcome;
  }
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  const std::string child = argc >= 2 ? argv[1] : "";
  const size_t size = argc == 3 ? strtoull(argv[2], nullptr, 10) : 0;
  if (child == "--child=fill") return hak_test::Fill(size);
  if (child == "--child=garbage") return hak_test::Garbage();
  if (child == "--child=reserve") return hak_test::Reserve(size);
  if (child == "--child=within") return hak_test::Within();
  if (child == "--child=threads") return hak_test::Threads();
  if (child == "--child=fork") return hak_test::Fork(false);
  if (child == "--child=fork-threads") return hak_test::Fork(true);
  if (child == "--child=fork-during-call") return hak_test::ForkDuringCall();
  if (child == "--child=gone") return hak_test::Unread(false);
  if (child == "--child=full") return hak_test::Unread(true);
  if (child == "--child=system") return hak_test::System();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
