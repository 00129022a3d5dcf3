// SPDX-License-Identifier: Apache-2.0
//
// Where runs come from: new address ranges from the kernel, and whether they lie in huge pages. A chunk of 2 MiB that
// is advised to be one huge page is returned as a whole, or is split first. Otherwise the kernel would keep the
// returned part until memory is short, or populate it again.
#ifndef HAKMEM_PAGES_RUN_GROUND_H_
#define HAKMEM_PAGES_RUN_GROUND_H_

#include "allocator/os/base.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/run.h"

HAK_C_BEGIN

// ---- Under the lock of mapping_lock.h ------------------------------------------------------------

// Maps a new run in transit with clean pages; steps out of the lock. Together with the free run in front of it, if that
// is still there, it has room for `size` bytes at a multiple of `align`. `sparse`: always on small pages. NULL: out of
// memory.
struct hak_run *hak_run_ground_map(size_t size, size_t align, bool sparse) HAK_REQUIRES(hak_mapping_mutex);
// Unmaps the range, if any, that could neither be used nor be unmapped before, and returns the memory of all records
// that are not needed; lets other threads in between.
void hak_run_ground_tidy(void) HAK_REQUIRES(hak_mapping_mutex);
// The range will soon not be the page heap's, and its pages become clean; this part of it stays after all; all of it is
// now unmapped, and everything else is as it will stay, because this lets other threads in.
void hak_run_ground_forget(char *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);
void hak_run_ground_remember(char *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);
void hak_run_ground_left(void) HAK_REQUIRES(hak_mapping_mutex);
// Only runs of `bytes` bytes are left, and the rest is lost (hak_free_runs_start_anew).
void hak_run_ground_start_anew(uint64_t bytes) HAK_REQUIRES(hak_mapping_mutex);
// Bytes of all runs, except those that are leaving or lost.
uint64_t hak_run_ground_mapped(void) HAK_REQUIRES(hak_mapping_mutex);

// The two chunks that a returned range covers only in part.
struct hak_ground_edges {
  char *chunks[2];  // NULL: there is nothing to do for it
  char *pages[2];   // a page of it that is returned
};
// Records that the chunks at the edges of the run are in small pages from now on. *edges: what the kernel must be told.
void hak_run_ground_split(const struct hak_run *run, struct hak_ground_edges *edges) HAK_REQUIRES(hak_mapping_mutex);
// Whether chunks in small pages become huge again after they were returned as a whole; and records that those of the
// range, which is clean, do so.
bool hak_run_ground_may_renew(void) HAK_REQUIRES(hak_mapping_mutex);
void hak_run_ground_note_renewed(char *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);

// ---- Without the lock, on a run in transit --------------------------------------------------------

void hak_run_ground_advise_edges(const struct hak_ground_edges *edges);
// Returns the memory of the range. False: it may not read as zero.
bool hak_run_ground_decommit(char *start, size_t size);
// Advises the kernel that the whole chunks of the range, which is clean, may be huge pages again.
void hak_run_ground_renew(char *start, size_t size);

HAK_C_END

#endif  // HAKMEM_PAGES_RUN_GROUND_H_
