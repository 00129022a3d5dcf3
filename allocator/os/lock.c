// SPDX-License-Identifier: Apache-2.0
//
// The slow paths of the lock, and the check of the lock order.
#include "allocator/os/lock.h"

#include "allocator/os/futex.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"

HAK_INLINE void cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

__thread bool hak_lock_holds_all __attribute__((tls_model("initial-exec")));

__thread uint32_t hak_locks_held __attribute__((tls_model("initial-exec")));
HAK_ATOMIC(uint32_t) * hak_lock_fork_word;
HAK_ATOMIC(uint32_t) hak_lock_ranks_orphaned;

#if HAK_OBSERVE
// Relaxed, all of them: statistics.
static HAK_ATOMIC(uint64_t) long_waits;
static HAK_ATOMIC(uint64_t) longest_us;

static void note_wait(const struct hak_lock *lock, uint64_t since_us) {
  const uint64_t us = hak_os_now_us() - since_us;
  if (lock->rank == HAK_RANK_NONE || us < HAK_LOCK_LONG_US) return;
  atomic_fetch_add_explicit(&long_waits, 1, memory_order_relaxed);
  uint64_t longest = atomic_load_explicit(&longest_us, memory_order_relaxed);
  while (us > longest && !atomic_compare_exchange_weak_explicit(&longest_us, &longest, us, memory_order_relaxed,
                                                                memory_order_relaxed)) {
  }
}

struct hak_lock_waits hak_lock_waits(void) {
  const struct hak_lock_waits now = {.count = atomic_load_explicit(&long_waits, memory_order_relaxed),
                                     .longest_us = atomic_load_explicit(&longest_us, memory_order_relaxed)};
  return now;
}
#else
static void note_wait(const struct hak_lock *lock, uint64_t since_us) {
  (void)lock;
  (void)since_us;
}
struct hak_lock_waits hak_lock_waits(void) { return (struct hak_lock_waits){.count = 0, .longest_us = 0}; }
#endif

HAK_COLD void hak_lock_slow(struct hak_lock *lock) {
  if (hak_lock_holds_all) return;
  // Critical sections are short: spinning for a moment avoids most sleeps.
  for (int spin = 0; spin < 64; spin++) {
    uint32_t expected = 0;
    // Relaxed: only to wait without writing. Acquire: sees what the last holder wrote.
    if (atomic_load_explicit(&lock->state, memory_order_relaxed) == 0 &&
        atomic_compare_exchange_strong_explicit(&lock->state, &expected, 1, memory_order_acquire,
                                                memory_order_relaxed)) {
      return;
    }
    cpu_relax();
  }
  const uint64_t since_us = HAK_OBSERVE ? hak_os_now_us() : 0;
  // Acquire as above. The state stays 2 while this thread holds the lock: others may sleep too.
  while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0) {
    if (hak_report_is_ending()) break;
    if (hak_lock_is_left_alone()) {
      // Relaxed: see hak_lock_was_orphaned.
      atomic_fetch_or_explicit(&hak_lock_ranks_orphaned, 1u << lock->rank, memory_order_relaxed);
      break;
    }
    hak_futex_wait(&lock->state, 2, HAK_FUTEX_FOR_EVER);
  }
  note_wait(lock, since_us);
}

HAK_COLD void hak_lock_wake(struct hak_lock *lock) { hak_futex_wake(&lock->state, 1); }

// How often hak_lock_pass checks whether the woken thread has the lock: longer than waking up on another processor
// takes.
#define PASS_CHECKS 4096

HAK_COLD void hak_lock_pass(struct hak_lock *lock) {
  if (HAK_LIKELY(!hak_lock_is_wanted(lock))) return;
  hak_lock_release(lock);
  // Without this the woken thread would mostly find the lock taken again. Relaxed: only to wait.
  for (int i = 0; i < PASS_CHECKS && atomic_load_explicit(&lock->state, memory_order_relaxed) == 0; i++) {
    cpu_relax();
  }
  hak_lock_acquire(lock);
}

#if HAK_GUARDED
// Bit r: this thread holds a lock of rank r.
static _Thread_local uint32_t held_ranks;

void hak_lock_rank_enter(const struct hak_lock *lock) {
  if (hak_lock_holds_all) return;
  if ((held_ranks >> lock->rank) != 0 && !hak_report_is_ending()) hak_fatal("lock order violated", lock);
  held_ranks |= 1u << lock->rank;
}

void hak_lock_rank_leave(const struct hak_lock *lock) {
  if (!hak_lock_holds_all) held_ranks &= ~(1u << lock->rank);
}
#endif
