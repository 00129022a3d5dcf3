// SPDX-License-Identifier: Apache-2.0
//
// The thread-local words of the allocator.
#include "allocator/api/thread_state.h"

#include "allocator/heap/bin.h"

// Never written through: nothing is pushed to a cache without room, and nothing is popped from one without blocks.
#define NO_CACHE ((struct hak_cache *)(uintptr_t)&hak_no_cache)

_Thread_local struct hak_cache *hak_thread_cache = NO_CACHE;
_Thread_local struct hak_cache *hak_new_cache = NO_CACHE;
_Thread_local struct hak_heap *hak_thread_watched;
_Thread_local volatile uint32_t hak_guarded_calls;

struct hak_heap *hak_thread_heap_if_any(void) {
  return hak_thread_cache != NO_CACHE ? hak_heap_of_cache(hak_thread_cache) : hak_thread_watched;
}

void hak_thread_set_heap(struct hak_heap *heap) {
  hak_thread_cache = &heap->cache;
  hak_thread_watched = NULL;
}

void hak_thread_drop_heap(void) {
  hak_thread_cache = NO_CACHE;
  hak_new_cache = NO_CACHE;
  hak_thread_watched = NULL;
}

void hak_thread_watch(struct hak_heap *heap) {
  hak_thread_watched = heap;
  hak_thread_cache = NO_CACHE;
  hak_new_cache = NO_CACHE;
}

bool hak_thread_is_watched(void) { return hak_thread_watched != NULL; }
