// SPDX-License-Identifier: Apache-2.0
//
// Life of the process and of its threads as the allocator sees it: first use, a thread's heap and its end, fork, exit.
#ifndef HAKMEM_API_PROCESS_H_
#define HAKMEM_API_PROCESS_H_

#include "allocator/api/thread_state.h"
#include "allocator/heap/bin.h"
#include "allocator/hot/thread.h"

HAK_C_BEGIN

// The slow part of hak_thread_heap.
HAK_COLD struct hak_heap *hak_thread_attach(void);

// The calling thread's heap; it is opened on first use. NULL when there is none: the thread is past its own end, or
// memory for a heap cannot be had. Such a thread works on the orphanage.
HAK_INLINE struct hak_heap *hak_thread_heap(void) {
  struct hak_cache *cache = hak_thread_cache;
  if (HAK_LIKELY(cache != &hak_no_cache)) return hak_heap_of_cache(cache);
  return hak_thread_attach();
}

// The thread's heap for a free: NULL also for a thread that has no heap and has not freed much. Its blocks go straight
// back.
HAK_COLD struct hak_heap *hak_thread_heap_to_free(void);

// hak_gate_set, and what follows from it beyond hak_config. Not while any lock is held.
int hak_process_configure(const char *name, const char *value);

HAK_C_END

#endif  // HAKMEM_API_PROCESS_H_
