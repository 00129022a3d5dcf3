// SPDX-License-Identifier: Apache-2.0
//
// What remote.c keeps in a heap: what hak_remote_drain_some has begun and not finished.
#ifndef HAKMEM_HEAP_REMOTE_STATE_H_
#define HAKMEM_HEAP_REMOTE_STATE_H_

#include "allocator/heap/heap_lock.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

struct hak_drain_state {
  // Slabs from the heap's pending list, linked by pending_next, whose chains are still on them.
  struct hak_slab *slabs HAK_GUARDED_BY(hak_heap_role);
  // The rest of one chain that is detached from its slab.
  struct hak_slab *rest_slab HAK_GUARDED_BY(hak_heap_role);
  HAK_ATOMIC(uint64_t) rest;        // as hak_slab.remote; statistics read, relaxed
  HAK_ATOMIC(uint32_t) rest_class;  // of its blocks, while `rest` is not 0; the same, relaxed
};

HAK_C_END

#endif  // HAKMEM_HEAP_REMOTE_STATE_H_
