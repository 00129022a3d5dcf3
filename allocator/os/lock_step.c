// SPDX-License-Identifier: Apache-2.0
//
// Counts the threads that make a system call outside a lock, and the wait of fork for them.
#include "allocator/os/lock_step.h"

#include "allocator/os/futex.h"

// Relaxed, both: the lock does the ordering.
static uint32_t get_outside(struct hak_lock_steps *steps) {
  return atomic_load_explicit(&steps->outside, memory_order_relaxed);
}
static void set_outside(struct hak_lock_steps *steps, uint32_t count) {
  atomic_store_explicit(&steps->outside, count, memory_order_relaxed);
}

// In a child that was created without the fork handlers the lock may have been free, so that its holders' loss is not
// noticed, while threads of the parent had stepped out. They never step in here. What was counted at the mark 0 was
// counted in this process.
static HAK_NOINLINE void forget_parents_threads(struct hak_lock_steps *steps) {
  if (hak_lock_fork_word == NULL) return;
  const uint32_t mark = atomic_load_explicit(hak_lock_fork_word, memory_order_relaxed);  // Relaxed: it orders nothing.
  if (HAK_LIKELY(steps->mark == mark)) return;
  if (steps->mark != 0) set_outside(steps, 0);
  steps->mark = mark;
}

HAK_NO_THREAD_SAFETY_ANALYSIS("the lock counts as held until hak_lock_step_in")
bool hak_lock_step_out(struct hak_lock *lock, struct hak_lock_steps *steps) {
  forget_parents_threads(steps);
  if (steps->forking) return false;
  set_outside(steps, get_outside(steps) + 1);
  // This still counts as within a lock: otherwise a fork in a signal handler of this thread would wait for the
  // interrupted call.
  hak_lock_count_in();
  hak_lock_release(lock);
  return true;
}

HAK_NO_THREAD_SAFETY_ANALYSIS("the other half")
void hak_lock_step_in(struct hak_lock *lock, struct hak_lock_steps *steps, bool out) {
  if (!out) return;
  hak_lock_acquire(lock);
  hak_lock_count_out();
  // It is 0 if this thread alone exists in a child, where its signal handler has made the count anew.
  const uint32_t count = get_outside(steps);
  if (HAK_LIKELY(count != 0)) set_outside(steps, count - 1);
  // All: one that sleeps in hak_lock_wait_for_others would take the wake-up of the fork, which nobody repeats.
  if (HAK_UNLIKELY(steps->forking) && count <= 1) hak_futex_wake(&steps->outside, INT_MAX);
}

#define WAIT_MS 1u

bool hak_lock_wait_for_others(struct hak_lock *lock, struct hak_lock_steps *steps) {
  forget_parents_threads(steps);
  const uint32_t now = get_outside(steps);
  if (now == 0 || steps->forking) return false;
  hak_lock_release(lock);
  // Nobody wakes it, because that would cost a system call each time a thread steps in.
  hak_futex_wait(&steps->outside, now, WAIT_MS);
  hak_lock_acquire(lock);
  return true;
}

void hak_lock_wait_for_fork(struct hak_lock *lock, struct hak_lock_steps *steps) {
  steps->forking = true;
  forget_parents_threads(steps);
  for (uint32_t left; (left = get_outside(steps)) != 0;) {
    // In a process that was created without fork handlers the other threads do not exist.
    if (hak_lock_is_left_alone()) {
      set_outside(steps, 0);
      break;
    }
    hak_lock_release(lock);
    hak_futex_wait(&steps->outside, left, HAK_FUTEX_FOR_EVER);
    hak_lock_acquire(lock);
  }
}

void hak_lock_fork_is_over(struct hak_lock_steps *steps) { steps->forking = false; }

HAK_COLD void hak_lock_steps_forget(struct hak_lock_steps *steps) {
  steps->forking = false;
  set_outside(steps, 0);
}
