// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/lock.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "allocator/os/report.h"
#include "allocator/os/unit_test.h"

namespace {

uint32_t State(const hak_lock &lock) { return atomic_load_explicit(&lock.state, memory_order_relaxed); }

TEST(Lock, FreeHeldFree) {
  hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
  EXPECT_EQ(State(lock), 0u);
  hak_lock_acquire(&lock);
  EXPECT_EQ(State(lock), 1u);
  hak_lock_release(&lock);
  EXPECT_EQ(State(lock), 0u);
}

// A thread that calls hak_lock_pass between its steps lets others in, and holds the lock alone afterwards.
TEST(Lock, PassingLetsTheSleepersIn) {
  hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock_acquire(&lock);
  hak_lock_pass(&lock);  // Nobody waits.
  EXPECT_FALSE(hak_lock_is_wanted(&lock));
  EXPECT_EQ(State(lock), 1u);
  bool entered = false;  // Not atomic: the lock orders the accesses.
  std::thread other([&] {
    hak_lock_acquire(&lock);
    entered = true;
    hak_lock_release(&lock);
  });
  while (!hak_lock_is_wanted(&lock)) std::this_thread::yield();
  while (!entered) {
    hak_lock_pass(&lock);
    std::this_thread::yield();
  }
  EXPECT_NE(State(lock), 0u);
  hak_lock_release(&lock);
  other.join();
  EXPECT_EQ(State(lock), 0u);
}

// OBSERVE counts long waits, and no others.
TEST(Lock, LongWaitsAreCounted) {
  const struct hak_lock_waits before = hak_lock_waits();
  hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock gate = HAK_LOCK_INIT(HAK_RANK_NONE);
  for (hak_lock *one : {&lock, &gate}) {
    hak_lock_acquire_unranked(one);
    std::thread other([one] {
      hak_lock_acquire_unranked(one);
      hak_lock_release_unranked(one);
    });
    while (!hak_lock_is_wanted(one)) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    hak_lock_release_unranked(one);
    other.join();
  }
  const struct hak_lock_waits after = hak_lock_waits();
  EXPECT_EQ(after.count, before.count + (HAK_OBSERVE ? 1 : 0));
  EXPECT_EQ(after.longest_us >= 5000, HAK_OBSERVE != 0);
}

// The variables are not atomic: with a lock that lets two threads in, increments are lost, and ThreadSanitizer reports
// the race.
TEST(Lock, LetsOneThreadInAtATime) {
  hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
  constexpr int kThreads = 4;
  const int rounds = hak_unit::Operations(20000);
  long total = 0;
  int inside = 0;
  int crowded = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([&] {
      for (int i = 0; i < rounds; i++) {
        hak_lock_acquire(&lock);
        if (++inside != 1) crowded++;
        total++;
        if (i % 256 == 0) std::this_thread::yield();  // so that others come to sleep on the lock
        inside--;
        hak_lock_release(&lock);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(total, static_cast<long>(kThreads) * rounds);
  EXPECT_EQ(crowded, 0);
  EXPECT_EQ(State(lock), 0u);
}

TEST(Lock, WakesEverySleeperAndKeepsErrno) {
  hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock_acquire(&lock);
  int entered = 0;
  std::atomic<int> errno_kept{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; t++) {
    threads.emplace_back([&] {
      errno = E2BIG;
      hak_lock_acquire(&lock);
      entered++;
      hak_lock_release(&lock);
      if (errno == E2BIG) errno_kept++;
    });
  }
  while (State(lock) != 2) std::this_thread::yield();  // until a thread sleeps
  EXPECT_EQ(entered, 0);                               // read under the lock
  errno = E2BIG;
  hak_lock_release(&lock);
  EXPECT_EQ(errno, E2BIG);
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(entered, 3);
  EXPECT_EQ(errno_kept.load(), 3);
  EXPECT_EQ(State(lock), 0u);
}

std::atomic<int> signals_seen{0};

// A signal ends the system call in which a thread sleeps. That is not a wake-up.
TEST(Lock, ASignalLetsNobodyInAndKeepsErrno) {
  struct sigaction action = {};
  action.sa_handler = [](int) { signals_seen++; };  // without SA_RESTART
  struct sigaction old;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old), 0);
  hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock_acquire(&lock);
  int entered = 0;
  bool errno_kept = false;
  std::thread other([&] {
    errno = E2BIG;
    hak_lock_acquire(&lock);
    entered++;
    hak_lock_release(&lock);
    errno_kept = errno == E2BIG;
  });
  while (State(lock) != 2) std::this_thread::yield();
  for (int i = 1; i <= 20; i++) {
    // ThreadSanitizer delays a signal, and one that comes just before the sleep even until the sleep ends. So signals
    // are sent repeatedly.
    while (signals_seen.load() < i) {
      ASSERT_EQ(pthread_kill(other.native_handle(), SIGUSR1), 0);
      usleep(100);
    }
    EXPECT_EQ(entered, 0);  // read under the lock
    EXPECT_NE(State(lock), 0u);
  }
  hak_lock_release(&lock);
  other.join();
  EXPECT_EQ(entered, 1);
  EXPECT_TRUE(errno_kept);
  EXPECT_EQ(sigaction(SIGUSR1, &old, nullptr), 0);
}

// A thread that holds all locks may take and release them in any order, and holds them until hak_lock_holds_all is
// false.
TEST(Lock, WhoHoldsAllHoldsThemOnRelease) {
  hak_lock high = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock low = HAK_LOCK_INIT(HAK_RANK_HEAP);
  hak_lock_acquire(&low);
  hak_lock_acquire(&high);
  hak_lock_holds_all = true;
  for (int i = 0; i < 3; i++) {
    hak_lock_acquire(&high);
    hak_lock_acquire(&low);
    hak_lock_release(&low);
    hak_lock_release(&high);
    EXPECT_NE(State(low), 0u);
    EXPECT_NE(State(high), 0u);
  }
  std::atomic<bool> entered{false};
  std::thread other([&] {
    hak_lock_acquire(&low);
    entered = true;
    hak_lock_release(&low);
  });
  while (State(low) != 2) std::this_thread::yield();
  EXPECT_FALSE(entered);
  hak_lock_holds_all = false;
  hak_lock_release(&high);
  hak_lock_release(&low);
  other.join();
  EXPECT_TRUE(entered);
  EXPECT_EQ(State(low), 0u);
  EXPECT_EQ(State(high), 0u);
}

TEST(Lock, TheChildOfAForkMayReleaseIt) {
  hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock_acquire(&lock);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    hak_lock_release(&lock);
    hak_lock_acquire(&lock);
    hak_lock_release(&lock);
    _exit(State(lock) == 0 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(State(lock), 1u);  // held by the parent
  hak_lock_release(&lock);
}

TEST(Lock, UnrankedKeepsOthersOutAllTheSame) {
  hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock_acquire_unranked(&lock);
  EXPECT_EQ(State(lock), 1u);
  int entered = 0;
  std::thread other([&] {
    hak_lock_acquire_unranked(&lock);
    entered++;
    hak_lock_release_unranked(&lock);
  });
  while (State(lock) != 2) std::this_thread::yield();
  EXPECT_EQ(entered, 0);  // read under the lock
  errno = E2BIG;
  hak_lock_release_unranked(&lock);
  EXPECT_EQ(errno, E2BIG);
  other.join();
  EXPECT_EQ(entered, 1);
  EXPECT_EQ(State(lock), 0u);
}

// ---- A thread that ends the process: in a child, because this cannot be undone --------------------

constexpr unsigned kPatienceSeconds = 15;

TEST(LockGiveUp, FromThenOnTheThreadHasEveryLock) {
  const auto give_up = [] {
    alarm(kPatienceSeconds);
    hak_lock mine = HAK_LOCK_INIT(HAK_RANK_META);
    hak_lock low = HAK_LOCK_INIT(HAK_RANK_INIT);
    hak_lock_acquire(&mine);
    hak_lock_acquire_unranked(&low);
    hak_report_set_ending();
    errno = E2BIG;
    // A lock that this thread holds, one against the order, and the same again.
    hak_lock_acquire(&mine);
    hak_lock_acquire(&low);
    hak_lock_acquire(&mine);
    EXPECT_EQ(errno, E2BIG);
    hak_lock free_one = HAK_LOCK_INIT(HAK_RANK_POOL);
    hak_lock_acquire(&free_one);
    EXPECT_EQ(State(free_one), 1u);
    hak_lock_release(&free_one);
    EXPECT_EQ(State(free_one), 0u);
  };
  HAK_EXPECT_PASSES_IN_CHILD(give_up());
}

TEST(LockGiveUp, AlsoALockThatAnotherThreadHolds) {
  const auto give_up = [] {
    alarm(kPatienceSeconds);
    hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
    hak_lock_acquire(&lock);
    bool entered = false;
    std::thread([&] {
      hak_report_set_ending();
      hak_lock_acquire(&lock);
      entered = true;
    }).join();
    EXPECT_TRUE(entered);
    EXPECT_NE(State(lock), 0u);  // this thread still holds it
    hak_lock_release(&lock);
    EXPECT_EQ(State(lock), 0u);
  };
  HAK_EXPECT_PASSES_IN_CHILD(give_up());
}

TEST(LockGiveUp, OtherThreadsStillWait) {
  const auto give_up = [] {
    alarm(kPatienceSeconds);
    hak_lock lock = HAK_LOCK_INIT(HAK_RANK_POOL);
    hak_lock_acquire(&lock);
    hak_report_set_ending();
    int entered = 0;
    std::thread other([&] {
      hak_lock_acquire(&lock);
      entered++;
      hak_lock_release(&lock);
    });
    while (State(lock) != 2) std::this_thread::yield();
    EXPECT_EQ(entered, 0);  // read under the lock
    hak_lock_release(&lock);
    other.join();
    EXPECT_EQ(entered, 1);
  };
  HAK_EXPECT_PASSES_IN_CHILD(give_up());
}

// ---- Ranks --------------------------------------------------------------------------------------

TEST(LockOrder, UnrankedIsOutsideTheOrder) {
  hak_lock low = HAK_LOCK_INIT(HAK_RANK_INIT);
  hak_lock first = HAK_LOCK_INIT(HAK_RANK_HEAP);
  hak_lock second = HAK_LOCK_INIT(HAK_RANK_HEAP);
  hak_lock high = HAK_LOCK_INIT(HAK_RANK_META);
  // Two locks of one rank, and one below a rank that is held.
  hak_lock_acquire(&high);
  hak_lock_acquire_unranked(&first);
  hak_lock_acquire_unranked(&second);
  EXPECT_EQ(State(first) + State(second), 2u);
  hak_lock_release(&high);
  // Nor does it affect later locks.
  hak_lock_acquire(&low);
  hak_lock_release_unranked(&second);
  hak_lock_release_unranked(&first);
  hak_lock_acquire(&high);
  hak_lock_release(&high);
  hak_lock_release(&low);
  EXPECT_EQ(State(low) + State(first) + State(second) + State(high), 0u);
}

TEST(LockOrder, RisingRanksAreInOrder) {
  hak_lock low = HAK_LOCK_INIT(HAK_RANK_INIT);
  hak_lock middle = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock high = HAK_LOCK_INIT(HAK_RANK_META);
  for (int round = 0; round < 2; round++) {
    hak_lock_acquire(&low);
    hak_lock_acquire(&middle);
    hak_lock_acquire(&high);
    // Locks may be released in any order, and a released rank may be taken again.
    hak_lock_release(&middle);
    hak_lock_release(&high);
    hak_lock_acquire(&middle);
    hak_lock_release(&middle);
    hak_lock_release(&low);
  }
  EXPECT_EQ(State(low) + State(middle) + State(high), 0u);
}

TEST(LockOrder, RanksOfOtherThreadsDoNotCount) {
  hak_lock low = HAK_LOCK_INIT(HAK_RANK_INIT);
  hak_lock high = HAK_LOCK_INIT(HAK_RANK_META);
  hak_lock_acquire(&high);
  bool done = false;
  std::thread([&] {
    hak_lock_acquire(&low);
    hak_lock_release(&low);
    done = true;
  }).join();
  hak_lock_release(&high);
  EXPECT_TRUE(done);
}

#if HAK_GUARDED
TEST(LockOrder, FallingOrEqualRanksEndTheProcess) {
  hak_lock low = HAK_LOCK_INIT(HAK_RANK_REGISTRY);
  hak_lock same = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock high = HAK_LOCK_INIT(HAK_RANK_POOL);
  const auto falling = [&] {
    hak_lock_acquire(&high);
    hak_lock_acquire(&low);
  };
  const auto equal = [&] {
    hak_lock_acquire(&high);
    hak_lock_acquire(&same);
  };
  HAK_EXPECT_FATAL(falling(), "lock order violated", &low);
  HAK_EXPECT_FATAL(equal(), "lock order violated", &same);
}

TEST(LockOrder, AnUnrankedReleaseTakesNoRankAway) {
  hak_lock same = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock other = HAK_LOCK_INIT(HAK_RANK_POOL);
  const auto equal = [&] {
    hak_lock_acquire(&same);
    hak_lock_acquire_unranked(&other);
    hak_lock_release_unranked(&other);
    hak_lock_acquire(&other);
  };
  HAK_EXPECT_FATAL(equal(), "lock order violated", &other);
}
#else
// Only OBSERVE and HARDENED check the order.
TEST(LockOrder, IsNotCheckedInThisProfile) {
  hak_lock low = HAK_LOCK_INIT(HAK_RANK_REGISTRY);
  hak_lock high = HAK_LOCK_INIT(HAK_RANK_POOL);
  hak_lock_acquire(&high);
  hak_lock_acquire(&low);
  EXPECT_EQ(State(low), 1u);
  hak_lock_release(&low);
  hak_lock_release(&high);
}
#endif

}  // namespace
