// SPDX-License-Identifier: Apache-2.0
//
// Where runs come from: new address ranges from the kernel, and whether they lie in huge pages. A chunk of 2 MiB that
// is advised to be one huge page goes back as a whole, or is taken apart first: the kernel would else keep the part
// that goes back until memory is short, or fill it again.
#ifndef HAKMEM_PAGES_RUN_GROUND_H_
#define HAKMEM_PAGES_RUN_GROUND_H_

#include "allocator/os/base.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/run.h"

HAK_C_BEGIN

// ---- Under the lock of mapping_lock.h ------------------------------------------------------------

// A new run in transit with clean pages; steps out of the lock. With the free run in front of it, if that is still
// there, it has room for `size` bytes at a multiple of `align`. `sparse`: on small pages in any case. NULL: out of
// memory.
struct hak_run *hak_run_ground_map(size_t size, size_t align, bool sparse) HAK_REQUIRES(hak_mapping_mutex);
// Unmaps a range that could be neither used nor unmapped before, if there is one.
void hak_run_ground_tidy(void) HAK_REQUIRES(hak_mapping_mutex);
// The range is about to be no longer the page heap's; so many bytes of it stay after all; or all of it is unmapped now.
void hak_run_ground_forget(char *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);
void hak_run_ground_remember(size_t bytes) HAK_REQUIRES(hak_mapping_mutex);
void hak_run_ground_left(void) HAK_REQUIRES(hak_mapping_mutex);
// Bytes of all runs.
uint64_t hak_run_ground_mapped(void) HAK_REQUIRES(hak_mapping_mutex);

// The two chunks that a range which goes back has only a part of.
struct hak_ground_edges {
  char *chunks[2];  // NULL: nothing is to be done for it
  char *pages[2];   // a page of it that goes back
};
// Notes that the chunks at the edges of the run are in small pages from now on; what the kernel must be told is in
// *edges.
void hak_run_ground_split(const struct hak_run *run, struct hak_ground_edges *edges) HAK_REQUIRES(hak_mapping_mutex);
// Whether chunks in small pages become huge ones when they went back as a whole; then notes that those of the range,
// which is clean, do.
bool hak_run_ground_may_renew(void) HAK_REQUIRES(hak_mapping_mutex);
void hak_run_ground_note_renewed(char *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);

// ---- Without the lock, on a run in transit --------------------------------------------------------

void hak_run_ground_advise_edges(const struct hak_ground_edges *edges);
// Returns the memory of the range. False: it may not read as zero.
bool hak_run_ground_decommit(char *start, size_t size);
// Tells the kernel that whole chunks of the range, which is clean, may be huge pages again.
void hak_run_ground_renew(char *start, size_t size);

HAK_C_END

#endif  // HAKMEM_PAGES_RUN_GROUND_H_
