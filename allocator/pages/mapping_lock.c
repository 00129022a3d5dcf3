// SPDX-License-Identifier: Apache-2.0
//
// The lock on the records of mappings, and the wait of fork for system calls made outside it.
#include "allocator/pages/mapping_lock.h"

#include "allocator/os/futex.h"
#include "allocator/os/lock.h"

struct hak_lock hak_mapping_mutex = HAK_LOCK_INIT(HAK_RANK_MAPPING);
// Threads that have released the lock for a system call. Written under the lock; fork sleeps until it changes.
static HAK_ATOMIC(uint32_t) outside;
// A fork waits or is in progress. Under the lock.
static bool forking HAK_GUARDED_BY(hak_mapping_mutex);
static uint32_t losses HAK_GUARDED_BY(hak_mapping_mutex);
void hak_mapping_unlock(void) { hak_lock_release(&hak_mapping_mutex); }
void hak_mapping_pass(void) { hak_lock_pass(&hak_mapping_mutex); }

// Relaxed, both: the lock does the ordering.
static uint32_t get_outside(void) { return atomic_load_explicit(&outside, memory_order_relaxed); }
static void set_outside(uint32_t count) { atomic_store_explicit(&outside, count, memory_order_relaxed); }

static HAK_COLD void note_loss(void) HAK_REQUIRES(hak_mapping_mutex) {
  losses++;
  forking = false;
  set_outside(0);
}

void hak_mapping_lock(void) {
  hak_lock_acquire(&hak_mapping_mutex);
  if (HAK_UNLIKELY(hak_lock_was_orphaned(&hak_mapping_mutex))) note_loss();
}
bool hak_mapping_try_lock(void) { return hak_lock_try(&hak_mapping_mutex); }
uint32_t hak_mapping_losses(void) { return losses; }

HAK_NO_THREAD_SAFETY_ANALYSIS("the lock counts as held until hak_mapping_step_in")
bool hak_mapping_step_out(void) {
  if (forking) return false;
  set_outside(get_outside() + 1);
  // This still counts as within a lock: otherwise a fork in a signal handler of this thread would wait for the
  // interrupted call.
  hak_lock_count_in();
  hak_lock_release(&hak_mapping_mutex);
  return true;
}

HAK_NO_THREAD_SAFETY_ANALYSIS("the other half")
void hak_mapping_step_in(bool out) {
  if (!out) return;
  hak_lock_acquire(&hak_mapping_mutex);
  hak_lock_count_out();
  set_outside(get_outside() - 1);
  // All: one that sleeps in hak_mapping_wait_for_others would take the wake-up of the fork, which nobody repeats.
  if (HAK_UNLIKELY(forking) && get_outside() == 0) hak_futex_wake(&outside, INT_MAX);
}

#define WAIT_MS 1u

bool hak_mapping_wait_for_others(void) {
  const uint32_t now = get_outside();
  if (now == 0 || forking) return false;
  hak_lock_release(&hak_mapping_mutex);
  // Nobody wakes it, because that would cost a system call each time a thread steps in.
  hak_futex_wait(&outside, now, WAIT_MS);
  hak_lock_acquire(&hak_mapping_mutex);
  return true;
}

void hak_mapping_lock_for_fork(void) {
  hak_mapping_lock();
  forking = true;
  for (uint32_t left; (left = get_outside()) != 0;) {
    // In a process that was created without fork handlers the other threads do not exist.
    if (hak_lock_is_left_alone()) {
      set_outside(0);
      break;
    }
    hak_lock_release(&hak_mapping_mutex);
    hak_futex_wait(&outside, left, HAK_FUTEX_FOR_EVER);
    hak_lock_acquire(&hak_mapping_mutex);
  }
}

void hak_mapping_unlock_after_fork(void) {
  forking = false;
  hak_lock_release(&hak_mapping_mutex);
}
