// SPDX-License-Identifier: Apache-2.0
//
// Guarded blocks: each lies in its own mapping between guard pages, which nobody can touch. In OBSERVE and HARDENED all
// large blocks are guarded, and in HARDENED some small ones too.
//
// A block ends exactly where its request ends: a canary fills the rest of its last page (block/block_tail.h). A freed
// block's addresses stay closed for a while (the quarantine), so that a late access faults and does not reach another
// block.
//
// Guards take mappings, and the kernel limits the number of mappings of a process. Past the budget
// (policy/guard_budget.h) a block has no guards: it lies in memory that the caller provides, and its canary and its
// size are kept here. Thread-safe; the lock is that of mapping_lock.h.
#ifndef HAKMEM_LARGE_GUARDED_H_
#define HAKMEM_LARGE_GUARDED_H_

#include "allocator/block/block_kind.h"
#include "allocator/meta/address_batch.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// A block of `size` bytes, zero, at a multiple of `align` (a power of two): at the start of its pages, or, with
// `at_end`, as close to the guard behind them as the alignment allows. NULL: out of memory, or, with `at_end`, more
// than a thousand such blocks are live. *without (may be NULL): there are no mappings left for guards, but there may be
// memory.
void *hak_guarded_take(size_t size, size_t align, bool at_end, bool *without);
// Makes `memory`, at a multiple of 16, a block of `size` bytes without guards. The memory reaches to the end of the
// block's last page. False: out of memory for the record.
bool hak_guarded_enter(void *memory, size_t size);

enum hak_guarded_kind {
  HAK_GUARDED_NONE,     // not a live block
  HAK_GUARDED_BLOCK,    // the block was between guards
  HAK_GUARDED_WITHOUT,  // the block had no guards: its memory is the caller's again
};
// Takes back a block; does nothing when `block` is not one. Ends the process when the canary is damaged, or when the
// block is in quarantine.
enum hak_guarded_kind hak_guarded_give(void *block);
// The requested size; SIZE_MAX when `block` is not a live block. Ends the process when the canary is damaged.
size_t hak_guarded_size(const void *block);
// The same; *kind: the kind of the block, which is HAK_KIND_MALLOC unless hak_guarded_set_kind has changed it.
size_t hak_guarded_size_and_kind(const void *block, enum hak_kind *kind);
void hak_guarded_set_kind(const void *block, enum hak_kind kind);
// Whether `block` is a live block. Looks at no canary.
bool hak_guarded_is_live(const void *block);
// HARDENED. Notes that the live block will hold pointers (block/size_class.h), and tells it: realloc may make it small.
void hak_guarded_set_pointers(void *block);
bool hak_guarded_has_pointers(const void *block);
// The requested size of a block that was freed and is in quarantine; SIZE_MAX when `block` is not one.
size_t hak_guarded_held_size(const void *block);
// The block beside an inaccessible address.
struct hak_guarded_beside {
  const char *block;
  size_t size;  // as requested
  bool freed;   // the address may lie in the block, too
};
enum hak_guarded_look {
  HAK_GUARDED_FOREIGN,  // no guard or freed block is there
  HAK_GUARDED_BESIDE,
  HAK_GUARDED_BUSY,  // another thread has the lock
};
// For a handler of a fault: finds the block whose guards or freed pages contain the address. Does not wait for the
// lock. The calling thread must hold no lock.
enum hak_guarded_look hak_guarded_look_beside(const void *address, struct hak_guarded_beside *beside);
// Resizes the block to `size` bytes in place. False: this would take another number of pages, or, with `keep_pages`,
// more pages.
bool hak_guarded_resize(void *block, size_t size, bool keep_pages);
// Offers the address of each live block.
void hak_guarded_gather(struct hak_address_batch *batch);
// Calls visit(requested bytes, context) for each live block, under the lock.
void hak_guarded_sizes(void (*visit)(size_t size, void *context), void *context);
struct hak_guarded_totals {
  uint64_t blocks;
  uint64_t bytes;    // as requested
  uint64_t closed;   // mapped bytes that can hold no memory: guards and quarantine
  uint64_t held;     // blocks in quarantine
  uint64_t sampled;  // blocks so far that were placed at the end
};
struct hak_guarded_totals hak_guarded_totals(void);
// NULL: the records are correct; otherwise what is wrong.
const char *hak_guarded_verify(void);

HAK_C_END

#endif  // HAKMEM_LARGE_GUARDED_H_
