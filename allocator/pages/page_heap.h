// SPDX-License-Identifier: Apache-2.0
//
// The page heap: blocks of whole pages, of any size. They are cut out of runs of free pages: of the smallest run that
// is large enough, and of the lowest among these. When they are freed, they merge with their free neighbours.
//
// Thread-safe: one lock (mapping_lock.h), which is never held during a system call that returns memory of blocks. The
// records of blocks are apart from all blocks.
#ifndef HAKMEM_PAGES_PAGE_HEAP_H_
#define HAKMEM_PAGES_PAGE_HEAP_H_

#include "allocator/meta/address_batch.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

struct hak_page_request {
  size_t size;       // of the run: a multiple of the kernel's page size, not 0
  size_t align;      // of the run: a power of two, at least the kernel's page size
  uint32_t colours;  // the block begins at one of so many cache lines (colour.h); 0: where the run begins
  uint8_t tag;       // of the block in the page map; 0: none
  bool grow;         // new address ranges may be mapped
  bool sparse;       // the program may leave most of it untouched, so new ranges stay on small pages
};
// Takes a block; NULL: out of memory, or, without `grow`, no free run is suitable. The page map says which of its pages
// are zero (hak_page_map_clear).
void *hak_page_heap_take(const struct hak_page_request *request);

// Frees a block. False: `block` is not one, and nothing was done.
bool hak_page_heap_give(void *block);
// Frees several blocks under one lock. Returns the first that is not a block, with the rest not freed; NULL: all were.
void *hak_page_heap_give_some(void *const *blocks, uint32_t count);

// The run of a block, as the lookup found it.
struct hak_page_block {
  size_t size;  // 0: `block` is not a block of the page heap
  uint32_t front;
};
struct hak_page_block hak_page_heap_look(const void *block);

// Makes the block's run `size` bytes long: in place, by cutting it or adding the free pages behind it; or, with
// `may_move`, wherever the kernel moves its pages. `tag`: the block's tag from now on. If a run without a tag grows
// again and its pages move, it gets an eighth more than requested. Returns the block's address; NULL: this is not
// possible, and nothing changed.
void *hak_page_heap_resize(void *block, size_t size, uint8_t tag, bool may_move);

// Returns a slice of the memory that has not been needed for the deadline. False: nothing is due.
bool hak_page_heap_tick(uint64_t now);
// Returns the memory of all free runs, and the addresses of large ones. Returns the bytes of memory.
size_t hak_page_heap_trim(void);

// Offers the address of each live block.
void hak_page_heap_gather(struct hak_address_batch *batch);

// Calls visit(usable bytes, context) for each live block, under the lock.
void hak_page_heap_sizes(void (*visit)(size_t usable, void *context), void *context);

struct hak_page_heap_totals {
  uint64_t blocks;
  uint64_t bytes;         // usable bytes of live blocks
  uint64_t free_bytes;    // of free runs
  uint64_t cached_bytes;  // the part of free_bytes that may hold memory
  uint64_t mapped_bytes;  // of all runs
};
struct hak_page_heap_totals hak_page_heap_totals(void);
// Bytes of free runs that may hold memory. A hint: read without the lock.
uint64_t hak_page_heap_free_memory(void);
// NULL: the records are correct; otherwise what is wrong. `fits`, called under a lock for each live block, says whether
// its run has the size that its tag stands for; NULL: that is not checked.
const char *hak_page_heap_check(bool (*fits)(uint32_t tag, size_t size));
HAK_INLINE const char *hak_page_heap_verify(void) { return hak_page_heap_check(NULL); }

HAK_C_END

#endif  // HAKMEM_PAGES_PAGE_HEAP_H_
