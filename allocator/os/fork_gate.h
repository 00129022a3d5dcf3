// SPDX-License-Identifier: Apache-2.0
//
// What fork needs of locks of which there are many, one for each thread: a gate that keeps everybody out of all of them
// while none of them is written to. The thread that forks closes the gate and waits until no lock is held; whoever
// takes a lock looks at the gate afterwards, and steps back when it is closed. So a fork does not touch, and its child
// does not copy, the records of threads that do nothing.
//
// And a word that the kernel clears in the child of a fork, for children that are made without the handlers of fork
// (clone, vfork's kin, _Fork): the locks that other threads held are held for ever there.
#ifndef HAKMEM_OS_FORK_GATE_H_
#define HAKMEM_OS_FORK_GATE_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

extern HAK_ATOMIC(bool) hak_fork_gate_closed;

// The rest of hak_gated_acquire where the gate is closed; the calling thread has the lock.
HAK_COLD void hak_fork_gate_wait(struct hak_lock *lock) HAK_REQUIRES(lock);
// And where the lock is not free.
HAK_COLD void hak_gated_slow(struct hak_lock *lock) HAK_ACQUIRE(lock);

// hak_lock_acquire for a lock behind the gate; hak_lock_release gives it back.
HAK_INLINE void hak_gated_acquire(struct hak_lock *lock) HAK_ACQUIRE(lock)
    HAK_NO_THREAD_SAFETY_ANALYSIS("it is what taking the lock means") {
  hak_lock_rank_enter(lock);
  hak_lock_count_in();
  uint32_t expected = 0;
  // Seq_cst, as the load: either the thread that closes the gate sees the lock held, or this one sees
  // the gate closed. Relaxed on failure: the slow path looks again.
  if (HAK_UNLIKELY(!atomic_compare_exchange_strong_explicit(&lock->state, &expected, 1, memory_order_seq_cst,
                                                            memory_order_relaxed))) {
    hak_gated_slow(lock);
  } else if (HAK_UNLIKELY(atomic_load_explicit(&hak_fork_gate_closed, memory_order_seq_cst))) {
    hak_fork_gate_wait(lock);
  }
}

// The lock if that takes no wait, and the gate is open. Seq_cst: as in hak_gated_acquire.
HAK_INLINE bool hak_gated_try(struct hak_lock *lock) HAK_TRY_ACQUIRE(true, lock)
    HAK_NO_THREAD_SAFETY_ANALYSIS("it is what taking the lock means") {
  hak_lock_count_in();
  if (hak_lock_holds_all) return true;  // Within fork: it has the lock anyway, and keeps it.
  uint32_t expected = 0;
  // Relaxed on failure: nothing is read under the lock.
  if (!atomic_compare_exchange_strong_explicit(&lock->state, &expected, 1, memory_order_seq_cst,
                                               memory_order_relaxed)) {
    hak_lock_count_out();
    return false;
  }
  // Seq_cst: as in hak_gated_acquire.
  if (HAK_UNLIKELY(atomic_load_explicit(&hak_fork_gate_closed, memory_order_seq_cst))) {
    hak_lock_release_unranked(lock);  // Nothing was done under it.
    return false;
  }
  hak_lock_rank_enter(lock);
  return true;
}

// From close to open no lock behind the gate is taken by another thread. After close: wait_free for each of them.
void hak_fork_gate_close(void);
void hak_fork_gate_wait_free(struct hak_lock *lock) HAK_EXCLUDES(lock);
void hak_fork_gate_open(void);
// In the child: nobody there holds the lock, whatever it says.
void hak_fork_gate_reset(struct hak_lock *lock);

// Called once, before there are threads that wait for locks.
void hak_fork_mark_init(void);
// In the child of a fork, by its handler; and when a process that was made without it gets another thread.
void hak_fork_mark_renew(void);

HAK_C_END

#endif  // HAKMEM_OS_FORK_GATE_H_
