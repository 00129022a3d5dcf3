// SPDX-License-Identifier: Apache-2.0
//
// A small futex lock with a rank. It needs neither allocation nor destruction, and the child of a fork may release a
// lock that the thread held in the parent, which is not guaranteed for a pthread mutex.
//
// Lock order: a thread that holds a lock takes only locks of a higher rank. OBSERVE and HARDENED check it at run time.
// A thread that ends the process (os/report.h) gets every lock at once.
#ifndef HAKMEM_OS_LOCK_H_
#define HAKMEM_OS_LOCK_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

enum hak_lock_rank {
  HAK_RANK_NONE = 0,        // outside the order: the fork gate, which is closed for as long as a fork takes
  HAK_RANK_INIT = 1,        // process initialisation
  HAK_RANK_REGISTRY = 2,    // list of thread heaps
  HAK_RANK_HEAP = 3,        // one thread's heap, except the tops and slots of its caches
  HAK_RANK_QUARANTINE = 4,  // freed blocks of one thread that may not be used again yet
  HAK_RANK_ORPHANAGE = 5,   // the heap of ended threads
  HAK_RANK_POOL = 6,        // superslabs and their free slabs
  HAK_RANK_MAPPING = 7,     // the page heap, and guarded blocks
  HAK_RANK_PROF = 8,        // samples and their stacks
  HAK_RANK_META = 9,        // memory for the allocator's own records
};

struct HAK_CAPABILITY("lock") hak_lock {
  HAK_ATOMIC(uint32_t) state;  // 0 free, 1 held, 2 held and a thread may sleep
  uint32_t rank;               // constant
};
#define HAK_LOCK_INIT(r) {.state = 0, .rank = (r)}

// True during fork: the calling thread then holds every lock, and acquiring or releasing one changes nothing. The
// program's fork handlers, which may allocate, run in this state.
extern __thread bool hak_lock_holds_all __attribute__((tls_model("initial-exec")));

// How many locks the calling thread holds or is about to take. A signal handler that interrupted the thread must not
// wait for these.
extern __thread uint32_t hak_locks_held __attribute__((tls_model("initial-exec")));
// Volatile: a signal handler of the same thread reads it between any two steps.
HAK_INLINE void hak_lock_count_in(void) { (*(volatile uint32_t *)&hak_locks_held)++; }
HAK_INLINE void hak_lock_count_out(void) { (*(volatile uint32_t *)&hak_locks_held)--; }
HAK_INLINE bool hak_lock_is_within(void) { return *(volatile uint32_t *)&hak_locks_held != 0; }

// The fork mark (os/fork_gate.h): 0 in a child that was created without the fork handlers, as long as only one thread
// uses the allocator there. If that thread has to wait for a lock, the holder does not exist in the child, so the
// thread takes the lock. Otherwise a number that the parent does not have. NULL: such children are not detected. Set
// once.
extern HAK_ATOMIC(uint32_t) * hak_lock_fork_word;
// Relaxed: nothing else is read by it.
HAK_INLINE bool hak_lock_is_left_alone(void) {
  return hak_lock_fork_word != NULL && atomic_load_explicit(hak_lock_fork_word, memory_order_relaxed) == 0;
}

// Bit r: a lock of rank r was taken from a thread that does not exist in this process (hak_lock_is_left_alone). What
// the lock guards may be half changed. Relaxed: it is read and written by the thread that took the lock.
extern HAK_ATOMIC(uint32_t) hak_lock_ranks_orphaned;
// Whether that happened since the last call for a lock of this rank. For the holder of the lock.
HAK_INLINE bool hak_lock_was_orphaned(const struct hak_lock *lock) {
  const uint32_t bit = 1u << lock->rank;
  if (HAK_LIKELY((atomic_load_explicit(&hak_lock_ranks_orphaned, memory_order_relaxed) & bit) == 0)) return false;
  atomic_fetch_and_explicit(&hak_lock_ranks_orphaned, ~bit, memory_order_relaxed);
  return true;
}

// How many waits for a lock took HAK_LOCK_LONG_US or more, and the longest, except for the fork gate. Counted in
// OBSERVE.
#define HAK_LOCK_LONG_US 1000u
struct hak_lock_waits {
  uint64_t count;
  uint64_t longest_us;
};
struct hak_lock_waits hak_lock_waits(void);

void hak_lock_slow(struct hak_lock *lock);
void hak_lock_wake(struct hak_lock *lock);
#if HAK_GUARDED
void hak_lock_rank_enter(const struct hak_lock *lock);
void hak_lock_rank_leave(const struct hak_lock *lock);
#else
HAK_INLINE void hak_lock_rank_enter(const struct hak_lock *lock) { (void)lock; }
HAK_INLINE void hak_lock_rank_leave(const struct hak_lock *lock) { (void)lock; }
#endif

// Takes a lock without a check of its rank: for fork, which takes several locks of one rank.
HAK_INLINE void hak_lock_acquire_unranked(struct hak_lock *lock) HAK_ACQUIRE(lock)
    HAK_NO_THREAD_SAFETY_ANALYSIS("it is what taking the lock means") {
  hak_lock_count_in();
  uint32_t expected = 0;
  // Acquire: sees what the last holder wrote.
  if (HAK_UNLIKELY(!atomic_compare_exchange_strong_explicit(&lock->state, &expected, 1, memory_order_acquire,
                                                            memory_order_relaxed))) {
    hak_lock_slow(lock);
  }
}

HAK_INLINE void hak_lock_acquire(struct hak_lock *lock) HAK_ACQUIRE(lock) {
  hak_lock_rank_enter(lock);
  hak_lock_acquire_unranked(lock);
}

// Takes the lock if it is free.
HAK_INLINE bool hak_lock_try(struct hak_lock *lock) HAK_TRY_ACQUIRE(true, lock)
    HAK_NO_THREAD_SAFETY_ANALYSIS("it is what taking the lock means") {
  hak_lock_count_in();
  uint32_t is_free = 0;
  // Acquire: sees what the last holder wrote. Relaxed on failure: nothing is read then.
  if (atomic_compare_exchange_strong_explicit(&lock->state, &is_free, 1, memory_order_acquire, memory_order_relaxed)) {
    hak_lock_rank_enter(lock);
    return true;
  }
  hak_lock_count_out();
  return false;
}

HAK_INLINE void hak_lock_release_unranked(struct hak_lock *lock) HAK_RELEASE(lock)
    HAK_NO_THREAD_SAFETY_ANALYSIS("it is what giving the lock back means") {
  // Release: the next holder sees what this one wrote.
  if (HAK_LIKELY(!hak_lock_holds_all) &&
      HAK_UNLIKELY(atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2)) {
    hak_lock_wake(lock);
  }
  hak_lock_count_out();
}

HAK_INLINE void hak_lock_release(struct hak_lock *lock) HAK_RELEASE(lock) {
  hak_lock_rank_leave(lock);
  hak_lock_release_unranked(lock);
}

// Whether a thread may be sleeping until the lock is free; the state can remain after the last such thread. For the
// thread that holds the lock. Relaxed: a hint.
HAK_INLINE bool hak_lock_is_wanted(struct hak_lock *lock) HAK_REQUIRES(lock) {
  return atomic_load_explicit(&lock->state, memory_order_relaxed) == 2;
}

// Call it between two steps of long work under a lock: hands the lock to a sleeping thread, and takes it again. What
// the lock guards may have changed afterwards. Not for a lock behind the fork gate.
void hak_lock_pass(struct hak_lock *lock) HAK_REQUIRES(lock);

HAK_C_END

#endif  // HAKMEM_OS_LOCK_H_
