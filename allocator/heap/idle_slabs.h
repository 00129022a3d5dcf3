// SPDX-License-Identifier: Apache-2.0
//
// Partly free slabs of threads that are idle: they go to the orphanage, so that busy threads fill them before they take
// fresh memory. Without this, each thread's peak keeps its own slabs, however little of it is still live.
//
// The blocks of such a slab that are live stay where they are. When they are freed, they go to the slab's new owner, as
// blocks of an ended thread do. If the thread becomes busy again, it adopts slabs like every other thread.
#ifndef HAKMEM_HEAP_IDLE_SLABS_H_
#define HAKMEM_HEAP_IDLE_SLABS_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// Gives slabs of the heap that have much room to the orphanage, and wholly free ones to the pool, of those classes that
// are idle: their free and cached blocks have not changed for `idle_ms` at `now` (milliseconds), as far as earlier
// calls of this function tell. If the thread has made hardly any slow call for so long and much of its heap is free,
// the first call gives them. With `idle_ms` 0 all classes are idle. One call gives a bounded number. Returns how many.
// By another thread than the heap's own, under the heap's lock.
uint32_t hak_idle_slabs_give(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) HAK_REQUIRES(hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_IDLE_SLABS_H_
