// SPDX-License-Identifier: Apache-2.0
//
// The pool: all superslabs of the process and their free slabs. Heaps take single slabs, large blocks take spans of
// several; the fullest superslab that can serve is taken first, so that emptier ones can empty. Free slabs keep their
// memory until the release policy's deadline, and go back to the operating system in bounded slices, on the way of
// later calls.
//
// All functions are thread-safe and take the pool lock.
#ifndef HAKMEM_SLAB_SLAB_POOL_H_
#define HAKMEM_SLAB_SLAB_POOL_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/slab/slab.h"
#include "allocator/slab/slab_pool_counters.h"

HAK_C_BEGIN

#define HAK_SPAN_SLABS_MAX 16u

// A slab of `class_id`, formatted, owned by `owner`, registered in the slab map. NULL: out of memory, or a superslab
// would have to be mapped and `grow` forbids it.
struct hak_slab *hak_pool_take(uint32_t class_id, struct hak_heap *owner, bool grow);
// The same, of a class of which the owner has full slabs already: of a large heap such a slab is in huge pages.
struct hak_slab *hak_pool_take_further(uint32_t class_id, struct hak_heap *owner, bool grow);
// Takes back a slab none of whose blocks is in use.
void hak_pool_give(struct hak_slab *slab);

// A span of `slabs` (1 .. HAK_SPAN_SLABS_MAX) consecutive slabs; its first byte, or NULL. Bit i of *dirty: slab i of
// the span may hold something else than zero. `grow` as above.
void *hak_pool_take_span(uint32_t slabs, uint32_t *dirty, bool grow);
// Takes back the span that begins with `slab`. False, and nothing done, when no span begins there.
bool hak_pool_give_span(struct hak_slab *slab);
// Changes the span's length without moving it. False, and nothing done, when what follows is not free, or no span
// begins there.
bool hak_pool_resize_span(struct hak_slab *slab, uint32_t slabs);

// Releases one superslab's free memory that is past the deadline at `now` (milliseconds). False: there is none.
bool hak_pool_tick(uint64_t now);
// Releases all free memory above `keep_bytes` at once; returns how many bytes went back.
size_t hak_pool_trim(size_t keep_bytes);

// Before about `bytes` of new memory are taken elsewhere: where there is much free memory, gives back what is past the
// deadline, or near a limit any. Bounded; returns the bytes.
size_t hak_pool_make_way(size_t bytes);

// Maps `count` superslabs and fills them with memory.
void hak_pool_prewarm(uint64_t count);
// Bytes of free slabs that may hold memory. A hint: not read under the lock.
uint64_t hak_pool_free_bytes(void);

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
  struct hak_pool_counters counters;
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

#endif  // HAKMEM_SLAB_SLAB_POOL_H_
