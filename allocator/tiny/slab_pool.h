// SPDX-License-Identifier: Apache-2.0
//
// The pool: all superslabs of the process and their free slabs. Heaps take single slabs, large blocks take spans of
// several; the fullest superslab that can serve is taken first, so that emptier ones can empty. Free slabs keep their
// memory until the release policy's deadline, and go back to the operating system in bounded slices, on the way of
// later calls.
//
// All functions are thread-safe and take the pool lock.
#ifndef HAKMEM_TINY_SLAB_POOL_H_
#define HAKMEM_TINY_SLAB_POOL_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/tiny/slab.h"

HAK_C_BEGIN

#define HAK_SPAN_SLABS_MAX 16u

// A slab of `class_id`, formatted, owned by `owner`, registered in the slab map. NULL: out of memory.
struct hak_slab *hak_pool_take(uint32_t class_id, struct hak_heap *owner);
// Takes back a slab none of whose blocks is in use.
void hak_pool_give(struct hak_slab *slab);

// A span of `slabs` (1 .. HAK_SPAN_SLABS_MAX) consecutive slabs; its first byte, or NULL. Bit i of *dirty: slab i of
// the span may hold something else than zero.
void *hak_pool_take_span(uint32_t slabs, uint32_t *dirty);
// Takes back the span that begins with `slab`. False, and nothing done, when no span begins there.
bool hak_pool_give_span(struct hak_slab *slab);
// Changes the span's length without moving it. False, and nothing done, when what follows is not free.
bool hak_pool_resize_span(struct hak_slab *slab, uint32_t slabs);

// Releases what is past the deadline; does at most a slice of work. Called on the slow paths.
void hak_pool_tick(void);
// Releases all free memory above `keep_bytes` at once; returns how many bytes went back.
size_t hak_pool_trim(size_t keep_bytes);

struct hak_pool_totals {
  uint64_t superslabs;
  uint64_t slabs_used;  // for small blocks
  uint64_t slabs_free;
  uint64_t slabs_free_dirty;  // of these: may have memory
  uint64_t spans;
  uint64_t span_bytes;
  uint64_t tiny_blocks;    // carved and not free in their slab: held by the program, a cache or a remote chain
  uint64_t tiny_bytes;     // their usable bytes
  uint64_t remote_blocks;  // of these: on remote chains
  uint64_t remote_bytes;
};
struct hak_pool_totals hak_pool_totals(void);

// Calls visit for every slab of every superslab, under the pool lock, until it returns false; tells whether none did.
bool hak_pool_visit(bool (*visit)(struct hak_slab *slab, void *context), void *context);
// Checks the pool's own records. NULL, or what is wrong.
const char *hak_pool_verify(void);

// Around fork.
void hak_pool_lock(void);
void hak_pool_unlock(void);

HAK_C_END

#endif  // HAKMEM_TINY_SLAB_POOL_H_
