// SPDX-License-Identifier: Apache-2.0
//
// A run: consecutive pages of the page heap that are all free, or one block, or in transit. Its record is apart from
// the pages and is never unmapped, so that a stale entry of the page map can be read safely.
#ifndef HAKMEM_PAGES_RUN_H_
#define HAKMEM_PAGES_RUN_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

enum hak_run_state {
  HAK_RUN_UNUSED,   // a record without pages
  HAK_RUN_FREE,     // in the index; also in the queue when some of its pages hold memory
  HAK_RUN_LIVE,     // a block
  HAK_RUN_TRANSIT,  // the thread that took it is making a system call without the lock
  HAK_RUN_LEAVING,  // its addresses will soon not be the page heap's: not counted, not in the page map
  HAK_RUN_LOST,     // a thread that does not exist in this process may have half changed it: never used again
};

// All under the lock of mapping_lock.h. The fields that a live run's holder may read do not change while it is live:
// start, size and front. Invariants: no two free runs touch each other; the page map has each run, except those that
// are leaving, at its first and its last page.
struct hak_run {
  char *start;
  size_t size;     // a multiple of the kernel's page size; 0: unused
  size_t dirty;    // free: bytes that may hold memory
  uint32_t front;  // live: bytes from the start to the block
  uint8_t state;   // enum hak_run_state
  bool grown;      // live: realloc has enlarged it before
  bool stained;    // live: each of its pages has its dirty bit
  union {
    struct {  // free
      struct hak_run *left;
      struct hak_run *right;
    };
    struct hak_run *next_unused;
  };
  // Free, with memory: the queue, ordered by freed_ms.
  struct hak_run *older;
  struct hak_run *newer;
  uint64_t freed_ms;
  uint32_t priority;  // free: the priority in its tree of the index
};

HAK_INLINE char *hak_run_end(const struct hak_run *run) { return run->start + run->size; }

HAK_C_END

#endif  // HAKMEM_PAGES_RUN_H_
