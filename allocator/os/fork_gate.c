// SPDX-License-Identifier: Apache-2.0
//
// The gate that keeps heap locks free during a fork, and the mark of children without fork handlers.
#include "allocator/os/fork_gate.h"

#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/os/sys_call.h"

HAK_ATOMIC(bool) hak_fork_gate_closed;
// Held while the gate is closed.
static struct hak_lock gate = HAK_LOCK_INIT(HAK_RANK_NONE);

HAK_COLD void hak_fork_gate_wait(struct hak_lock *lock) {
  if (hak_lock_holds_all) {
    // This thread is within fork and holds every lock, so it frees the state that it has just taken. Release: as the
    // release below.
    if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2) hak_lock_wake(lock);
    return;
  }
  // Seq_cst: as in hak_gated_acquire.
  while (atomic_load_explicit(&hak_fork_gate_closed, memory_order_seq_cst)) {
    if (hak_report_is_ending()) return;  // The process ends: keeps the lock, and waits for no other thread.
    if (hak_lock_is_left_alone()) {
      // The thread that forks does not exist in this process. Relaxed: there is no other thread.
      atomic_store_explicit(&hak_fork_gate_closed, false, memory_order_relaxed);
      return;
    }
    // Nothing has changed under the lock yet.
    hak_lock_release_unranked(lock);
    hak_lock_acquire_unranked(&gate);
    hak_lock_release_unranked(&gate);
    hak_lock_acquire_unranked(lock);
    // Seq_cst: makes the acquisition as strong as that of hak_gated_acquire.
    atomic_fetch_or_explicit(&lock->state, 0, memory_order_seq_cst);
  }
}

HAK_COLD void hak_gated_slow(struct hak_lock *lock)
    HAK_NO_THREAD_SAFETY_ANALYSIS("hak_lock_slow does what taking the lock means") {
  hak_lock_slow(lock);
  if (hak_lock_holds_all) return;
  // Seq_cst, both: as in hak_fork_gate_wait.
  atomic_fetch_or_explicit(&lock->state, 0, memory_order_seq_cst);
  if (atomic_load_explicit(&hak_fork_gate_closed, memory_order_seq_cst)) hak_fork_gate_wait(lock);
}

void hak_fork_gate_close(void) HAK_NO_THREAD_SAFETY_ANALYSIS("hak_fork_gate_open gives the lock back") {
  hak_lock_acquire_unranked(&gate);
  // Seq_cst: as in hak_gated_acquire.
  atomic_store_explicit(&hak_fork_gate_closed, true, memory_order_seq_cst);
}

void hak_fork_gate_wait_free(struct hak_lock *lock) {
  // Seq_cst: as in hak_gated_acquire.
  if (HAK_LIKELY(atomic_load_explicit(&lock->state, memory_order_seq_cst) == 0)) return;
  // Takes the lock and releases it: this wakes the next waiting thread, which then finds the gate closed and releases
  // the lock too.
  hak_lock_acquire_unranked(lock);
  hak_lock_release_unranked(lock);
}

void hak_fork_gate_open(void) HAK_NO_THREAD_SAFETY_ANALYSIS("hak_fork_gate_close took the lock") {
  // Release: a thread that finds the gate open sees what was done meanwhile.
  atomic_store_explicit(&hak_fork_gate_closed, false, memory_order_release);
  hak_lock_release_unranked(&gate);
}

// Relaxed: the child has one thread.
void hak_fork_gate_reset(struct hak_lock *lock) { atomic_store_explicit(&lock->state, 0, memory_order_relaxed); }

// ---- Children without handlers ------------------------------------------------------------------

// The mark of this process or, while its own is 0, of its parent; odd. In memory that children inherit.
static HAK_ATOMIC(uint32_t) latest_mark = 1;

void hak_fork_mark_init(void) {
  HAK_ATOMIC(uint32_t) *const word = hak_os_map(hak_os_page_size(), hak_os_page_size());
  if (word == NULL) return;
  if (!hak_os_wipe_on_fork(word, hak_os_page_size())) {
    (void)hak_os_unmap(word, hak_os_page_size());
    return;
  }
  // Relaxed, as all accesses to the word: it orders nothing.
  atomic_store_explicit(word, 1, memory_order_relaxed);
  hak_lock_fork_word = word;
}

HAK_COLD void hak_fork_mark_note_thread(void) {
  // The child's first thread bears the number of the process. It is alone although it may never have called before.
  const bool first = hak_sys_gettid() == hak_sys_getpid();
  if (!first) hak_fork_mark_renew();
}

void hak_fork_mark_renew(void) {
  HAK_ATOMIC(uint32_t) *const word = hak_lock_fork_word;
  if (word == NULL) return;
  // Relaxed, all: they order nothing. If two threads come here at once, the mark of the first one stays.
  const uint32_t mark = atomic_fetch_add_explicit(&latest_mark, 2, memory_order_relaxed) + 2;
  uint32_t none = 0;
  atomic_compare_exchange_strong_explicit(word, &none, mark, memory_order_relaxed, memory_order_relaxed);
}
