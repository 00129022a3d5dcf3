// SPDX-License-Identifier: Apache-2.0
//
// The pool: all superslabs of the process and their free slabs. Heaps take single slabs. Slabs are taken from the
// fullest superslab that has one, so that the emptier superslabs can become empty. Free slabs keep their memory until
// the release policy's deadline. Later calls then return it to the operating system in bounded slices.
//
// All functions are thread-safe and take the pool lock.
#ifndef HAKMEM_SLAB_SLAB_POOL_H_
#define HAKMEM_SLAB_SLAB_POOL_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/slab/pool_lock.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// A slab of `class_id`, formatted, owned by `owner`, registered in the slab map. NULL: out of memory, or a superslab
// would have to be mapped and `grow` forbids it.
struct hak_slab *hak_pool_take(uint32_t class_id, struct hak_heap *owner, bool grow);
// The same for a class of which the owner has only full slabs: in a large heap the slab is in huge pages.
struct hak_slab *hak_pool_take_further(uint32_t class_id, struct hak_heap *owner, bool grow);
// Takes back a slab that has no block in use.
void hak_pool_give(struct hak_slab *slab);

// Maps and populates `count` superslabs.
void hak_pool_prewarm(uint64_t count);

// Around fork.
void hak_pool_lock(void) HAK_ACQUIRE(hak_pool_mutex);
void hak_pool_unlock(void) HAK_RELEASE(hak_pool_mutex);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_POOL_H_
