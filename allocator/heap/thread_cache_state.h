// SPDX-License-Identifier: Apache-2.0
//
// What thread_cache.c keeps in a heap.
#ifndef HAKMEM_HEAP_THREAD_CACHE_STATE_H_
#define HAKMEM_HEAP_THREAD_CACHE_STATE_H_

#include "allocator/heap/heap_lock.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

// For each class.
struct hak_bin_upkeep {
  bool busy HAK_GUARDED_BY(hak_heap_role);        // the class's bin had a slow event since the last decay
  uint16_t credit HAK_GUARDED_BY(hak_heap_role);  // blocks that the class's refills brought, minus loans
  // How many of the lowest cached blocks in the bin came from fresh memory and may never have been touched.
  uint32_t untouched HAK_GUARDED_BY(hak_heap_role);
};

// For all classes.
struct hak_cache_upkeep {
  // Nothing is emptied before growth (hak_thread_cache_empty_before_growth) below this many slabs.
  uint64_t empty_at_slabs HAK_GUARDED_BY(hak_heap_role);
  uint64_t cache_bytes HAK_GUARDED_BY(hak_heap_role);  // sum over the bins of capacity * stride
  // The part of cache_bytes that another thread has released, after it had closed all bins (hak_thread_cache_yield).
  uint64_t yielded_bytes HAK_GUARDED_BY(hak_heap_role);
  uint64_t slow_calls HAK_GUARDED_BY(hak_heap_role);   // slow events so far
  uint32_t events HAK_GUARDED_BY(hak_heap_role);       // slow events since the last decay step
  uint32_t decay_class HAK_GUARDED_BY(hak_heap_role);  // the class that the last decay step checked
  // The thread has had enough slow events to do some of the reclaim work. Used by the thread alone, also without the
  // lock.
  bool tick_due;
};

HAK_C_END

#endif  // HAKMEM_HEAP_THREAD_CACHE_STATE_H_
