// SPDX-License-Identifier: Apache-2.0
#include "allocator/api/process.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "allocator/api/background.h"
#include "allocator/api/watch.h"
#include "allocator/gate/gate.h"
#include "allocator/gate/gate_now.h"
#include "allocator/large/mapping.h"
#include "allocator/observe/statistics.h"
#include "allocator/os/barrier.h"
#include "allocator/os/decommit.h"
#include "allocator/os/fault.h"
#include "allocator/os/lock.h"
#include "allocator/os/mapping_limit.h"
#include "allocator/os/os.h"
#include "allocator/policy/guard_budget.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/tiny/freed_check.h"
#include "allocator/tiny/meta.h"
#include "allocator/tiny/quarantine.h"
#include "allocator/tiny/reclaim.h"
#include "allocator/tiny/slab_map.h"
#include "allocator/tiny/slab_pool.h"
#include "allocator/tiny/superslab_records.h"
#include "allocator/tiny/thread_cache.h"
#include "allocator/tiny/tiny_nextptr.h"

// Never written through: a cache without room is not pushed to, and one without blocks is not popped from.
#define NO_CACHE ((struct hak_cache *)(uintptr_t)&hak_no_cache)

_Thread_local struct hak_cache *hak_thread_cache = NO_CACHE;
_Thread_local struct hak_cache *hak_new_cache = NO_CACHE;

_Thread_local struct hak_heap *hak_thread_watched;
// Of the calling thread: whether its destructor ran, and whether it is past its end.
static _Thread_local bool end_announced;
static _Thread_local bool ended;

static struct hak_lock init_lock = HAK_LOCK_INIT(HAK_RANK_INIT);
static HAK_ATOMIC(bool) initialised;  // written once under init_lock (release), read before (acquire)
static pthread_key_t end_key;         // constant once there
static HAK_ATOMIC(bool) end_key_begun;
static HAK_ATOMIC(bool) have_end_key;

// ---- Threads ------------------------------------------------------------------------------------

static void close_heap(struct hak_heap *heap) {
  hak_thread_cache = NO_CACHE;
  hak_new_cache = NO_CACHE;
  hak_thread_watched = NULL;
  hak_heap_close(heap);
}

static bool set_end_key(const void *value) {
  return !hak_fault_due(HAK_FAULT_THREAD) && pthread_setspecific(end_key, value) == 0;
}

// Destructor of end_key. Most other keys are younger than ours, so their destructors run after it and may allocate and
// free: the first time it only asks to be called again, in the next round. What still comes after that works on the
// orphanage. (A thread whose very first allocation is in the third round of its destructors or later is not seen again;
// its heap stays open.)
static void thread_end(void *heap) {
  if (!end_announced && set_end_key(heap)) {
    end_announced = true;
    return;
  }
  ended = true;
  close_heap(heap);
  hak_watch_after_thread();
}

// Under no lock: the C library, or what wraps it, may allocate. Such a call, and one of another thread meanwhile, finds
// no key and goes without a heap.
static void make_end_key(void) {
  // Relaxed: one thread does it. Release: whoever sees the key made sees the key.
  if (HAK_LIKELY(atomic_load_explicit(&end_key_begun, memory_order_relaxed))) return;
  if (atomic_exchange_explicit(&end_key_begun, true, memory_order_relaxed)) return;
  const bool made = !hak_fault_due(HAK_FAULT_THREAD) && pthread_key_create(&end_key, thread_end) == 0;
  atomic_store_explicit(&have_end_key, made, memory_order_release);
}

static void initialise(void) {
  // Acquire: pairs with the store below, and sees all that was set before it; relaxed under the lock.
  if (HAK_LIKELY(atomic_load_explicit(&initialised, memory_order_acquire))) return;
  hak_lock_acquire(&init_lock);
  if (!atomic_load_explicit(&initialised, memory_order_relaxed)) {
    hak_gate_init();
    // A program that forbids itself `open` says so by this setting.
    if (HAK_GUARDED && hak_config.cgroup_limit) hak_guard_budget_init(hak_os_mapping_limit());
    hak_slab_map_init(hak_config.slab_map_form);
    hak_superslab_records_init();
    hak_nextptr_secret = hak_os_random();
    hak_os_barrier_init();
    // What may need a file of the kernel is found out now: later a sandbox may forbid it.
    hak_limit_read_group();
    hak_os_huge_pages();
    if (hak_config.prewarm_superslabs != 0) hak_pool_prewarm(hak_config.prewarm_superslabs);
    // Release: see above.
    atomic_store_explicit(&initialised, true, memory_order_release);
  }
  hak_lock_release(&init_lock);
}

int hak_process_configure(const char *name, const char *value) {
  initialise();
  const int saved = errno;
  // One change at a time, none of them while a fork is under way.
  hak_lock_acquire(&init_lock);
  const int error = hak_gate_set(name, value);
  if (error == 0 && strcmp(name, hak_gates[HAK_GATE_CGROUP_LIMIT].name) == 0) hak_limit_read_group();
  hak_lock_release(&init_lock);
  if (error == 0) {
    hak_limit_changed();
    hak_background_follow();
  }
  errno = saved;
  return error;
}

void hak_thread_watch(struct hak_heap *heap) {
  hak_thread_watched = heap;
  hak_thread_cache = NO_CACHE;
  hak_new_cache = NO_CACHE;
}

bool hak_thread_is_watched(void) { return hak_thread_watched != NULL; }

// The thread's heap without starting one.
static struct hak_heap *present_heap(void) {
  return hak_thread_cache != NO_CACHE ? hak_heap_of_cache(hak_thread_cache) : hak_thread_watched;
}

HAK_COLD struct hak_heap *hak_thread_attach(void) {
  if (hak_thread_watched != NULL) {
    struct hak_heap *mine = hak_thread_watched;
    if (hak_watch_call(mine)) {
      hak_thread_cache = &mine->cache;
      hak_thread_watched = NULL;
    }
    return mine;
  }
  if (ended) return NULL;
  initialise();
  make_end_key();
  struct hak_heap *heap = hak_heap_open();
  if (heap == NULL) return NULL;
  // Before pthread_setspecific, which may allocate.
  hak_thread_cache = &heap->cache;
  // Acquire: pairs with the store in make_end_key.
  if (atomic_load_explicit(&have_end_key, memory_order_acquire) && set_end_key(heap)) return heap;
  // Nobody would tell us of the thread's end, and its blocks would be lost.
  close_heap(heap);
  return NULL;
}

struct hak_heap *hak_thread_heap_if_any(void) { return present_heap(); }

// ---- Fork ---------------------------------------------------------------------------------------

// Calls of fork that this thread is in: a handler of the program may fork too.
static _Thread_local uint32_t forks;

static void before_fork(void) {
  if (forks++ != 0) return;
  // In the order of the ranks; then no thread is in the middle of a change that the child would inherit half done.
  hak_lock_acquire(&init_lock);
  hak_heap_lock_all();
  hak_pool_lock();
  hak_mapping_lock();
  hak_meta_lock();
  hak_lock_holds_all = true;
}

static void unlock_after_fork(void) {
  if (--forks != 0) return;
  hak_lock_holds_all = false;
  hak_meta_unlock();
  hak_mapping_unlock();
  hak_pool_unlock();
  hak_heap_unlock_all();
  hak_lock_release(&init_lock);
}

static void after_fork_in_child(void) {
  // Relaxed: there is one thread. The one that was making the key is not here.
  atomic_store_explicit(&end_key_begun, atomic_load_explicit(&have_end_key, memory_order_relaxed),
                        memory_order_relaxed);
  hak_heap_abandon_others(present_heap());
  hak_background_forget();
  unlock_after_fork();
}

// Handlers of the program that are registered later run outside of ours. Those of libraries that were started before us
// run inside, where this thread has every lock: either may allocate.
__attribute__((constructor)) static void register_fork_handlers(void) {
  pthread_atfork(before_fork, unlock_after_fork, after_fork_in_child);
  // Here no lock of the C library is held that making a thread needs, as it might be within some malloc.
  initialise();
  hak_background_start();
}

// ---- Exit ---------------------------------------------------------------------------------------

// The last check for double frees: blocks that wait in the exiting thread's cache, or to be taken in by the threads
// that they were allocated by, are compared with their slabs.
__attribute__((destructor)) static void check_at_exit(void) {
  struct hak_heap *heap = present_heap();
  // Before the check, so that the figures are those of the program.
  if (HAK_SETTING(stats_at_exit)) hak_statistics_dump();
  if (!HAK_FAST && heap != NULL) {
    hak_heap_enter(heap);
    hak_freed_require_untouched(heap);
    hak_quarantine_flush(heap);
    hak_thread_cache_flush_all(heap);
    hak_heap_drain(heap);
    hak_heap_leave(heap);
  }
  if (!HAK_FAST) hak_reclaim_waiting(heap);
}
