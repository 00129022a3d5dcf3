// SPDX-License-Identifier: Apache-2.0
//
// Initialisation, the heap of each thread and its end, fork, and exit.
#include "allocator/api/process.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "allocator/api/background.h"
#include "allocator/api/full_report.h"
#include "allocator/api/guard_report.h"
#include "allocator/api/pin.h"
#include "allocator/api/thread_state.h"
#include "allocator/api/watch.h"
#include "allocator/block/tiny_nextptr.h"
#include "allocator/gate/gate.h"
#include "allocator/gate/gate_now.h"
#include "allocator/gate/gate_start.h"
#include "allocator/heap/freed_check.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/medium_cache.h"
#include "allocator/heap/quarantine.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/meta/meta.h"
#include "allocator/observe/pressure.h"
#include "allocator/observe/statistics.h"
#include "allocator/observe/stats_page.h"
#include "allocator/os/auxv.h"
#include "allocator/os/barrier.h"
#include "allocator/os/bytes.h"
#include "allocator/os/decommit.h"
#include "allocator/os/fault.h"
#include "allocator/os/fork_gate.h"
#include "allocator/os/lock.h"
#include "allocator/os/mapping_limit.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/os/single_thread.h"
#include "allocator/os/thread_mark.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/policy/guard_budget.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/prof/modules.h"
#include "allocator/prof/sampler.h"
#include "allocator/reclaim/reclaim.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/superslab_records.h"

// For the calling thread: whether its destructor has run once, and whether its heap is closed for good.
static _Thread_local bool end_announced;
static _Thread_local bool ended;
// How many frees of a thread without a heap go straight back to their slabs. After its end a thread still frees some
// blocks of the C library, and nobody would close a heap that it opened then. A thread that frees more than this many
// blocks is at work, and gets a heap.
#define FREES_WITHOUT_HEAP 64u
static _Thread_local uint32_t frees_without_heap;

static struct hak_lock init_lock = HAK_LOCK_INIT(HAK_RANK_INIT);
static HAK_ATOMIC(bool) initialised;   // written once under init_lock (release), read before (acquire)
static pthread_key_t end_key;          // constant once have_end_key is true
static HAK_ATOMIC(bool) have_end_key;  // written once (release), read before the key (acquire)

// Whoever holds it may set the values of the settings.
static void enter_init(void) HAK_ACQUIRE(init_lock, hak_gate_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role comes with the lock") {
  hak_lock_acquire(&init_lock);
}
static void leave_init(void) HAK_RELEASE(init_lock, hak_gate_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role goes with the lock") {
  hak_lock_release(&init_lock);
}

// ---- Threads ------------------------------------------------------------------------------------

static void close_heap(struct hak_heap *heap) {
  hak_thread_drop_heap();
  hak_thread_mark_clear(&heap->mark);
  hak_heap_close(heap);
}

static bool set_end_key(const void *value) {
  return !hak_fault_due(HAK_FAULT_THREAD) && pthread_setspecific(end_key, value) == 0;
}

// Destructor of end_key. Most other keys are created later than ours, so their destructors run after this one and may
// still allocate and free. The first call therefore only asks to be called again in the next round. Calls that come
// after that use the orphanage. If a thread first allocates in a late round of its destructors, this function is not
// called for it, and the thread's mark reports its end. `value` is ignored, because another library may have set it.
static void thread_end(void *value) {
  (void)value;
  struct hak_heap *heap = hak_thread_heap_if_any();
  if (heap == NULL) return;
  if (!end_announced && set_end_key(heap)) {
    end_announced = true;
    return;
  }
  ended = true;
  close_heap(heap);
  hak_watch_after_thread();
}

// Leaves key 0 to others: some libraries delete or set a key that they never created, whose number is 0.
static bool make_end_key(void) {
  if (hak_fault_due(HAK_FAULT_THREAD) || pthread_key_create(&end_key, thread_end) != 0) return false;
  if (end_key != 0) return true;
  pthread_key_t second;
  const bool made = pthread_key_create(&second, thread_end) == 0;
  pthread_key_delete(end_key);
  end_key = second;
  return made;
}

static void before_fork(void);
static void after_fork(void);
static void after_fork_in_child(void);

// Registers what the C library calls back: the fork handlers and the thread key. Hold no lock, because the functions
// called here may allocate or belong to another library. This happens as early as possible: handlers that are
// registered later run first and take their locks before we take ours, and a thread that holds one of those locks may
// wait for one of ours. A thread that arrives while another thread registers them, or that allocates within this
// function, returns at once.
static void set_hooks(void) {
  enum { NONE, BEGUN, DONE };
  static HAK_ATOMIC(int) state;
  int expected = NONE;
  // Acquire: sees the key. Relaxed on failure: nothing is read then.
  if (HAK_LIKELY(atomic_load_explicit(&state, memory_order_acquire) != NONE) ||
      !atomic_compare_exchange_strong_explicit(&state, &expected, BEGUN, memory_order_acquire, memory_order_relaxed)) {
    return;
  }
  const int saved = errno;
  pthread_atfork(before_fork, after_fork, after_fork_in_child);
  const bool made = make_end_key();
  // Release: a thread that reads true can use the key.
  atomic_store_explicit(&have_end_key, made, memory_order_release);
  atomic_store_explicit(&state, DONE, memory_order_release);
  errno = saved;
}

static void initialise(void) {
  // Acquire: pairs with the store below, so everything set before it is visible. Relaxed under the lock.
  if (HAK_LIKELY(atomic_load_explicit(&initialised, memory_order_acquire))) return;
  enter_init();
  if (!atomic_load_explicit(&initialised, memory_order_relaxed)) {
    hak_report_name_program((const char *)hak_auxv(HAK_AUXV_PROGRAM));
    hak_gate_init();
    if (HAK_PROF) hak_sampler_obey_setting();
    // With this setting off, hakmem must not open files: the program may have forbidden that.
    if (HAK_GUARDED && hak_config.cgroup_limit) hak_guard_budget_init(hak_os_mapping_limit());
    hak_slab_map_init(hak_config.slab_map_form);
    hak_superslab_records_init();
    hak_nextptr_secret = hak_os_random();
    hak_os_barrier_init();
    // Both may read files of the kernel, which a sandbox may forbid later.
    hak_limit_read_group();
    hak_os_huge_pages();
    if (hak_config.prewarm_superslabs != 0) hak_pool_prewarm(hak_config.prewarm_superslabs);
    hak_fork_mark_init();
    if (HAK_GUARDED) hak_guard_report_start();
    if (HAK_PROF) hak_full_report_start();
    // Release: see above.
    atomic_store_explicit(&initialised, true, memory_order_release);
  }
  leave_init();
}

int hak_process_configure(const char *name, const char *value) {
  initialise();
  const int saved = errno;
  // The lock admits one change at a time, and none during a fork.
  enter_init();
  const int error = hak_gate_set(name, value);
  if (HAK_PROF) hak_sampler_obey_setting();
  if (error == 0 && hak_text_is(name, hak_gates[HAK_GATE_CGROUP_LIMIT].name)) hak_limit_read_group();
  leave_init();
  if (error == 0) {
    hak_limit_changed();
    hak_medium_obey_setting();
    hak_background_follow();
    if (HAK_PROF && hak_sampler_is_on()) {
      hak_modules_refresh();
      hak_watch_samples_of_all(hak_thread_heap_if_any());
    }
  }
  errno = saved;
  return error;
}

// ---- Profiles -----------------------------------------------------------------------------------

__attribute__((weak)) bool hak_process_triggers_start(void) { return false; }
__attribute__((weak)) void hak_process_triggers_exit(void) {}

// Called by a constructor, and with an old C library by the first allocation. Hold no lock.
static void start_triggers(void) {
  static HAK_ATOMIC(bool) started;
  // Relaxed: no other data depends on it, and the exchange lets one thread begin.
  if (!HAK_PROF || atomic_load_explicit(&started, memory_order_relaxed)) return;
  if (atomic_exchange_explicit(&started, true, memory_order_relaxed) || hak_process_triggers_start()) return;
  if (HAK_SETTING(dump_signal) == HAK_DUMP_SIGNAL_OFF && *hak_gate_text(HAK_GATE_TEXT_PROF_DUMP) == '\0' &&
      HAK_SETTING(prof_dump_every_s) == 0 && HAK_SETTING(prof_dump_growth_bytes) == 0) {
    return;
  }
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line,
                "hakmem: HAKMEM_PROF_DUMP, HAKMEM_PROF_DUMP_* and HAKMEM_DUMP_SIGNAL have no effect: this program is "
                "linked without "
                "@hakmem//allocator:pprof");
  hak_line_write(&line);
}

// ---- First use ----------------------------------------------------------------------------------

// Whether a call came here: the first is an allocation, in all but strange programs. Only then HAKMEM_SHOW_CONFIG says
// that hakmem is in use: a program that brings its own malloc also loads a preloaded library, which reads its settings.
static HAK_ATOMIC(bool) in_use;

// For a thread's first call. Hold no lock.
static void note_use(void) {
  // Relaxed: no other data depends on it, and the exchange lets one thread write the line.
  if (HAK_LIKELY(atomic_load_explicit(&in_use, memory_order_relaxed))) return;
  if (atomic_exchange_explicit(&in_use, true, memory_order_relaxed)) return;
  if (HAK_SETTING(show_config)) hak_gate_show_use(true);
  start_triggers();
}

// In a child that was created without the fork handlers another thread may have arrived. From then on a lock that is
// held may be held by a living thread.
static void note_arrival(void) {
  if (HAK_UNLIKELY(hak_lock_is_left_alone())) hak_fork_mark_note_thread();
}

HAK_COLD struct hak_heap *hak_thread_attach(void) {
  if (hak_thread_watched != NULL) {
    struct hak_heap *mine = hak_thread_watched;
    if (hak_watch_call(mine)) hak_thread_set_heap(mine);
    return mine;
  }
  if (ended) return NULL;
  initialise();
  note_use();
  set_hooks();
  note_arrival();
  struct hak_heap *heap = hak_heap_open();
  if (heap == NULL) return NULL;
  // Before pthread_setspecific, which may allocate.
  heap->watch.on = false;
  hak_thread_set_heap(heap);
  hak_watch_tracer(heap);
  hak_watch_samples(heap);
  const bool marked = hak_thread_mark_set(&heap->mark);
  // If the key already has a value, another library set it. Acquire: sees the key.
  const bool told = atomic_load_explicit(&have_end_key, memory_order_acquire) && pthread_getspecific(end_key) == NULL &&
                    set_end_key(heap);
  if (marked || told) return heap;
  // Nothing would report the thread's end, and its blocks would be lost.
  close_heap(heap);
  return NULL;
}

struct hak_heap *hak_thread_heap_to_free(void) {
  struct hak_heap *heap = hak_thread_heap_if_any();
  if (heap == NULL && (ended || frees_without_heap < FREES_WITHOUT_HEAP)) {
    frees_without_heap++;
    note_arrival();
    return NULL;
  }
  return hak_thread_heap();
}

// ---- Fork ---------------------------------------------------------------------------------------

// Only some versions of glibc have these: the lock of its list of streams, which fork takes after our handler.
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

// How many calls of fork this thread is in: a fork handler of the program may fork too.
static _Thread_local uint32_t forks;
// For the outermost call: whether there was no other thread, so that no lock was taken.
static _Thread_local bool forks_alone;

static void before_fork(void) HAK_NO_THREAD_SAFETY_ANALYSIS("fork has the locks from one handler to another") {
  if (forks++ != 0) return;
  // With only one thread, fork takes no locks: it may have been called in a signal handler that interrupted the thread
  // while it held one.
  forks_alone = hak_is_single_threaded();
  if (forks_alone) return;
  // The lock of the list of streams comes first: fflush holds it while it waits for a stream, and the stream's holder
  // may wait for one of our locks.
  if (_IO_list_lock != NULL) _IO_list_lock();
  // In the order of their ranks. Once all are held, no change is half done that the child would inherit.
  enter_init();
  if (!HAK_FAST) hak_pressure_lock();
  hak_heap_lock_all();
  hak_pool_lock();
  hak_mapping_lock_for_fork();
  if (HAK_PROF) hak_sampler_lock();
  hak_meta_lock();
  hak_lock_holds_all = true;
}

static void unlock_after_fork(void) HAK_NO_THREAD_SAFETY_ANALYSIS("fork has the locks from one handler to another") {
  hak_lock_holds_all = false;
  hak_meta_unlock();
  if (HAK_PROF) hak_sampler_unlock();
  hak_mapping_unlock_after_fork();
  hak_pool_unlock();
  hak_heap_unlock_all();
  if (!HAK_FAST) hak_pressure_unlock();
  leave_init();
}

static void after_fork(void) {
  if (--forks != 0 || forks_alone) return;
  unlock_after_fork();
  if (_IO_list_unlock != NULL) _IO_list_unlock();
}

static void after_fork_in_child(void) HAK_NO_THREAD_SAFETY_ANALYSIS("fork has the locks from one handler to another") {
  struct hak_heap *heap = hak_thread_heap_if_any();
  hak_fork_mark_renew();
  hak_reclaim_forked();
  if (!HAK_FAST) hak_pressure_forked();
  if (!HAK_FAST) hak_stats_page_forked();
  if (heap != NULL) hak_thread_mark_set(&heap->mark);
  if (forks_alone) {
    forks--;
    return;
  }
  hak_heap_abandon_others(heap);
  hak_meta_forked();
  hak_background_forget();
  if (--forks != 0) return;
  unlock_after_fork();
  if (_IO_list_resetlock != NULL) _IO_list_resetlock();
}

#ifdef __GLIBC__
// Exists since glibc 2.34, whose thread functions work before any constructor has run.
extern pid_t _Fork(void) __attribute__((weak));

// The library is marked to be initialised first (-z initfirst), even before the C library, and a program calls us
// before all constructors (api/early.h), so that fork handlers registered in other constructors come later than ours
// and enclose them. At that point only the arguments give the environment.
static bool is_first(char **environment) { return environ == NULL && environment != NULL; }
static bool is_too_early(void) { return _Fork == NULL; }
#else
// musl initialises libraries in the order of their dependencies, and passes no arguments to constructors.
static bool is_first(char **environment) {
  (void)environment;
  return false;
}
static bool is_too_early(void) { return false; }
#endif

// Fork handlers that the program registers later enclose ours. Those registered earlier run inside, while this thread
// holds every lock: they may allocate, but must not wait for another thread that allocates. Priority 101: before the
// other constructors of an object that contains the allocator.
__attribute__((constructor(101))) void hak_process_start_hooks(int argc, char **argv, char **environment) {
  (void)argc;
  (void)argv;
  if (!is_first(environment) || !is_too_early()) set_hooks();
}

// The settings are not read before this point, because other constructors of a program may set them.
__attribute__((constructor)) static void start(int argc, char **argv, char **environment) {
  (void)argc;
  (void)argv;
  if (is_first(environment)) {
    if (is_too_early()) return;  // The first allocation does all of this.
    hak_gate_set_environment(environment);
    // Not pinned: it is too early for dlopen, and this library is never unloaded anyway.
  } else {
    hak_pin_object();
  }
  // Unlike within a malloc, no lock of the C library is held here that creating a thread needs.
  initialise();
  if (HAK_PROF && hak_sampler_is_on()) hak_modules_refresh();
  start_triggers();
  hak_background_start();
  hak_stats_page_tick();
}

// ---- Exit ---------------------------------------------------------------------------------------

// The last check for double frees: flushes the exiting thread's cache and collects waiting remote frees, so that these
// blocks are compared with their slabs.
__attribute__((destructor)) static void check_at_exit(void) {
  struct hak_heap *heap = hak_thread_heap_if_any();
  // A signal handler that interrupted one of our calls ends the process: the call's records may be half changed.
  if (hak_lock_is_within() || (HAK_GUARDED && hak_guarded_is_within())) return;
  // Relaxed: the exiting thread has seen its own allocations.
  if (HAK_SETTING(show_config) && !atomic_load_explicit(&in_use, memory_order_relaxed)) hak_gate_show_use(false);
  // Before the check, so that the profile and the statistics are those of the program.
  if (HAK_PROF) hak_process_triggers_exit();
  if (HAK_SETTING(stats_at_exit)) hak_statistics_dump();
  if (!HAK_FAST) hak_stats_page_end();
  if (!HAK_FAST && heap != NULL) {
    hak_heap_enter(heap);
    hak_freed_require_untouched(heap);
    hak_quarantine_flush(heap);
    hak_thread_cache_flush_all(heap);
    hak_remote_drain(heap);
    hak_heap_leave(heap);
  }
  if (!HAK_FAST) hak_reclaim_waiting(heap);
}
