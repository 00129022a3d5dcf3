// SPDX-License-Identifier: Apache-2.0
//
// The optional thread that gives idle memory back in a process that makes no call itself (HAKMEM_BACKGROUND).
//
// It sleeps, does common work (reclaim/reclaim.h) in slices, and when there is none for a while waits until a thread's
// slow calls wake it. It never allocates, blocks all signals, and is named hakmem-purge. In the child of a fork there
// is none until a thread of it has allocated for a while.
#ifndef HAKMEM_API_BACKGROUND_H_
#define HAKMEM_API_BACKGROUND_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Starts the thread if the gates want it and it does not run. Not while any lock is held.
void hak_background_start(void);
// The setting changed: starts the thread, or has it end within its next round, half a second at most. Not while any
// lock is held.
void hak_background_follow(void);
// Wakes the thread if it waits for work. Cheap when there is no thread.
void hak_background_wake(void);
// In the child of a fork: the thread is gone.
void hak_background_forget(void);

HAK_C_END

#endif  // HAKMEM_API_BACKGROUND_H_
