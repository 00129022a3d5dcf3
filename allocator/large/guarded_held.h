// SPDX-License-Identifier: Apache-2.0
//
// What happens to the pages of freed guarded blocks (guarded.h). They are closed at once, hold no memory from then on,
// and first go into quarantine. After that a range of moderate size waits to be reused for another block, so that no
// new mapping is needed.
//
// Such ranges are closed by guards in the page table, if the kernel has them (Linux 6.13). These guards need no mapping
// of their own, and setting or removing them does not delay other threads' calls and faults.
#ifndef HAKMEM_LARGE_GUARDED_HELD_H_
#define HAKMEM_LARGE_GUARDED_HELD_H_

#include "allocator/block/block_kind.h"
#include "allocator/meta/address_table.h"
#include "allocator/os/base.h"
#include "allocator/pages/mapping_lock.h"

HAK_C_BEGIN

// The mapping: closed pages, `data` bytes of open pages, closed pages. The block lies in the open pages. For a block
// without guards: `data` bytes of pages that are not a guarded mapping.
struct hak_guarded {
  struct hak_address_entry live;  // by the block's address
  struct hak_guarded *next;       // in quarantine or waiting: the next record of the list
  char *start;
  size_t mapped;
  char *data;
  size_t data_bytes;  // a multiple of the page size
  size_t size;        // as requested
  bool at_end;        // placed at the end of its pages
  bool closed;        // freed: the open pages are inaccessible too
  bool light;         // its pages are closed by guards in the page table
  bool without;       // without guards
  bool entered;       // a live block: it is in the table of guarded.c
  bool pointers;      // the compiler said that it will hold pointers
  enum hak_kind kind;
};
static_assert(offsetof(struct hak_guarded, live) == 0, "a record is found by its entry");

// The functions below are called under the lock of mapping_lock.h.

// A new record; the caller must set all fields. NULL: out of memory.
struct hak_guarded *hak_guarded_record(void) HAK_REQUIRES(hak_mapping_mutex);
void hak_guarded_drop_record(struct hak_guarded *one) HAK_REQUIRES(hak_mapping_mutex);

// Calls `visit` for every record that was ever made.
void hak_guarded_for_each(void (*visit)(struct hak_guarded *one)) HAK_REQUIRES(hak_mapping_mutex);
// Forgets all freed blocks and unused records, because the lists may be half changed (hak_mapping_losses). Their pages
// stay as they are.
void hak_held_start_anew(void) HAK_REQUIRES(hak_mapping_mutex);

// Frees the block: closes its pages, puts them into quarantine, and unmaps ranges that exceed the bounds. Steps out of
// the lock; hak_held_find finds the block all the time.
void hak_held_close(struct hak_guarded *one) HAK_REQUIRES(hak_mapping_mutex);
// Keeps a range of closed pages that has no block, because it could not be unmapped or opened. It waits with the rest.
void hak_held_keep(struct hak_guarded *one) HAK_REQUIRES(hak_mapping_mutex);
// Takes a waiting range with `data_bytes` bytes of open pages and one closed page on either side, for a new block;
// NULL: none waits. All its pages are still closed.
struct hak_guarded *hak_held_reuse(size_t data_bytes) HAK_REQUIRES(hak_mapping_mutex);
// Whether ranges with this many bytes of open pages are reused.
bool hak_held_is_moderate(size_t data_bytes);
// Whether the block was freed and its pages are still held.
bool hak_held_find(const void *block) HAK_REQUIRES(hak_mapping_mutex);

// The freed block in whose range, guards included, the address lies; NULL: there is none.
const struct hak_guarded *hak_held_around(const void *address) HAK_REQUIRES(hak_mapping_mutex);
// Whether the address lies in the range, guards included.
HAK_INLINE bool hak_guarded_contains(const struct hak_guarded *one, const void *address) {
  return (uintptr_t)address - (uintptr_t)one->start < one->mapped;
}

struct hak_held_totals {
  uint64_t blocks;  // in quarantine
  uint64_t bytes;   // mapped, including those of waiting ranges
  uint64_t open;    // of these, bytes that could not be closed
};
struct hak_held_totals hak_held_totals(void) HAK_REQUIRES(hak_mapping_mutex);
// NULL: the records are correct; otherwise what is wrong.
const char *hak_held_verify(void) HAK_REQUIRES(hak_mapping_mutex);

// Unmaps quarantine and waiting ranges; returns the bytes of addresses. Not under the lock.
size_t hak_held_trim(void);

// The kernel has refused `size` bytes of addresses to a program that has `committed` bytes. If it has as much as it
// asked for, quarantine included, then from now on quarantine and waiting ranges have at most a sixteenth of that, so
// that others, such as pthread_create, get addresses too. It never becomes more again. A request for more than the
// program has says nothing: it can be a mistake. Not under the lock.
void hak_held_refused(size_t size, uint64_t committed);

HAK_C_END

#endif  // HAKMEM_LARGE_GUARDED_HELD_H_
