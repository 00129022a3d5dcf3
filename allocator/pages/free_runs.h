// SPDX-License-Identifier: Apache-2.0
//
// Free runs and the records of all runs. A run that becomes free merges with its free neighbours. Free runs that hold
// memory are in a queue, those that have been free for longest first. Everything is under the lock of mapping_lock.h
// unless it says otherwise.
#ifndef HAKMEM_PAGES_FREE_RUNS_H_
#define HAKMEM_PAGES_FREE_RUNS_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/run.h"

HAK_C_BEGIN

// ---- Records ------------------------------------------------------------------------------------

// Makes sure that the next `count` calls of hak_run_new succeed. False: out of memory.
bool hak_run_reserve(uint32_t count) HAK_REQUIRES(hak_mapping_mutex);
// An address among the records, which the kernel chose; NULL: there are no records yet.
const char *hak_run_records(void) HAK_REQUIRES(hak_mapping_mutex);
// Makes a record for pages that are in no run; its state is HAK_RUN_TRANSIT. After hak_run_reserve.
struct hak_run *hak_run_new(char *start, size_t size, size_t dirty) HAK_REQUIRES(hak_mapping_mutex);
// Drops the record. Its pages are in no run afterwards.
void hak_run_drop(struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex);
// Cuts the run, which is not free, after its first `size` bytes; returns a run of the rest in state HAK_RUN_TRANSIT.
// After hak_run_reserve(1). If the run is in transit, the dirty bytes of both parts are counted.
struct hak_run *hak_run_split(struct hak_run *run, size_t size) HAK_REQUIRES(hak_mapping_mutex);
// Calls `visit` for each record in use, in any order.
void hak_run_for_each(void (*visit)(const struct hak_run *run, void *context), void *context)
    HAK_REQUIRES(hak_mapping_mutex);

// ---- Free runs ----------------------------------------------------------------------------------

// Makes a run in transit free since `since` (milliseconds), and merges it with its free neighbours. Needs no record.
void hak_run_make_free(struct hak_run *run, uint64_t since) HAK_REQUIRES(hak_mapping_mutex);
// Takes a free run out of tree and queue; its state is then HAK_RUN_TRANSIT.
void hak_run_take_out(struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex);
// Cuts `size` bytes at `at` out of a run that was taken out since the lock was last acquired. The other parts become
// free again, as old as the run and in its place in the queue. After hak_run_reserve(2).
struct hak_run *hak_run_cut(struct hak_run *run, char *at, size_t size) HAK_REQUIRES(hak_mapping_mutex);
// The smallest, lowest free run that has `size` bytes at a multiple of `align`; NULL: there is none. If very many runs
// are large enough but badly aligned, it may return a run that is larger by the alignment.
struct hak_run *hak_run_find(size_t size, size_t align) HAK_REQUIRES(hak_mapping_mutex);
// The free run that ends at an address; NULL: there is none.
struct hak_run *hak_run_free_before(const char *address) HAK_REQUIRES(hak_mapping_mutex);
// The free run that begins where `run` ends; NULL: there is none.
struct hak_run *hak_run_free_after(const struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex);
// The free run with memory that has been free for longest; NULL: no free run holds memory.
struct hak_run *hak_run_oldest_dirty(void) HAK_REQUIRES(hak_mapping_mutex);
// The largest free run; NULL: there is none.
struct hak_run *hak_run_largest(void) HAK_REQUIRES(hak_mapping_mutex);
// A free run with no other run at either end: any; or the one that begins at an address. NULL: there is none.
struct hak_run *hak_run_next_alone(void) HAK_REQUIRES(hak_mapping_mutex);
struct hak_run *hak_run_alone_at(const char *start) HAK_REQUIRES(hak_mapping_mutex);

// Starts with no free run, because the records may be half changed: live runs stay, all others are lost.
void hak_free_runs_start_anew(void) HAK_REQUIRES(hak_mapping_mutex);

// Bytes of free runs, and how many of them may hold memory. Without the lock: a hint.
uint64_t hak_free_runs_bytes(void);
uint64_t hak_free_runs_dirty(void);
// NULL: the records are correct; otherwise what is wrong.
const char *hak_free_runs_verify(void) HAK_REQUIRES(hak_mapping_mutex);

HAK_C_END

#endif  // HAKMEM_PAGES_FREE_RUNS_H_
