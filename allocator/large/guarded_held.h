// SPDX-License-Identifier: Apache-2.0
//
// What becomes of the pages of freed guarded blocks (guarded.h). They are closed at once, hold no memory from then on,
// and first lie in quarantine. After that a range of moderate size waits to be used for another block, so that no
// mapping has to be made.
//
// Such ranges are closed by guards in the page table, where the kernel has them (Linux 6.13): these need no mapping of
// their own, and other threads' calls and faults do not wait while they are set and taken away.
#ifndef HAKMEM_LARGE_GUARDED_HELD_H_
#define HAKMEM_LARGE_GUARDED_HELD_H_

#include "allocator/meta/address_table.h"
#include "allocator/os/base.h"
#include "allocator/pages/mapping_lock.h"

HAK_C_BEGIN

// The mapping: closed pages, `data` bytes of open ones, closed pages. The block lies in the open ones. Of a block
// without guards: `data` bytes of somebody else's pages.
struct hak_guarded {
  struct hak_address_entry live;  // by the block's address
  struct hak_guarded *next;       // of those in quarantine, or that wait: the one that came after
  char *start;
  size_t mapped;
  char *data;
  size_t data_bytes;  // a multiple of the page size
  size_t size;        // as asked for
  bool at_end;        // placed at the end of its pages
  bool closed;        // freed: nobody can touch the open pages either
  bool light;         // its closed pages are closed by guards in the page table
  bool without;       // without guards
};
static_assert(offsetof(struct hak_guarded, live) == 0, "a record is found by its entry");

// What follows is called under the lock of mapping_lock.h.

// A record, all of whose fields are the caller's to set; NULL: out of memory.
struct hak_guarded *hak_guarded_record(void) HAK_REQUIRES(hak_mapping_mutex);
void hak_guarded_drop_record(struct hak_guarded *one) HAK_REQUIRES(hak_mapping_mutex);

// The block is freed: closes its pages, puts them into quarantine, and unmaps what is too much there. Steps out of the
// lock; hak_held_find finds the block all the time.
void hak_held_close(struct hak_guarded *one) HAK_REQUIRES(hak_mapping_mutex);
// A range of closed pages that is no block's, but could not be unmapped, or was not to be had: it waits with the rest.
void hak_held_keep(struct hak_guarded *one) HAK_REQUIRES(hak_mapping_mutex);
// A range with so many bytes of open pages and one closed page on either side, for a new block; NULL: none waits. It is
// still closed.
struct hak_guarded *hak_held_reuse(size_t data_bytes) HAK_REQUIRES(hak_mapping_mutex);
// Whether ranges with so many bytes of open pages are used again.
bool hak_held_is_moderate(size_t data_bytes);
// Whether the block was freed and its pages are still held.
bool hak_held_find(const void *block) HAK_REQUIRES(hak_mapping_mutex);

struct hak_held_totals {
  uint64_t blocks;  // in quarantine
  uint64_t bytes;   // mapped, those of waiting ranges too
  uint64_t open;    // of these, bytes that could not be closed
};
struct hak_held_totals hak_held_totals(void) HAK_REQUIRES(hak_mapping_mutex);
// NULL, or what is wrong with the records.
const char *hak_held_verify(void) HAK_REQUIRES(hak_mapping_mutex);

// Lets go of the quarantine; returns the bytes of addresses that went back. Not under the lock.
size_t hak_held_trim(void);

HAK_C_END

#endif  // HAKMEM_LARGE_GUARDED_HELD_H_
