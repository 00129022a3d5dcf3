// SPDX-License-Identifier: Apache-2.0
//
// A counter under a global lock, and one under a lock that exists many times. With one of the macros BUG_... it is used
// wrongly, and clang must refuse the file (allocator/os/lock_annotations.h).
#include "allocator/os/lock.h"
#include "allocator/os/lock_annotations.h"

extern struct hak_role lock_bug_role;

struct lock_bug {
  struct hak_lock lock;
  int count HAK_GUARDED_BY(lock_bug_role);
};

static struct hak_lock lock = HAK_LOCK_INIT(HAK_RANK_INIT);
static struct hak_lock other = HAK_LOCK_INIT(HAK_RANK_META);
static int count HAK_GUARDED_BY(lock);

static void enter(struct lock_bug *object) HAK_ACQUIRE(object->lock, lock_bug_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role comes with the lock") {
  hak_lock_acquire(&object->lock);
}
static void leave(struct lock_bug *object) HAK_RELEASE(object->lock, lock_bug_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role goes with the lock") {
  hak_lock_release(&object->lock);
}

static int next(void) HAK_REQUIRES(lock) { return ++count; }

int lock_bug(struct lock_bug *object);
int lock_bug(struct lock_bug *object) {
  hak_lock_acquire(&lock);
  int sum = next() + count;
  hak_lock_release(&lock);
  hak_lock_acquire(&other);
#if defined(BUG_OTHER_LOCK)
  sum += count;
#endif
  hak_lock_release(&other);
  enter(object);
  sum += object->count++;
#if !defined(BUG_KEPT)
  leave(object);
#endif
#if defined(BUG_READ)
  sum += object->count;
#elif defined(BUG_WRITE)
  object->count = 0;
#elif defined(BUG_CALL)
  sum += next();
#elif defined(BUG_TWICE)
  hak_lock_acquire(&lock);
  hak_lock_acquire(&lock);
  hak_lock_release(&lock);
#endif
  return sum;
}
