// SPDX-License-Identifier: Apache-2.0
//
// What page_purge.c keeps in a heap: where it continues.
#ifndef HAKMEM_HEAP_PAGE_PURGE_STATE_H_
#define HAKMEM_HEAP_PAGE_PURGE_STATE_H_

#include "allocator/heap/heap_lock.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

struct hak_purge_cursor {
  // The pass: the class (0: none is under way), its list, and the slab (NULL: the list is done).
  uint32_t class_id HAK_GUARDED_BY(hak_heap_role);
  uint32_t list HAK_GUARDED_BY(hak_heap_role);
  struct hak_slab *next HAK_GUARDED_BY(hak_heap_role);
  uint64_t pass_ms HAK_GUARDED_BY(hak_heap_role);  // the next pass does not begin before this time
  // The trickle.
  uint32_t trickle_class HAK_GUARDED_BY(hak_heap_role);  // the class that it did last
  uint64_t trickle_ms HAK_GUARDED_BY(hak_heap_role);     // it does not continue before this time
};

// Call it before the slab leaves its list.
HAK_INLINE void hak_purge_cursor_skip(struct hak_purge_cursor *cursor, const struct hak_slab *slab)
    HAK_REQUIRES(hak_heap_role) {
  if (HAK_UNLIKELY(cursor->next == slab)) cursor->next = slab->next;
}

HAK_C_END

#endif  // HAKMEM_HEAP_PAGE_PURGE_STATE_H_
