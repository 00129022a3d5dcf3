// SPDX-License-Identifier: Apache-2.0
//
// What the allocator knows of the calling thread, in thread-local words: its heap, whether its calls are watched, and
// whether it is in one of the guarded calls.
#ifndef HAKMEM_API_THREAD_STATE_H_
#define HAKMEM_API_THREAD_STATE_H_

#include "allocator/hot/thread.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The thread's heap while it is watched (api/watch.h); its cache is then out of the fast paths' sight.
extern _Thread_local struct hak_heap *hak_thread_watched __attribute__((tls_model("initial-exec")));

// The thread's heap, watched or not; NULL: it has none now.
struct hak_heap *hak_thread_heap_if_any(void);

// The thread has `heap` from now on, and its fast paths see the cache.
void hak_thread_set_heap(struct hak_heap *heap);
// It has none.
void hak_thread_drop_heap(void);

// Switches the thread's fast paths off, so that each of its calls goes through hak_thread_attach, and asks whether they
// are.
void hak_thread_watch(struct hak_heap *heap);
bool hak_thread_is_watched(void);

// For a call of a watched thread that comes before the next look at the clock: its heap, and the call is counted. Else
// NULL, and the call goes the long way.
HAK_INLINE struct hak_heap *hak_thread_between_looks(void) {
  struct hak_heap *heap = hak_thread_watched;
  if (heap == NULL || heap->watch.skip == 0) return NULL;
  heap->watch.skip--;
  return heap;
}

// Guarded calls (api/guarded_entry.h) of this thread that have not returned. Volatile: a signal's handler reads it,
// between any two instructions.
extern _Thread_local volatile uint32_t hak_guarded_calls __attribute__((tls_model("initial-exec")));
// Whether this is the handler of a signal that came within one of them: a block may be on its way between live and
// free, with a canary of neither.
HAK_INLINE bool hak_guarded_is_within(void) { return hak_guarded_calls != 0; }

HAK_C_END

#endif  // HAKMEM_API_THREAD_STATE_H_
