// SPDX-License-Identifier: Apache-2.0
//
// Life of the process and of its threads as the allocator sees it: first use, a thread's heap and its end, fork, exit.
#ifndef HAKMEM_API_PROCESS_H_
#define HAKMEM_API_PROCESS_H_

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

// The thread's heap without opening one.
struct hak_heap *hak_thread_heap_if_any(void);
// The same for a free: NULL also for a thread that has no heap and has not freed much. Its blocks go straight back.
HAK_COLD struct hak_heap *hak_thread_heap_to_free(void);

// hak_gate_set, and what follows from it beyond hak_config. Not while any lock is held.
int hak_process_configure(const char *name, const char *value);

// The calling thread's heap while it is watched (api/watch.h); its cache is then out of the fast paths' sight.
extern _Thread_local struct hak_heap *hak_thread_watched __attribute__((tls_model("initial-exec")));

// For a call of a watched thread that comes before the next look at the clock: its heap, and the call is counted. Else
// NULL, and the call goes the long way.
HAK_INLINE struct hak_heap *hak_thread_between_looks(void) {
  struct hak_heap *heap = hak_thread_watched;
  if (heap == NULL || heap->watch_skip == 0) return NULL;
  heap->watch_skip--;
  return heap;
}

// Switches the calling thread's fast paths off, so that each of its calls goes through hak_thread_attach, and asks
// whether they are.
void hak_thread_watch(struct hak_heap *heap);
bool hak_thread_is_watched(void);

HAK_C_END

#endif  // HAKMEM_API_PROCESS_H_
