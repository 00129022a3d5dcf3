// SPDX-License-Identifier: Apache-2.0
//
// How a thread makes a system call that is too long to make under a lock. It first takes its record out of every list,
// releases the lock for the call, and records the result afterwards. Fork waits for such calls, so that no child
// inherits a range of addresses without an owner.
#ifndef HAKMEM_OS_LOCK_STEP_H_
#define HAKMEM_OS_LOCK_STEP_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

// One for each lock that is released in this way; all zero at first.
struct hak_lock_steps {
  HAK_ATOMIC(uint32_t) outside;  // threads that have stepped out. Written under the lock; fork sleeps until it changes
  bool forking;                  // a fork waits or is in progress. Under the lock
  uint32_t mark;                 // the fork mark of the process that counted `outside`. Under the lock
};

// Releases the lock for a system call; hak_lock_step_in, with the result of this function, takes it again. False: a
// fork waits or is in progress, the lock is still held, and the call must be made under it. While the lock is released,
// every list may change. The annotations treat the lock as held in between, so the code there must only use records
// that no other thread can find.
bool hak_lock_step_out(struct hak_lock *lock, struct hak_lock_steps *steps) HAK_REQUIRES(lock);
void hak_lock_step_in(struct hak_lock *lock, struct hak_lock_steps *steps, bool out) HAK_REQUIRES(lock);

// Waits for up to a millisecond, without the lock, for a thread that has stepped out. False: no thread has.
bool hak_lock_wait_for_others(struct hak_lock *lock, struct hak_lock_steps *steps) HAK_REQUIRES(lock);

// For fork, which has taken the lock: when it returns, no thread has stepped out, and none will until
// hak_lock_fork_is_over.
void hak_lock_wait_for_fork(struct hak_lock *lock, struct hak_lock_steps *steps) HAK_REQUIRES(lock);
void hak_lock_fork_is_over(struct hak_lock_steps *steps);

// For a process that was created without the fork handlers: the threads that had stepped out do not exist here.
void hak_lock_steps_forget(struct hak_lock_steps *steps);

HAK_C_END

#endif  // HAKMEM_OS_LOCK_STEP_H_
