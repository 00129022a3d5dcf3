// SPDX-License-Identifier: Apache-2.0
//
// A mark from which other threads learn that a thread has ended, if no destructor reports it. It is a robust mutex of
// the C library that the thread holds as long as it lives. When the thread ends, the kernel marks the mutex. The check
// costs one load and no system call.
#ifndef HAKMEM_OS_THREAD_MARK_H_
#define HAKMEM_OS_THREAD_MARK_H_

#include <pthread.h>

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// All zero: not set. The memory must stay readable forever, and must not be used for anything else.
struct hak_thread_mark {
  pthread_mutex_t mutex;
  // The marked thread writes it with release, after it has created and taken the mutex. All threads read it with
  // acquire, before they read the mutex.
  HAK_ATOMIC(bool) set;
};

// Marks the calling thread. Must be called again in the child of a fork, where the thread has another id. False: the
// thread's end would not be noticed. Hold no lock, because other libraries can replace the C library's functions.
bool hak_thread_mark_set(struct hak_thread_mark *mark);
// Removes the mark. Called by the thread that set it.
void hak_thread_mark_clear(struct hak_thread_mark *mark);
// Whether the thread that set the mark has ended without removing it. Called by any thread.
bool hak_thread_mark_is_left(const struct hak_thread_mark *mark);

HAK_C_END

#endif  // HAKMEM_OS_THREAD_MARK_H_
