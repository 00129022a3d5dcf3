// SPDX-License-Identifier: Apache-2.0
//
// The robust mutex that tells whether a thread has ended.
#include "allocator/os/thread_mark.h"

#include <errno.h>
#include <linux/futex.h>

#include "allocator/os/fault.h"

// A thread holds this mutex for its whole life. ThreadSanitizer would see it as locked before every other mutex, and
// report lock orders.
#if defined(__SANITIZE_THREAD__)
#define HAS_MARKS 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_MARKS 0
#endif
#endif
#if !defined(HAS_MARKS) && defined(__GLIBC__)
#define HAS_MARKS 1
#elif !defined(HAS_MARKS)
#define HAS_MARKS 0
#endif

bool hak_thread_mark_set(struct hak_thread_mark *mark) {
  // Relaxed: no other thread reads the mark of a heap that is not open yet, or of the only thread of a child.
  atomic_store_explicit(&mark->set, false, memory_order_relaxed);
  bool set = false;
#if HAS_MARKS
  pthread_mutexattr_t robust;
  if (hak_fault_due(HAK_FAULT_THREAD) || pthread_mutexattr_init(&robust) != 0) return false;
  // Fails if the system does not handle the locks of ended threads.
  set = pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST) == 0 &&
        pthread_mutex_init(&mark->mutex, &robust) == 0 && pthread_mutex_lock(&mark->mutex) == 0;
  pthread_mutexattr_destroy(&robust);
#endif
  // Release: see thread_mark.h.
  atomic_store_explicit(&mark->set, set, memory_order_release);
  return set;
}

void hak_thread_mark_clear(struct hak_thread_mark *mark) {
  // Relaxed: the marked thread's own store.
  if (!atomic_load_explicit(&mark->set, memory_order_relaxed)) return;
  atomic_store_explicit(&mark->set, false, memory_order_relaxed);
  pthread_mutex_unlock(&mark->mutex);
}

bool hak_thread_mark_is_left(const struct hak_thread_mark *mark) {
#if HAS_MARKS
  // Acquire: see thread_mark.h.
  if (!atomic_load_explicit(&mark->set, memory_order_acquire)) return false;
  // This field is part of glibc's binary interface. pthread_mutex_trylock is not called, because another library may
  // replace it. Acquire: everything that the thread did is visible.
  return (__atomic_load_n((const unsigned int *)&mark->mutex.__data.__lock, __ATOMIC_ACQUIRE) & FUTEX_OWNER_DIED) != 0;
#else
  (void)mark;
  return false;
#endif
}
