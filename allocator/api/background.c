// SPDX-License-Identifier: Apache-2.0
//
// The thread that returns idle memory while the program makes no calls.
#include "allocator/api/background.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sys/prctl.h>

#include "allocator/observe/stats_page.h"
#include "allocator/os/atomic.h"
#include "allocator/os/fault.h"
#include "allocator/os/futex.h"
#include "allocator/os/os.h"
#include "allocator/os/signal_mask.h"
#include "allocator/os/sys_call.h"
#include "allocator/policy/config.h"
#include "allocator/reclaim/reclaim.h"

// The sleep between two rounds, and after how many rounds without work the thread waits to be woken.
#define ROUND_MS_MIN 20u
#define ROUND_MS_MAX 500u
#define QUIET_ROUNDS 16u
// The most time that one round works.
#define SLICE_US 20000u
// The thread's own calls need little; the rest is for thread-local storage.
#define STACK_BYTES ((size_t)128 * 1024)

enum { ABSENT, RUNNING, WAITING };
// A futex. ABSENT -> RUNNING: whoever starts the thread. RUNNING <-> WAITING: the thread. WAITING -> RUNNING: also
// whoever wakes it. RUNNING -> ABSENT: the thread at its end. Relaxed except where the thread ends: the word publishes
// no data, and the next wake-up makes up for a missed one.
static HAK_ATOMIC(uint32_t) state;

// How long to sleep between rounds. After QUIET_ROUNDS of them, memory that was freed just before the last wake-up is
// past its deadline.
struct pace {
  uint64_t sleep_ms;
  uint64_t patience;
};

static struct pace pace_now(void) {
  const uint64_t deadline_ms = HAK_SETTING(decommit_deadline_ms);
  const uint64_t idle_ms = HAK_SETTING(idle_cache_ms);
  uint64_t wanted = (idle_ms != 0 && idle_ms < deadline_ms ? idle_ms : deadline_ms) / 2;
  if (wanted < ROUND_MS_MIN) wanted = ROUND_MS_MIN;
  if (wanted > ROUND_MS_MAX) wanted = ROUND_MS_MAX;
  return (struct pace){.sleep_ms = wanted, .patience = QUIET_ROUNDS + 2 * (deadline_ms + idle_ms) / wanted};
}

static void pause_ms(uint64_t ms) {
  static HAK_ATOMIC(uint32_t) never_woken;
  hak_futex_wait(&never_woken, 0, ms);
}

// Waits for the next slow call of any thread, or for a change of the setting.
static void wait_for_work(void) {
  atomic_store_explicit(&state, WAITING, memory_order_relaxed);
  while (atomic_load_explicit(&state, memory_order_relaxed) == WAITING)
    hak_futex_wait(&state, WAITING, HAK_FUTEX_FOR_EVER);
}

static void work(void) {
  for (uint64_t quiet = 0; HAK_SETTING(background);) {
    const struct pace pace = pace_now();
    pause_ms(pace.sleep_ms);
    const bool worked = hak_reclaim_slice(NULL, SLICE_US);
    atomic_fetch_add_explicit(&hak_background_round_count, 1, memory_order_relaxed);
    hak_stats_page_tick();
    quiet = worked ? 0 : quiet + 1;
    if (quiet < pace.patience) continue;
    wait_for_work();
    quiet = 0;
  }
}

static void *run(void *unused) {
  (void)unused;
  hak_sys_call(SYS_prctl, PR_SET_NAME, (long)"hakmem-purge", 0, 0, 0, 0);
  work();
  // Acquire and release: pairs with hak_background_follow. The setting may have been switched on again while this
  // thread was still running.
  atomic_exchange_explicit(&state, ABSENT, memory_order_acq_rel);
  hak_background_start();
  return NULL;
}

// With `stack_bytes` 0 the system chooses the stack.
static bool create_with(size_t stack_bytes) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  const bool sized = stack_bytes == 0 || pthread_attr_setstacksize(&attributes, stack_bytes) == 0;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const bool created = sized && pthread_create(&thread, &attributes, run, NULL) == 0;
  pthread_attr_destroy(&attributes);
  return created;
}

static bool create(void) {
  if (hak_fault_due(HAK_FAULT_THREAD)) return false;
  // The thread inherits the mask: no signal of the program is ever delivered to it.
  const hak_signal_set before = hak_signal_mask(SIG_SETMASK, HAK_SIGNALS_OF_PROGRAM);
  // The thread-local storage of libraries, or the processor's state at a signal, may need more.
  const bool created = create_with(STACK_BYTES) || create_with(0);
  hak_signal_mask(SIG_SETMASK, before);
  return created;
}

void hak_background_start(void) {
  uint32_t expected = ABSENT;
  if (!HAK_SETTING(background) || atomic_load_explicit(&state, memory_order_relaxed) != ABSENT) return;
  // Before the thread is created, because that allocates, and may call this function again.
  if (!atomic_compare_exchange_strong_explicit(&state, &expected, RUNNING, memory_order_relaxed,
                                               memory_order_relaxed)) {
    return;
  }
  const int saved = errno;
  if (!create()) atomic_store_explicit(&state, ABSENT, memory_order_relaxed);  // A later call tries again.
  errno = saved;
}

void hak_background_follow(void) {
  // Acquire and release: pairs with the exchange in run(). If that exchange comes second, the thread sees the current
  // setting; otherwise this call sees that the thread is gone.
  atomic_fetch_or_explicit(&state, 0, memory_order_acq_rel);
  hak_background_start();
  if (!HAK_SETTING(background)) hak_background_wake();
}

void hak_background_wake(void) {
  uint32_t expected = WAITING;
  if (HAK_LIKELY(atomic_load_explicit(&state, memory_order_relaxed) != WAITING)) return;
  // Relaxed: a word that orders nothing. An exchange, because the thread may end meanwhile.
  if (atomic_compare_exchange_strong_explicit(&state, &expected, RUNNING, memory_order_relaxed, memory_order_relaxed)) {
    hak_futex_wake(&state, INT_MAX);
  }
}

void hak_background_forget(void) { atomic_store_explicit(&state, ABSENT, memory_order_relaxed); }
