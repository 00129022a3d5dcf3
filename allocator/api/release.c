// SPDX-License-Identifier: Apache-2.0
//
// Flushes the calling thread's cache, and trims the process.
#include "allocator/api/release.h"

#include "allocator/api/process.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/medium_cache.h"
#include "allocator/heap/page_purge.h"
#include "allocator/heap/quarantine.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/large/guarded_held.h"
#include "allocator/meta/meta.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/reclaim/reclaim.h"
#include "allocator/slab/slab_release.h"

void hak_release_thread(void) {
  struct hak_heap *heap = hak_thread_heap();
  if (heap == NULL) return;
  hak_heap_enter(heap);
  hak_quarantine_flush(heap);
  hak_medium_flush(heap);
  hak_thread_cache_flush_all(heap);
  hak_remote_drain(heap);
  hak_heap_release_empty(heap);
  hak_heap_leave(heap);
}

// And returns the free pages of its slabs. Between two slices another thread may fork.
static size_t purge_pages(void) {
  struct hak_heap *heap = hak_thread_heap();
  if (heap == NULL) return 0;
  hak_heap_enter(heap);
  size_t bytes = 0;
  bool more = hak_page_purge_begin(heap);
  while (more) {
    more = hak_page_purge_step(heap, &bytes);
    hak_heap_leave(heap);
    hak_heap_enter(heap);
  }
  hak_heap_leave(heap);
  return bytes;
}

static HAK_COLD size_t trim_records(void) {
  const size_t bytes = hak_heap_trim_records();
  return bytes + hak_meta_trim();
}

static size_t release_all(size_t keep_bytes, bool barrier, bool refused) {
  hak_reclaim_gone();  // First: it may return blocks to this thread's own slabs.
  hak_release_thread();
  hak_reclaim_all(hak_thread_heap(), barrier, refused);
  // FAST has no blocks between guards.
  const size_t bytes =
      hak_pool_trim(keep_bytes) + hak_page_heap_trim() + (HAK_FAST ? 0 : hak_held_trim()) + trim_records();
  return keep_bytes == 0 ? bytes + purge_pages() : bytes;
}

size_t hak_release_all(size_t keep_bytes) { return release_all(keep_bytes, true, false); }

static void release_for(size_t size, bool near_limit) {
  if (HAK_GUARDED && !near_limit) hak_held_refused(size, hak_commit_now());
  release_all(0, near_limit && size <= hak_commit_now(), true);
  // What other threads return at this moment was not there to be returned.
  hak_pool_settle();
  hak_limit_purged(size);
}

void hak_release_for(size_t size) { release_for(size, hak_limit_refused()); }
void hak_release_near_limit(size_t size) { release_for(size, true); }
