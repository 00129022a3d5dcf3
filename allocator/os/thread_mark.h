// SPDX-License-Identifier: Apache-2.0
//
// A mark that a thread leaves behind when it ends without having taken it off: how others learn that it is gone, where
// no destructor tells. It is a robust mutex of the C library, which the thread holds as long as it lives: the kernel
// writes the thread's end into it. Asking costs one load and no system call.
#ifndef HAKMEM_OS_THREAD_MARK_H_
#define HAKMEM_OS_THREAD_MARK_H_

#include <pthread.h>

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Zero: not set. The memory stays readable for ever, and is not used for anything else.
struct hak_thread_mark {
  pthread_mutex_t mutex;
  // Written by the marked thread: release after the mutex is made and held. Read by all: acquire before they look at
  // it.
  HAK_ATOMIC(bool) set;
};

// Marks the calling thread; also again in the child of a fork, where it is another one. False: its end would not be
// seen. With no lock held: the C library's functions can be replaced by others.
bool hak_thread_mark_set(struct hak_thread_mark *mark);
// Takes the mark off, by the thread that set it.
void hak_thread_mark_clear(struct hak_thread_mark *mark);
// Whether the thread that set the mark has ended since, without having taken it off. By anyone.
bool hak_thread_mark_left(const struct hak_thread_mark *mark);

HAK_C_END

#endif  // HAKMEM_OS_THREAD_MARK_H_
