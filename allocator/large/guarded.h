// SPDX-License-Identifier: Apache-2.0
//
// Guarded blocks: each in a mapping of its own between pages that nobody can touch. In OBSERVE and HARDENED all large
// blocks are such blocks, and in HARDENED now and then a small one is.
//
// A block ends at its very request: what is left of its last page holds a canary (block/block_tail.h). A freed block's
// addresses stay closed for a while (the quarantine), so that a late access finds nothing rather than another block.
//
// Guards take mappings, of which the kernel allows a process so many. Past the budget (policy/guard_budget.h) a block
// goes without: it lies in memory that the caller has found for it, and keeps its canary and its size here.
// Thread-safe; the lock is that of mapping_lock.h.
#ifndef HAKMEM_LARGE_GUARDED_H_
#define HAKMEM_LARGE_GUARDED_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// A block of `size` bytes, zero, at a multiple of `align` (a power of two): at the start of its pages, or, `at_end`, as
// close to the guard behind them as the alignment lets it be. NULL: out of memory, or, `at_end`, more than a thousand
// such blocks live. *without (may be NULL): there are no mappings to be had for guards, but there may be memory.
void *hak_guarded_take(size_t size, size_t align, bool at_end, bool *without);
// Makes `memory`, at a multiple of 16, a block of `size` bytes without guards; the memory reaches to the end of the
// block's last page. False: out of memory for the record.
bool hak_guarded_enter(void *memory, size_t size);

enum hak_guarded_kind {
  HAK_GUARDED_NONE,     // no live block
  HAK_GUARDED_BLOCK,    // it was between guards
  HAK_GUARDED_WITHOUT,  // it went without: its memory is the caller's again
};
// Takes back a block; nothing is done when `block` is not one. Ends the process when the canary is damaged, and when
// the block is in quarantine.
enum hak_guarded_kind hak_guarded_give(void *block);
// What was asked for; SIZE_MAX when `block` is not a live block. Ends the process when the canary is damaged.
size_t hak_guarded_size(const void *block);
// Whether `block` was freed and lies in quarantine.
bool hak_guarded_is_held(const void *block);
// Makes the block one of `size` bytes where it is; false when that takes another number of pages, or, with
// `keep_pages`, more pages.
bool hak_guarded_resize(void *block, size_t size, bool keep_pages);
struct hak_guarded_totals {
  uint64_t blocks;
  uint64_t bytes;    // as asked for
  uint64_t closed;   // mapped bytes that can hold no memory: guards and quarantine
  uint64_t held;     // blocks in quarantine
  uint64_t sampled;  // blocks so far that were placed at the end
};
struct hak_guarded_totals hak_guarded_totals(void);
// NULL, or what is wrong with the records.
const char *hak_guarded_verify(void);

HAK_C_END

#endif  // HAKMEM_LARGE_GUARDED_H_
