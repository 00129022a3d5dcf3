// SPDX-License-Identifier: Apache-2.0
//
// Returns the memory of free runs to the operating system: memory beyond the bound at once, memory that was not needed
// for the whole deadline in slices, and all memory for a trim. The system calls are made without the lock, on runs in
// transit.
//
// Everything is under the lock of mapping_lock.h, which the functions release in between.
#ifndef HAKMEM_PAGES_RUN_RELEASE_H_
#define HAKMEM_PAGES_RUN_RELEASE_H_

#include "allocator/os/base.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/run.h"

HAK_C_BEGIN

// For a run in transit that the program freed: returns its memory if it may not be kept, and makes the run free.
void hak_run_release_or_keep(struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex);
// Before `bytes` of new addresses are mapped although free runs hold memory: if the process would otherwise hold more
// memory than ever before, returns as much of that memory, in whole huge pages.
void hak_run_release_before_growth(size_t bytes) HAK_REQUIRES(hak_mapping_mutex);
// A request needs `bytes` from the system.
void hak_run_release_took(uint64_t bytes) HAK_REQUIRES(hak_mapping_mutex);
// Call one of them after every change of the free memory: the second one, which reads no clock, when it became less.
void hak_run_release_note(uint64_t now) HAK_REQUIRES(hak_mapping_mutex);
void hak_run_release_dip(void) HAK_REQUIRES(hak_mapping_mutex);
// Returns at most one slice of the memory that is due. False: nothing is due, or nothing was returned.
bool hak_run_release_due(uint64_t now) HAK_REQUIRES(hak_mapping_mutex);
// Returns all memory of free runs, and the addresses of the large ones. Returns the bytes.
size_t hak_run_release_all(void) HAK_REQUIRES(hak_mapping_mutex);
// Whether hak_run_release_due may have work. Without the lock: a hint.
bool hak_run_release_may_be_due(uint64_t now);

HAK_C_END

#endif  // HAKMEM_PAGES_RUN_RELEASE_H_
