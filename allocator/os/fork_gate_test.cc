// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/fork_gate.h"

#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "allocator/os/unit_test.h"

namespace {

constexpr int kLocks = 3;

void Reset(hak_lock *lock) {
  lock->state = 0;
  lock->rank = HAK_RANK_HEAP;
}

// Threads take one lock after another and change what it guards. While the gate is closed nothing changes.
TEST(ForkGate, KeepsEverybodyOut) {
  static hak_lock locks[kLocks];
  static std::atomic<uint64_t> begun[kLocks];
  static std::atomic<uint64_t> done[kLocks];
  for (hak_lock &lock : locks) Reset(&lock);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; !stop; i = (i + 1) % kLocks) {
        hak_gated_acquire(&locks[i]);
        begun[i]++;
        done[i]++;
        hak_lock_release(&locks[i]);
      }
    });
  }
  const int rounds = hak_unit::Operations(2000);
  for (int round = 0; round < rounds && !HasFailure(); ++round) {
    hak_fork_gate_close();
    for (hak_lock &lock : locks) hak_fork_gate_wait_free(&lock);
    uint64_t before[kLocks];
    for (int i = 0; i < kLocks; ++i) {
      before[i] = begun[i];
      EXPECT_EQ(before[i], done[i]);
    }
    if (round % 16 == 0) std::this_thread::yield();
    for (int i = 0; i < kLocks; ++i) EXPECT_EQ(begun[i], before[i]);
    hak_fork_gate_open();
    if (round % 4 == 0) std::this_thread::yield();
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();
  for (const hak_lock &lock : locks) EXPECT_EQ(lock.state.load(), 0u);
}

// The thread that forks passes the closed gate, and leaves no lock held.
TEST(ForkGate, LetsTheThreadThatForksThrough) {
  hak_lock lock = {};
  Reset(&lock);
  hak_fork_gate_close();
  hak_fork_gate_wait_free(&lock);
  hak_lock_holds_all = true;
  hak_gated_acquire(&lock);
  EXPECT_EQ(lock.state.load(), 0u);
  hak_lock_release(&lock);
  hak_lock_holds_all = false;
  hak_fork_gate_open();
  hak_gated_acquire(&lock);
  EXPECT_EQ(lock.state.load(), 1u);
  hak_lock_release(&lock);
  EXPECT_EQ(lock.state.load(), 0u);
  EXPECT_FALSE(hak_lock_is_within());
}

// hak_gated_try waits neither for the lock nor for the gate, and a failed try changes nothing.
TEST(ForkGate, TryingDoesNotWait) {
  hak_lock lock = {};
  Reset(&lock);
  ASSERT_TRUE(hak_gated_try(&lock));
  EXPECT_TRUE(hak_lock_is_within());
  std::thread([&lock] {
    EXPECT_FALSE(hak_gated_try(&lock));
    EXPECT_FALSE(hak_lock_is_within());
  }).join();
  hak_lock_release(&lock);
  EXPECT_EQ(lock.state.load(), 0u);
  hak_fork_gate_close();
  std::thread([&lock] {
    EXPECT_FALSE(hak_gated_try(&lock));
    EXPECT_FALSE(hak_lock_is_within());
  }).join();
  EXPECT_EQ(lock.state.load(), 0u);
  // The thread that forks passes the closed gate.
  hak_lock_holds_all = true;
  EXPECT_TRUE(hak_gated_try(&lock));
  hak_lock_release(&lock);
  hak_lock_holds_all = false;
  hak_fork_gate_open();
  EXPECT_EQ(lock.state.load(), 0u);
  EXPECT_FALSE(hak_lock_is_within());
}

// A lock that a thread of the parent held does not stop a child that was created without fork handlers, until the child
// has a second thread.
TEST(ForkGate, LocksOfThreadsThatDoNotExistAreTaken) {
  static HAK_ATOMIC(uint32_t) word;
  hak_lock lock = {};
  Reset(&lock);
  auto *const before = hak_lock_fork_word;
  hak_lock_fork_word = &word;
  lock.state = 1;
  EXPECT_TRUE(hak_lock_is_left_alone());
  hak_gated_acquire(&lock);
  hak_lock_release(&lock);
  EXPECT_EQ(lock.state.load(), 0u);
  hak_fork_mark_renew();
  EXPECT_FALSE(hak_lock_is_left_alone());
  const uint32_t mark = word;
  hak_fork_mark_renew();
  EXPECT_EQ(word, mark) << "another thread that arrived at the same time";
  word = 0;
  hak_fork_mark_renew();
  EXPECT_FALSE(hak_lock_is_left_alone());
  EXPECT_NE(word, mark) << "a child has another mark than its parent";
  hak_lock_fork_word = before;
}

// The thread that closed the gate for its fork does not exist in a child that another thread created meanwhile.
TEST(ForkGate, AGateThatNobodyOpensIsOpened) {
  const int result = hak_unit::ResultInChild([] {
    hak_lock lock = {};
    Reset(&lock);
    hak_fork_gate_close();
    hak_unit::LoseHolder(&lock);
    hak_gated_acquire(&lock);
    hak_lock_release(&lock);
    return lock.state.load() == 0 && hak_gated_try(&lock) ? 0 : 1;
  });
  EXPECT_EQ(result, 0);
}

}  // namespace
