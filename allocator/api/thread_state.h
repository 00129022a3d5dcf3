// SPDX-License-Identifier: Apache-2.0
//
// What the allocator knows of the calling thread, in thread-local words: its heap, whether its calls are watched, and
// whether it is within a guarded call.
#ifndef HAKMEM_API_THREAD_STATE_H_
#define HAKMEM_API_THREAD_STATE_H_

#include "allocator/hot/thread.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The thread's heap while its calls are watched (api/watch.h). The fast paths then do not see its cache.
extern _Thread_local struct hak_heap *hak_thread_watched __attribute__((tls_model("initial-exec")));

// The thread's heap, watched or not. NULL: it has none.
struct hak_heap *hak_thread_heap_if_any(void);

// Gives the thread the heap, and shows its cache to the fast paths.
void hak_thread_set_heap(struct hak_heap *heap);
// Takes the heap from the thread.
void hak_thread_drop_heap(void);

// hak_thread_watch switches the thread's fast paths off, so that each of its calls goes through hak_thread_attach.
// hak_thread_is_watched tells whether they are off.
void hak_thread_watch(struct hak_heap *heap);
bool hak_thread_is_watched(void);

// For a call of a watched thread that needs no reading of the clock yet: counts the call and returns the heap.
// Otherwise NULL, and the call takes the slow path.
HAK_INLINE struct hak_heap *hak_thread_between_looks(void) {
  struct hak_heap *heap = hak_thread_watched;
  if (heap == NULL || heap->watch.skip == 0) return NULL;
  heap->watch.skip--;
  return heap;
}

// How many guarded calls (api/guarded_entry.h) of this thread have not returned. Volatile: a signal handler may read it
// between any two instructions.
extern _Thread_local volatile uint32_t hak_guarded_calls __attribute__((tls_model("initial-exec")));
// Whether a signal handler runs that interrupted such a call. A block may then be neither live nor free, and its canary
// half written.
HAK_INLINE bool hak_guarded_is_within(void) { return hak_guarded_calls != 0; }

HAK_C_END

#endif  // HAKMEM_API_THREAD_STATE_H_
