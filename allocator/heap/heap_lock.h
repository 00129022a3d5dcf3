// SPDX-License-Identifier: Apache-2.0
//
// The locks of heaps. Each heap has one of its own (heap.h), and there are three that exist once.
#ifndef HAKMEM_HEAP_HEAP_LOCK_H_
#define HAKMEM_HEAP_HEAP_LOCK_H_

#include "allocator/os/base.h"
#include "allocator/os/lock.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

// The list of all heaps.
extern struct hak_lock hak_registry_lock;
// The lock of the orphanage.
extern struct hak_lock hak_orphanage_lock;
// A thread without a heap takes it, in place of a heap's lock, when it frees. Fork waits for it, so that no child
// inherits a slab whose remote chain has blocks but whose owner never gets a notice.
extern struct hak_lock hak_late_lock;

// The right to what is "under the heap's lock". The thread has it that holds the lock of the heap in question, or one
// of the two locks above in its place.
extern struct hak_role hak_heap_role;

HAK_C_END

#endif  // HAKMEM_HEAP_HEAP_LOCK_H_
