// SPDX-License-Identifier: Apache-2.0
//
// How the pool's free memory goes back: a queue of superslabs that have some, oldest first. All but hak_pool_note_free
// are thread-safe and take the pool lock.
#ifndef HAKMEM_SLAB_SLAB_RELEASE_H_
#define HAKMEM_SLAB_SLAB_RELEASE_H_

#include "allocator/os/base.h"
#include "allocator/slab/pool_lock.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Releases one superslab's free memory that is past the deadline at `now` (milliseconds). False: there is none.
bool hak_pool_tick(uint64_t now);
// Releases all free memory above `keep_bytes` at once; returns how many bytes went back.
size_t hak_pool_trim(size_t keep_bytes);

// Before about `bytes` of new memory are taken elsewhere: where there is much free memory, gives back what is past the
// deadline, or near a limit any. Bounded; returns the bytes.
size_t hak_pool_make_way(size_t bytes);

// Bytes of free slabs that may hold memory. A hint: not read under the lock.
uint64_t hak_pool_free_bytes(void);

// After slabs became free: LEAN may decommit them at once; else they wait for the deadline from now on, unless the
// superslab waits already. Then releases a slice of what is due. Under the pool lock.
void hak_pool_note_free(struct hak_superslab *ss, uint64_t now) HAK_REQUIRES(hak_pool_mutex);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_RELEASE_H_
