// SPDX-License-Identifier: Apache-2.0
//
// What threads, forks and signals leave behind, with the override of the C library. Each case is a process of its own
// with a watchdog, and is judged from outside (page faults, resident memory, how the process ended).
//
//   life_test                 runs every case
//   life_test --child CASE    one case
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "allocator/test/life/cases.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace {

using hak_life::AtMost;
using hak_life::ExpectSuccess;
using hak_life::Fail;
using hak_life::kHangSeconds;
using hak_test::ResidentBytes;
using hak_test::SleepMs;
using hak_test::Stats;

pthread_attr_t SmallStacks(int detached) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, size_t{64} << 10);
  pthread_attr_setdetachstate(&attributes, detached != 0 ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE);
  return attributes;
}

// ---- Threads that end ---------------------------------------------------------------------------

int TaskCount() {
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  int threads = 0;
  while (file != nullptr && fgets(line, sizeof line, file) != nullptr) sscanf(line, "Threads: %d", &threads);
  if (file != nullptr) fclose(file);
  return threads;
}

pthread_barrier_t g_barrier;

// Threads that never allocate: the C library frees their records in one of them, after that thread's destructors.
int FreesAfterTheEnd() {
  constexpr int kAtOnce = 60;
  // The default stack size, which is so large that the C library caches only a few stacks.
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_barrier_init(&g_barrier, nullptr, kAtOnce + 1);
  uint64_t early = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < kAtOnce; ++i) {
      pthread_t thread;
      const auto wait = [](void *) -> void * {
        pthread_barrier_wait(&g_barrier);
        return nullptr;
      };
      if (pthread_create(&thread, &attributes, wait, nullptr) != 0) return 2;
    }
    pthread_barrier_wait(&g_barrier);
    while (TaskCount() > 1) SleepMs(1);
    if (round == 2) early = ResidentBytes();
  }
  AtMost(ResidentBytes(), early + (uint64_t{4} << 20), "resident bytes after threads that never allocated");
  AtMost(Stats().threads, 1, "heaps of threads that never allocated");
  return 0;
}

pthread_key_t g_key;
thread_local intptr_t g_turns;
intptr_t g_last_turn;

// Threads whose only allocation is in a late round of their destructors.
int AllocatesInTheLastRound() {
  pthread_key_create(&g_key, [](void *value) {
    if (++g_turns == g_last_turn) free(malloc(100));
    pthread_setspecific(g_key, value);
  });
  uint64_t early = 0;
  for (int i = 0; i < 400; ++i) {
    g_last_turn = 1 + i % PTHREAD_DESTRUCTOR_ITERATIONS;
    pthread_t thread;
    const auto work = [](void *) -> void * {
      pthread_setspecific(g_key, &g_turns);
      return nullptr;
    };
    if (pthread_create(&thread, nullptr, work, nullptr) != 0) return 2;
    pthread_join(thread, nullptr);
    if (i == 40) early = ResidentBytes();
  }
  AtMost(ResidentBytes(), early + (uint64_t{1} << 20), "resident bytes after late allocations");
  AtMost(Stats().threads, 1, "heaps of threads that allocated late");
  return 0;
}

std::atomic<void *> g_freed;  // by the thread that has the record of the ended thread's heap
std::atomic<bool> g_taken;    // a block by the ended thread, after that

// A thread whose heap was closed does not touch its record any more, which the next thread has got.
int LeavesItsRecordAlone() {
  pthread_key_create(&g_key, [](void *value) {
    if (++g_turns < PTHREAD_DESTRUCTOR_ITERATIONS) {
      pthread_setspecific(g_key, value);
      return;
    }
    pthread_t thread;
    const auto work = [](void *) -> void * {
      void *volatile block = malloc(48);
      free(block);
      g_freed = block;
      while (!g_taken) sched_yield();
      return nullptr;
    };
    if (pthread_create(&thread, nullptr, work, nullptr) != 0) _exit(2);
    while (g_freed == nullptr) sched_yield();
    void *volatile block = malloc(48);
    if (block == g_freed) Fail("a block from the cache of another thread, in round", static_cast<uint64_t>(g_turns));
    g_taken = true;
    pthread_join(thread, nullptr);
    free(block);
  });
  pthread_t thread;
  const auto work = [](void *) -> void * {
    void *volatile block = malloc(48);
    free(block);
    pthread_setspecific(g_key, &g_turns);
    return nullptr;
  };
  if (pthread_create(&thread, nullptr, work, nullptr) != 0) return 2;
  pthread_join(thread, nullptr);
  return g_taken ? 0 : 3;
}

// A thread that only frees behaves like any other, and its double free is noticed.
int OnlyFrees() {
  static void *blocks[5000];
  const uint64_t before = Stats().live_blocks;
  for (size_t i = 0; i < 5000; ++i) blocks[i] = malloc(16 + i % 900);
  pthread_t thread;
  const auto work = [](void *) -> void * {
    for (void *p : blocks) free(p);
    return nullptr;
  };
  if (pthread_create(&thread, nullptr, work, nullptr) != 0) return 2;
  pthread_join(thread, nullptr);
  const uint64_t after = Stats().live_blocks;
  AtMost(after, before + 8, "live blocks after all were freed");
  return hak_heap_verify() ? 0 : 3;
}

int OnlyFreesTwice() {
  static void *block;
  block = malloc(100);
  pthread_t thread;
  const auto work = [](void *) -> void * {
    free(block);
    free(block);
    _exit(4);
  };
  pthread_create(&thread, nullptr, work, nullptr);
  pthread_join(thread, nullptr);
  return 3;
}

// ---- Signals ------------------------------------------------------------------------------------

void EachMicroseconds(long first, long interval, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval timer = {{0, interval}, {0, first}};
  setitimer(ITIMER_REAL, &timer, nullptr);
}

void *g_blocks[20000];

// exit in a signal handler that most likely interrupts malloc or free.
int ExitsInAHandler(long turn) {
  EachMicroseconds(2000 + turn * 137, 0, [](int) { exit(0); });
  for (;;) {
    for (size_t i = 0; i < 20000; ++i) g_blocks[i] = malloc(100 + i % 900);
    for (void *p : g_blocks) free(p);
  }
}

// fork in a signal handler of a process with one thread.
int ForksInAHandler() {
  EachMicroseconds(1000, 0, [](int) {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    if (child > 0) waitpid(child, nullptr, 0);
    // Only now, lest a slow fork leaves no time between two signals.
    const itimerval again = {{0, 0}, {0, 3001}};
    setitimer(ITIMER_REAL, &again, nullptr);
  });
  unsigned seed = 1;
  const time_t end = time(nullptr) + 2;
  while (time(nullptr) < end) {
    for (int i = 0; i < 1000; ++i) {
      void *&block = g_blocks[static_cast<unsigned>(rand_r(&seed)) % 500];
      free(block);
      block = malloc(static_cast<unsigned>(rand_r(&seed)) % 300000);
    }
  }
  return 0;
}

// ---- Fork ---------------------------------------------------------------------------------------

std::atomic<bool> g_stop;

void *Forker(void *) {
  while (!g_stop) {
    const pid_t child = fork();
    if (child == 0) {
      // Streams and memory work in the child.
      fflush(nullptr);
      free(malloc(50000));
      _exit(0);
    }
    if (child > 0) waitpid(child, nullptr, 0);
  }
  return nullptr;
}

void *Flusher(void *) {
  while (!g_stop) fflush(nullptr);
  return nullptr;
}

void *Reader(void *name) {
  while (!g_stop) {
    FILE *file = fopen(static_cast<const char *>(name), "r");
    if (file == nullptr) abort();
    char *line = nullptr;
    size_t room = 0;
    if (getline(&line, &room, file) < 0) abort();
    free(line);
    fclose(file);
  }
  return nullptr;
}

// fork while other threads hold the lock of the list of streams, or a stream, and wait for memory.
int ForksBesideStreams() {
  char name[] = "/tmp/life_test.XXXXXX";
  FILE *file = fdopen(mkstemp(name), "w");
  if (file == nullptr) return 2;
  for (int i = 0; i < 50000; ++i) putc('x', file);
  fclose(file);
  std::vector<pthread_t> threads(7);
  for (size_t i = 0; i < threads.size(); ++i) {
    pthread_create(&threads[i], nullptr, i < 2 ? Forker : i == 2 ? Flusher : Reader, name);
  }
  SleepMs(1500);
  g_stop = true;
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  unlink(name);
  return 0;
}

uint64_t Faults(int who) {
  rusage usage = {};
  getrusage(who, &usage);
  return static_cast<uint64_t>(usage.ru_minflt);
}

void IdleThreads(int count) {
  static pthread_attr_t attributes = SmallStacks(1);
  pthread_barrier_init(&g_barrier, nullptr, static_cast<unsigned>(count) + 1);
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    const auto work = [](void *number) -> void * {
      static void *all[400][300];
      void **mine = all[reinterpret_cast<intptr_t>(number)];
      for (size_t k = 0; k < 300; ++k) mine[k] = malloc(16 + k % 400);
      pthread_barrier_wait(&g_barrier);
      // Memory of another thread.
      void **others = all[(reinterpret_cast<intptr_t>(number) + 1) % 200];
      for (size_t k = 0; k < 300; k += 3) free(others[k]);
      pthread_barrier_wait(&g_barrier);
      pause();
      return nullptr;
    };
    if (pthread_create(&thread, &attributes, work, reinterpret_cast<void *>(intptr_t{i})) != 0) _exit(2);
  }
  pthread_barrier_wait(&g_barrier);
  pthread_barrier_wait(&g_barrier);
}

// A fork does not write to the records of threads that are idle or have ended.
int ForkLeavesIdleHeapsAlone() {
  std::vector<pthread_t> burst(500);
  pthread_attr_t attributes = SmallStacks(0);
  pthread_barrier_init(&g_barrier, nullptr, static_cast<unsigned>(burst.size()));
  for (pthread_t &thread : burst) {
    const auto work = [](void *) -> void * {
      free(malloc(10));
      pthread_barrier_wait(&g_barrier);
      return nullptr;
    };
    if (pthread_create(&thread, &attributes, work, nullptr) != 0) return 2;
  }
  for (const pthread_t thread : burst) pthread_join(thread, nullptr);
  IdleThreads(200);
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < 4; ++i) {
    const uint64_t before = Faults(RUSAGE_SELF);
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
    const uint64_t copies = Faults(RUSAGE_SELF) - before;
    if (copies < least) least = copies;
  }
  AtMost(least, 80, "pages that a fork had the parent copy");
  _exit(0);
}

uint64_t ChildFaults(void (*body)()) {
  const pid_t child = fork();
  if (child == 0) body();
  rusage usage = {};
  int status = 0;
  wait4(child, &status, 0, &usage);
  if (status != 0) Fail("the child's status", static_cast<uint64_t>(status));
  return static_cast<uint64_t>(usage.ru_minflt);
}

// A child does not touch the heaps of threads that do not exist in it, neither at its end nor while it does little.
int ChildLeavesHeapsAlone() {
  IdleThreads(200);
  const uint64_t least = ChildFaults([] { _exit(0); });
  AtMost(ChildFaults([] { exit(0); }), least + 150, "pages that a child copied for exit");
  const uint64_t work = ChildFaults([] {
    for (size_t k = 0; k < 20000; ++k) free(malloc(k % 1000));
    exit(0);
  });
  AtMost(work, least + 900, "pages that a child copied for work and exit");
  _exit(0);
}

// ---- Keys ---------------------------------------------------------------------------------------

void *Pairs(void *) {
  for (size_t i = 0; i < 20000; ++i) free(malloc(16 + i % 200));
  return nullptr;
}

// A library that sets and deletes key 0 although it never created it.
int KeyZeroIsOthers() {
  free(malloc(1));
  if (pthread_getspecific(0) != nullptr) Fail("key 0 has a value", 0);
  const auto work = [](void *) -> void * {
    free(malloc(10));
    pthread_setspecific(0, &g_stop);
    return nullptr;
  };
  pthread_t thread;
  pthread_create(&thread, nullptr, work, nullptr);
  pthread_join(thread, nullptr);
  pthread_key_delete(0);
  const uint64_t before = Stats().refills;
  for (int i = 0; i < 20; ++i) {
    pthread_create(&thread, nullptr, Pairs, nullptr);
    pthread_join(thread, nullptr);
  }
  AtMost(Stats().refills - before, 20000, "refills of threads that have a heap");
  AtMost(Stats().threads, 1, "heaps of threads that ended");
  return 0;
}

// ---- Running ------------------------------------------------------------------------------------

constexpr hak_life::Case kCases[] = {
    {"frees after the end", FreesAfterTheEnd},
    {"allocates in the last round", AllocatesInTheLastRound},
    {"leaves its record alone", LeavesItsRecordAlone},
    {"only frees", OnlyFrees},
    {"forks in a handler", ForksInAHandler},
    {"forks beside streams", ForksBesideStreams},
    {"fork leaves idle heaps alone", ForkLeavesIdleHeapsAlone},
    {"child leaves heaps alone", ChildLeavesHeapsAlone},
    {"key 0 is others'", KeyZeroIsOthers},
};

int RunChild(const char *name, const char *turn) {
  if (strcmp(name, "exits in a handler") == 0) return ExitsInAHandler(atol(turn));
  if (strcmp(name, "only frees twice") == 0) return OnlyFreesTwice();
  return hak_life::RunCase(kCases, name);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "--child") == 0) return RunChild(argv[2], argv[3]);
  int failures = 0;
  for (const hak_life::Case &one : kCases) failures += ExpectSuccess(one.name);
  for (int turn = 0; turn < 20 && failures == 0; ++turn) failures += ExpectSuccess("exits in a handler", turn);
  const auto twice = hak_life::Start("only frees twice", 0);
  const bool seen = twice.signal == SIGABRT && twice.err.find("double free") != std::string::npos;
  failures += hak_life::Expect(seen || hak_test::IsFastBuild(), "only frees twice", twice);
  puts(failures == 0 ? "ok" : "FAILED");
  return failures == 0 ? 0 : 1;
}
