// SPDX-License-Identifier: Apache-2.0
//
// The optional thread that returns idle memory while the program makes no calls (HAKMEM_BACKGROUND).
//
// It sleeps, does reclaim work (reclaim/reclaim.h) in slices, and after a while without work waits until a slow call of
// another thread wakes it. It never allocates, blocks all signals, and is named hakmem-purge. The child of a fork has
// no such thread until its own threads have allocated for a while.
#ifndef HAKMEM_API_BACKGROUND_H_
#define HAKMEM_API_BACKGROUND_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Starts the thread if the settings request it and it does not run. Hold no lock.
void hak_background_start(void);
// Follows a change of the setting: starts the thread, or makes it end within half a second. Hold no lock.
void hak_background_follow(void);
// Wakes the thread if it waits for work. Cheap without a thread.
void hak_background_wake(void);
// Call it in the child of a fork, where the thread does not exist.
void hak_background_forget(void);

HAK_C_END

#endif  // HAKMEM_API_BACKGROUND_H_
