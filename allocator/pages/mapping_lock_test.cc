// SPDX-License-Identifier: Apache-2.0
#include "allocator/pages/mapping_lock.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "allocator/os/lock.h"
#include "allocator/os/unit_test.h"

namespace {

void InAnotherThread(void (*run)()) { std::thread(run).join(); }

// A thread that has stepped out does not make others wait, but a signal handler must not wait for the call that it
// interrupted.
TEST(MappingLock, OthersComeInWhileOneIsOut) {
  hak_mapping_lock();
  const bool out = hak_mapping_step_out();
  EXPECT_TRUE(out);
  EXPECT_TRUE(hak_lock_is_within());
  InAnotherThread([] {
    hak_mapping_lock();
    const bool too = hak_mapping_step_out();
    EXPECT_TRUE(too);
    hak_mapping_step_in(too);
    hak_mapping_unlock();
  });
  hak_mapping_step_in(out);
  hak_mapping_unlock();
  EXPECT_FALSE(hak_lock_is_within());
}

TEST(MappingLock, ATryTakesItOnlyIfItIsFree) {
  const auto tries = [](bool *took) {
    std::thread([took] {
      *took = hak_mapping_try_lock();
      if (*took) hak_mapping_unlock();
      EXPECT_FALSE(hak_lock_is_within());
    }).join();
  };
  bool took = false;
  tries(&took);
  EXPECT_TRUE(took);
  ASSERT_TRUE(hak_mapping_try_lock());
  EXPECT_TRUE(hak_lock_is_within());
  tries(&took);
  EXPECT_FALSE(took);
  hak_mapping_unlock();
  tries(&took);
  EXPECT_TRUE(took);
}

TEST(MappingLock, AForkWaitsForWhoIsOut) {
  static std::atomic<bool> locked;
  locked = false;
  hak_mapping_lock();
  const bool out = hak_mapping_step_out();
  std::thread fork([] {
    hak_mapping_lock_for_fork();
    locked = true;
    hak_mapping_unlock_after_fork();
  });
  // As soon as fork waits, no other thread steps out.
  static std::atomic<bool> shut;
  shut = false;
  while (!shut) {
    InAnotherThread([] {
      hak_mapping_lock();
      const bool too = hak_mapping_step_out();
      hak_mapping_step_in(too);
      shut = !too;
      hak_mapping_unlock();
    });
  }
  EXPECT_FALSE(locked);
  hak_mapping_step_in(out);
  hak_mapping_unlock();
  fork.join();
  EXPECT_TRUE(locked);
  hak_mapping_lock();
  const bool again = hak_mapping_step_out();
  EXPECT_TRUE(again);
  hak_mapping_step_in(again);
  hak_mapping_unlock();
}

TEST(MappingLock, WaitsAsLongAsSomebodyIsOut) {
  hak_mapping_lock();
  EXPECT_FALSE(hak_mapping_wait_for_others()) << "nobody is";
  hak_mapping_unlock();
  static std::atomic<bool> is_out;
  static std::atomic<bool> may_come;
  is_out = may_come = false;
  std::thread other([] {
    hak_mapping_lock();
    const bool out = hak_mapping_step_out();
    is_out = true;
    while (!may_come) std::this_thread::yield();
    hak_mapping_step_in(out);
    hak_mapping_unlock();
  });
  while (!is_out) std::this_thread::yield();
  hak_mapping_lock();
  for (int i = 0; i < 3; i++) EXPECT_TRUE(hak_mapping_wait_for_others());
  may_come = true;
  // It lets the other thread in.
  while (hak_mapping_wait_for_others()) {
  }
  hak_mapping_unlock();
  other.join();
}

// Whoever steps in last wakes the fork, even if others sleep at that moment until somebody steps in.
TEST(MappingLock, AForkIsWokenAmongOthersThatSleep) {
  signal(SIGUSR1, [](int) {});
  for (int round = 0; round < 300 && !testing::Test::HasFailure(); round++) {
    static std::atomic<bool> out;
    static std::atomic<bool> locked;
    static std::atomic<bool> shut;
    out = locked = shut = false;
    std::thread outside([] {
      hak_mapping_lock();
      const bool stepped = hak_mapping_step_out();
      out = true;
      while (!shut) std::this_thread::yield();
      hak_mapping_step_in(stepped);
      hak_mapping_unlock();
    });
    while (!out) std::this_thread::yield();
    std::vector<std::thread> waiters;
    for (int i = 0; i < 4; i++) {
      waiters.emplace_back([] {
        hak_mapping_lock();
        while (hak_mapping_wait_for_others()) {
        }
        // Nobody waits any more because of the fork: it sleeps, or is about to.
        hak_mapping_unlock();
        shut = true;
      });
    }
    std::thread fork([] {
      hak_mapping_lock_for_fork();
      locked = true;
      hak_mapping_unlock_after_fork();
    });
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!locked && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    EXPECT_TRUE(locked) << "round " << round;
    // A signal wakes the fork for the end of the test.
    while (!locked) pthread_kill(fork.native_handle(), SIGUSR1);
    fork.join();
    outside.join();
    for (std::thread &waiter : waiters) waiter.join();
  }
}

TEST(MappingLock, WithinAForkTheCallIsMadeUnderTheLock) {
  hak_mapping_lock_for_fork();
  EXPECT_FALSE(hak_mapping_step_out());
  hak_mapping_step_in(false);
  EXPECT_FALSE(hak_mapping_wait_for_others());
  hak_mapping_unlock_after_fork();
  EXPECT_FALSE(hak_lock_is_within());
}

// A child that was created without fork handlers, while another thread had stepped out, waits for nobody.
TEST(MappingLock, ThreadsThatDoNotExistAreNotWaitedFor) {
  hak_mapping_lock();
  const bool out = hak_mapping_step_out();
  static HAK_ATOMIC(uint32_t) word;
  word = 0;
  hak_lock_fork_word = &word;
  InAnotherThread([] {
    hak_mapping_lock_for_fork();
    hak_mapping_unlock_after_fork();
  });
  hak_lock_fork_word = nullptr;
  // The parent does this; its count is separate.
  hak_mapping_lock();
  const bool undone = hak_mapping_step_out();
  hak_mapping_step_in(undone);
  hak_mapping_unlock();
  hak_lock_count_out();
  EXPECT_TRUE(out);
  EXPECT_FALSE(hak_lock_is_within());
}

// The same once the child has a second thread, and so a mark of its own.
TEST(MappingLock, ThreadsOfTheParentAreNotWaitedForLater) {
  EXPECT_EQ(hak_unit::ResultInChild([] {
              static HAK_ATOMIC(uint32_t) word;
              word = 1;
              hak_lock_fork_word = &word;
              hak_mapping_lock();
              if (!hak_mapping_step_out()) return 1;
              word = 3;
              InAnotherThread([] {
                hak_mapping_lock();
                if (hak_mapping_wait_for_others()) _exit(2);
                hak_mapping_unlock();
                hak_mapping_lock_for_fork();
                hak_mapping_unlock_after_fork();
              });
              return 0;
            }),
            0);
}

// A thread that stepped out while it was the child's only one exists, and is waited for.
TEST(MappingLock, TheFirstThreadOfTheChildIsWaitedFor) {
  EXPECT_EQ(hak_unit::ResultInChild([] {
              static HAK_ATOMIC(uint32_t) word;
              word = 1;
              hak_lock_fork_word = &word;
              hak_mapping_lock();
              const bool of_parent = hak_mapping_step_out();
              hak_mapping_lock();
              word = 0;
              const bool out = hak_mapping_step_out();
              word = 3;
              InAnotherThread([] {
                hak_mapping_lock();
                if (!hak_mapping_wait_for_others()) _exit(2);
                hak_mapping_unlock();
              });
              hak_mapping_step_in(out);
              if (hak_mapping_wait_for_others()) return 3;
              hak_mapping_unlock();
              return of_parent && out ? 0 : 1;
            }),
            0);
}

}  // namespace
