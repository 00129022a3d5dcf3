// SPDX-License-Identifier: Apache-2.0
//
// The lock on the records of mappings. System calls that are too long to make under it, as unmapping a gibibyte, which
// takes a tenth of a second or more, are made outside (os/lock_step.h).
#ifndef HAKMEM_PAGES_MAPPING_LOCK_H_
#define HAKMEM_PAGES_MAPPING_LOCK_H_

#include "allocator/os/base.h"
#include "allocator/os/lock.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

// How much memory one system call returns, so that other threads' calls can run in between: a multiple of every page
// size, including huge pages.
#define HAK_MAPPING_SLICE ((size_t)16 * 1024 * 1024)

// Only for annotations: other files take the lock by the functions below.
extern struct hak_lock hak_mapping_mutex;

// How often the lock was taken from a thread that does not exist in this process, which was created without the fork
// handlers. When it has changed, what the lock guards may be half changed, and whoever keeps lists there starts anew.
uint32_t hak_mapping_losses(void) HAK_REQUIRES(hak_mapping_mutex);

void hak_mapping_lock(void) HAK_ACQUIRE(hak_mapping_mutex);
void hak_mapping_unlock(void) HAK_RELEASE(hak_mapping_mutex);
// Takes the lock if it is free.
bool hak_mapping_try_lock(void) HAK_TRY_ACQUIRE(true, hak_mapping_mutex);
// Call it between two steps of long work: a thread that waits for the lock gets it first.
void hak_mapping_pass(void) HAK_REQUIRES(hak_mapping_mutex);

// As hak_lock_step_out and hak_lock_step_in.
bool hak_mapping_step_out(void) HAK_REQUIRES(hak_mapping_mutex);
void hak_mapping_step_in(bool out) HAK_REQUIRES(hak_mapping_mutex);

// As hak_lock_wait_for_others.
bool hak_mapping_wait_for_others(void) HAK_REQUIRES(hak_mapping_mutex);

// Around fork. When it returns, no thread is in such a system call.
void hak_mapping_lock_for_fork(void) HAK_ACQUIRE(hak_mapping_mutex);
void hak_mapping_unlock_after_fork(void) HAK_RELEASE(hak_mapping_mutex);

HAK_C_END

#endif  // HAKMEM_PAGES_MAPPING_LOCK_H_
