// SPDX-License-Identifier: Apache-2.0
//
// The fork gate: keeps all heap locks free during a fork without writing to them. The thread that forks closes the gate
// and waits until none of these locks is held. A thread that takes such a lock checks the gate afterwards, and releases
// the lock if the gate is closed. So a fork does not write to the records of idle threads, and its child does not copy
// their pages.
//
// The fork mark: a word that the kernel clears in the child of a fork. It detects children that are created without the
// fork handlers (clone, _Fork and similar calls), where locks that other threads held would stay held forever. Renewed,
// it is another number than the parent's.
#ifndef HAKMEM_OS_FORK_GATE_H_
#define HAKMEM_OS_FORK_GATE_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

extern HAK_ATOMIC(bool) hak_fork_gate_closed;

// The rest of hak_gated_acquire if the gate is closed. The calling thread holds the lock.
HAK_COLD void hak_fork_gate_wait(struct hak_lock *lock) HAK_REQUIRES(lock);
// The rest of hak_gated_acquire if the lock is not free.
HAK_COLD void hak_gated_slow(struct hak_lock *lock) HAK_ACQUIRE(lock);

// As hak_lock_acquire, for a lock behind the gate. hak_lock_release releases it.
HAK_INLINE void hak_gated_acquire(struct hak_lock *lock) HAK_ACQUIRE(lock)
    HAK_NO_THREAD_SAFETY_ANALYSIS("it is what taking the lock means") {
  hak_lock_rank_enter(lock);
  hak_lock_count_in();
  uint32_t expected = 0;
  // Seq_cst, as the load: either the thread that closes the gate sees the lock held, or this one sees the gate closed.
  // Relaxed on failure: the slow path reads the state again.
  if (HAK_UNLIKELY(!atomic_compare_exchange_strong_explicit(&lock->state, &expected, 1, memory_order_seq_cst,
                                                            memory_order_relaxed))) {
    hak_gated_slow(lock);
  } else if (HAK_UNLIKELY(atomic_load_explicit(&hak_fork_gate_closed, memory_order_seq_cst))) {
    hak_fork_gate_wait(lock);
  }
}

// Takes the lock if that needs no wait and the gate is open. Seq_cst: as in hak_gated_acquire.
HAK_INLINE bool hak_gated_try(struct hak_lock *lock) HAK_TRY_ACQUIRE(true, lock)
    HAK_NO_THREAD_SAFETY_ANALYSIS("it is what taking the lock means") {
  hak_lock_count_in();
  if (hak_lock_holds_all) return true;  // Within fork this thread holds every lock.
  uint32_t expected = 0;
  // Relaxed on failure: nothing is read under the lock.
  if (!atomic_compare_exchange_strong_explicit(&lock->state, &expected, 1, memory_order_seq_cst,
                                               memory_order_relaxed)) {
    hak_lock_count_out();
    return false;
  }
  // Seq_cst: as in hak_gated_acquire.
  if (HAK_UNLIKELY(atomic_load_explicit(&hak_fork_gate_closed, memory_order_seq_cst))) {
    hak_lock_release_unranked(lock);  // Nothing has changed under it.
    return false;
  }
  hak_lock_rank_enter(lock);
  return true;
}

// Between close and open no other thread keeps a lock behind the gate. After close, call wait_free for each of these
// locks.
void hak_fork_gate_close(void);
void hak_fork_gate_wait_free(struct hak_lock *lock) HAK_EXCLUDES(lock);
void hak_fork_gate_open(void);
// In the child of a fork: frees a lock whatever its state is, because no thread there holds it.
void hak_fork_gate_reset(struct hak_lock *lock);

// Called once, before a second thread can wait for a lock.
void hak_fork_mark_init(void);
// Called in the child of a fork by the fork handler; in a child without handlers when a second thread arrives.
void hak_fork_mark_renew(void);
// A thread that had no heap has arrived in such a child. If it is not the first thread, the mark is renewed.
void hak_fork_mark_note_thread(void);

HAK_C_END

#endif  // HAKMEM_OS_FORK_GATE_H_
