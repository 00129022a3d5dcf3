// SPDX-License-Identifier: Apache-2.0
//
// Gives the memory of free runs back to the operating system: what is beyond the bound at once, what nobody needed for
// the whole deadline in slices, all of it for a trim. The system calls are made without the lock, on runs in transit.
//
// Everything is under the lock of mapping_lock.h, which is released in between.
#ifndef HAKMEM_PAGES_RUN_RELEASE_H_
#define HAKMEM_PAGES_RUN_RELEASE_H_

#include "allocator/os/base.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/run.h"

HAK_C_BEGIN

// A run that a program freed, in transit: returns its memory when it may not be kept, and makes it free.
void hak_run_release_or_keep(struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex);
// Before `bytes` of new addresses are mapped although free runs hold memory: returns as much of that, in whole huge
// pages, if the process would hold more than ever before.
void hak_run_release_before_growth(size_t bytes) HAK_REQUIRES(hak_mapping_mutex);
// Call one of them after every change of what lies free: the second one, which reads no clock, when it became less.
void hak_run_release_note(uint64_t now) HAK_REQUIRES(hak_mapping_mutex);
void hak_run_release_dip(void) HAK_REQUIRES(hak_mapping_mutex);
// At most one slice of what is due. False: nothing is due, or nothing goes back.
bool hak_run_release_due(uint64_t now) HAK_REQUIRES(hak_mapping_mutex);
// All memory of free runs, and the addresses of the large ones. Returns the bytes that went back.
size_t hak_run_release_all(void) HAK_REQUIRES(hak_mapping_mutex);
// Whether hak_run_release_due may have work. Without the lock: a hint.
bool hak_run_release_may_be_due(uint64_t now);

HAK_C_END

#endif  // HAKMEM_PAGES_RUN_RELEASE_H_
