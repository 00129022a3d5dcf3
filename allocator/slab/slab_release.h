// SPDX-License-Identifier: Apache-2.0
//
// Returns the pool's free memory to the system: a queue of superslabs that have some, oldest first. What is returned is
// in transit during the system call, which is made without the pool lock: nobody can take it, and a fork waits. All
// functions except hak_pool_note_free are thread-safe and take the pool lock.
#ifndef HAKMEM_SLAB_SLAB_RELEASE_H_
#define HAKMEM_SLAB_SLAB_RELEASE_H_

#include "allocator/os/base.h"
#include "allocator/slab/pool_lock.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// Releases the free memory of one superslab that is past the deadline at `now` (milliseconds). False: there is none.
bool hak_pool_tick(uint64_t now);
// Releases all free memory above `keep_bytes` at once; returns how many bytes were returned to the system.
size_t hak_pool_trim(size_t keep_bytes);

// Waits, for some 20 milliseconds at most, until what other threads are returning now is returned, or is free again
// because the kernel refused. For a request that would otherwise fail.
void hak_pool_settle(void);

// Call it before about `bytes` of new memory are taken elsewhere. If there is much free memory, it releases what is
// past the deadline; near a limit, any free memory. Bounded; returns the bytes.
size_t hak_pool_make_way(size_t bytes);

// Bytes of free slabs that may hold memory. A hint: not read under the lock.
uint64_t hak_pool_free_bytes(void);

// Call it after slabs became free. LEAN may decommit them at once; otherwise they wait for the deadline from now on,
// unless the superslab waits already. Then releases a slice of what is due. Under the pool lock, which it may release
// in between: afterwards the superslab may no longer exist.
void hak_pool_note_free(struct hak_superslab *ss, uint64_t now) HAK_REQUIRES(hak_pool_mutex);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_RELEASE_H_
