// SPDX-License-Identifier: Apache-2.0
//
// The stats page (HAKMEM_STATS_PAGE): a file in which hakmem-top finds the statistics of a running process. It is
// /dev/shm/hakmem-stats-PID, of mode 0600, and removed at exit. Every process has its own, also the child of a fork.
// Not in FAST, and not in a process with raised privileges (AT_SECURE).
//
// The page is written by slow calls of the program, as often as the policy below admits; no thread does it. So it is as
// old as the last slow call. A page is one struct hak_stats_page and two slots behind it: a text is written to the slot
// that readers do not read, and then made the current one. A reader copies the current slot, and reads `sequence`
// again: if it is the same, the copy is whole. What is in the file is never read by its process, except `sequence`,
// whose lowest bit counts.
#ifndef HAKMEM_OBSERVE_STATS_PAGE_H_
#define HAKMEM_OBSERVE_STATS_PAGE_H_

#include <hakmem/hakmem.h>

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"

HAK_C_BEGIN

// packaging/top/hakmem-top reads these. A change of the layout raises the version. Numbers are in the processor's
// order, which is that of all processors that hakmem is for. Times are in nanoseconds of CLOCK_BOOTTIME.
#define HAK_STATS_PAGE_VERSION 1u
#define HAK_STATS_PAGE_HEAD 4096u
#define HAK_STATS_PAGE_SLOT 69632u
struct hak_stats_page {
  char magic[8];                  // "hakmemSP"
  uint32_t version;               // HAK_STATS_PAGE_VERSION
  uint32_t slot_bytes;            // HAK_STATS_PAGE_SLOT
  uint64_t process;               // getpid(2) of the process
  uint64_t made_ns;               // when the page was made
  HAK_ATOMIC(uint64_t) sequence;  // how many texts were written; the last is in the slot (sequence & 1). 0: none yet
};
struct hak_stats_slot {
  uint64_t written_ns;
  uint64_t length;                  // of the text, without a NUL
  char text[HAK_STATS_TEXT_BYTES];  // as hak_stats_json writes it
};
#define HAK_STATS_PAGE_BYTES (HAK_STATS_PAGE_HEAD + 2 * HAK_STATS_PAGE_SLOT)

// A text takes time, under locks, in proportion to the heap: at most a twentieth of the program's time, and none more
// often than this.
#define HAK_STATS_PAGE_MS 100u
#define HAK_STATS_PAGE_SHARE 20u

// Writes a text, if one is due at `now_ms` (hak_os_now_ms). The first call of a process makes the page. Hold no lock.
// Preserves errno.
HAK_COLD void hak_stats_page_update(uint64_t now_ms);

// Call it in a slow call, without a lock.
HAK_INLINE void hak_stats_page_tick(void) {
  if (!HAK_FAST && HAK_UNLIKELY(HAK_SETTING(stats_page))) hak_stats_page_update(hak_os_now_ms());
}

// At exit: writes the last text, which a reader that has the file open still gets, and removes the file.
void hak_stats_page_end(void);

// In the child of a fork.
void hak_stats_page_forked(void);

HAK_C_END

#endif  // HAKMEM_OBSERVE_STATS_PAGE_H_
