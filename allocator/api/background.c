// SPDX-License-Identifier: Apache-2.0
#include "allocator/api/background.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "allocator/os/atomic.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/tiny/reclaim.h"

// Sleep between two rounds, and how many rounds without work it takes to wait for a wake-up.
#define ROUND_MS_MIN 20u
#define ROUND_MS_MAX 500u
#define QUIET_ROUNDS 16u
// One round works for so long, then sleeps.
#define SLICE_US 20000u
// The thread calls nothing deep; the rest is for thread-local storage.
#define STACK_BYTES ((size_t)128 * 1024)

enum { ABSENT, RUNNING, WAITING };
// ABSENT -> RUNNING by whoever starts the thread; RUNNING <-> WAITING by the thread, WAITING -> RUNNING also by who
// wakes it. A futex. Relaxed: it carries no data, and a wake-up that comes too late is made good by the next one.
static HAK_ATOMIC(uint32_t) state;

static long futex(int operation, uint32_t value, const struct timespec *timeout) {
  return syscall(SYS_futex, &state, operation, value, timeout, NULL, 0);
}

static uint64_t round_ms(void) {
  uint64_t wanted = hak_config.decommit_deadline_ms;
  if (hak_config.idle_cache_ms != 0 && hak_config.idle_cache_ms < wanted) wanted = hak_config.idle_cache_ms;
  wanted /= 2;
  if (wanted < ROUND_MS_MIN) return ROUND_MS_MIN;
  return wanted < ROUND_MS_MAX ? wanted : ROUND_MS_MAX;
}

static void pause_ms(uint64_t ms) {
  const struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
  nanosleep(&time, NULL);
}

// Waits for the next slow calls of some thread.
static void wait_for_work(void) {
  atomic_store_explicit(&state, WAITING, memory_order_relaxed);
  while (atomic_load_explicit(&state, memory_order_relaxed) == WAITING) futex(FUTEX_WAIT_PRIVATE, WAITING, NULL);
}

static _Noreturn void work(void) {
  const uint64_t sleep_ms = round_ms();
  // What was freed just before the last wake-up is due a deadline later.
  const uint64_t patience = QUIET_ROUNDS + 2 * (hak_config.decommit_deadline_ms + hak_config.idle_cache_ms) / sleep_ms;
  for (uint64_t quiet = 0;;) {
    pause_ms(sleep_ms);
    const bool worked = hak_reclaim_slice(NULL, SLICE_US);
    atomic_fetch_add_explicit(&hak_background_round_count, 1, memory_order_relaxed);
    quiet = worked ? 0 : quiet + 1;
    if (quiet < patience) continue;
    wait_for_work();
    quiet = 0;
  }
}

static void *run(void *unused) {
  (void)unused;
  prctl(PR_SET_NAME, "hakmem-purge");
  work();
}

static bool create(void) {
  pthread_attr_t attributes;
  if (hak_fault_due(HAK_FAULT_THREAD) || pthread_attr_init(&attributes) != 0) return false;
  const size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN);
  pthread_attr_setstacksize(&attributes, STACK_BYTES > least ? STACK_BYTES : least);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // The thread inherits the mask: no signal of the program is ever delivered to it.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const bool created = pthread_create(&thread, &attributes, run, NULL) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return created;
}

void hak_background_start(void) {
  uint32_t expected = ABSENT;
  if (!hak_config.background || atomic_load_explicit(&state, memory_order_relaxed) != ABSENT) return;
  // Before the thread is made: making it allocates, which may come here again.
  if (!atomic_compare_exchange_strong_explicit(&state, &expected, RUNNING, memory_order_relaxed,
                                               memory_order_relaxed)) {
    return;
  }
  const int saved = errno;
  if (!create()) atomic_store_explicit(&state, ABSENT, memory_order_relaxed);  // Tried again later.
  errno = saved;
}

void hak_background_wake(void) {
  if (HAK_LIKELY(atomic_load_explicit(&state, memory_order_relaxed) != WAITING)) return;
  atomic_store_explicit(&state, RUNNING, memory_order_relaxed);
  const int saved = errno;
  futex(FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
  errno = saved;
}

void hak_background_forget(void) { atomic_store_explicit(&state, ABSENT, memory_order_relaxed); }
