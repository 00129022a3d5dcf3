// SPDX-License-Identifier: Apache-2.0
//
// Profiles that a program gets without code of its own: at its end (HAKMEM_PROF_DUMP), by signal (HAKMEM_DUMP_SIGNAL),
// and as it goes on and grows (HAKMEM_PROF_DUMP_EVERY_S, HAKMEM_PROF_DUMP_GROWTH_MB).
//
// The signal handler writes the profile itself, so that a program that waits, and never allocates again, gets one too.
// The writer takes only the pool's lock, once, and the sampler's, for a moment at a time. Only if the interrupted
// thread holds a lock of the allocator, and perhaps this one, the profile is left to the next counted allocation of any
// thread, or to the end of the process. What is due because of time or growth is always left so: it is noticed while a
// block is allocated.
#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "allocator/api/process.h"
#include "allocator/api/prof_dump.h"
#include "allocator/gate/gate_row.h"
#include "allocator/gate/gate_start.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/os/signal_action.h"
#include "allocator/os/sys_call.h"
#include "allocator/policy/config.h"
#include "allocator/prof/sampler.h"

#if HAK_PROF

// HAKMEM_PROF_DUMP, unless it is not accepted. Written before the handler is installed.
static const char *path_pattern = "";

static void say(const char *first, const char *second, const char *third) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, first);
  hak_line_text(&line, second);
  hak_line_text(&line, third);
  hak_line_offer(&line);
}

static bool has_samples(void) {
  if (hak_prof_dump_has_samples()) return true;
  say("no profile is written: nothing is sampled without HAKMEM_PROF=1", "", "");
  return false;
}

// ---- By signal ----------------------------------------------------------------------------------

static void leave_for_later(void);

static const char *pattern_of_many(void) { return *path_pattern != '\0' ? path_pattern : "hakmem.%p.%n.pb.gz"; }

static void write_by_signal(void) {
  if (!has_samples()) return;
  if (hak_prof_dump_or_tell(pattern_of_many()) == EBUSY) leave_for_later();
}

static void leave_for_later(void) {
  // Release: pairs with whoever takes it.
  atomic_store_explicit(&hak_sampler_due, write_by_signal, memory_order_release);
}

static void on_signal(int signal, siginfo_t *info, void *context) {
  (void)signal;
  (void)info;
  (void)context;
  const int saved = errno;
  if (hak_lock_is_within()) {
    leave_for_later();
  } else {
    write_by_signal();
  }
  errno = saved;
}

static void install(int signal, const char *name) {
  // No signal interrupts the handler: one that never returned to it would keep the writer.
  if (hak_signal_handle(signal, on_signal)) return;
  say("HAKMEM_DUMP_SIGNAL=", name,
      hak_signal_is_ignored(signal) ? " has no effect: the process was started with this signal ignored"
                                    : " has no effect: the program has a handler of this signal");
}

// ---- As the program goes on and grows ------------------------------------------------------------

// When the latest profile became due, and the most that was live when one did. Relaxed, both: a thread that sees old
// values leaves one more.
static HAK_ATOMIC(uint64_t) latest_us;
static HAK_ATOMIC(uint64_t) most_bytes;

// The process in the upper half, and how many of its profiles were written, so that the child of a fork begins anew.
// One more than HAKMEM_PROF_DUMP_FILES: it was told that there will be no more. Relaxed: nothing else depends on it.
static HAK_ATOMIC(uint64_t) written;

// Counts one more profile of this process. False: there may be no more.
static bool take_file(void) {
  const uint64_t self = (uint64_t)hak_sys_getpid() << 32;
  const uint64_t most = HAK_SETTING(prof_dump_files);
  uint64_t old = atomic_load_explicit(&written, memory_order_relaxed);  // Relaxed: see the declaration.
  uint64_t count;
  do {
    count = (old ^ self) >> 32 == 0 ? (uint32_t)old : 0;
    if (count > most) return false;
  } while (!atomic_compare_exchange_weak_explicit(&written, &old, self | (count + 1), memory_order_relaxed,
                                                  memory_order_relaxed));  // Relaxed, both: as above.
  if (count == most) say("no more profiles are written: there are as many as HAKMEM_PROF_DUMP_FILES says", "", "");
  return count < most;
}

static void write_another(void);

static bool leave_another(void) {
  hak_sampler_call *none = NULL;
  // Release: pairs with whoever takes it. Relaxed on failure: another profile is due, and will have what this one
  // would.
  return atomic_compare_exchange_strong_explicit(&hak_sampler_due, &none, write_another, memory_order_release,
                                                 memory_order_relaxed);
}

static void write_another(void) {
  if (!take_file() || hak_prof_dump_or_tell(pattern_of_many()) != EBUSY) return;
  atomic_fetch_sub_explicit(&written, 1, memory_order_relaxed);  // Relaxed: see the declaration.
  leave_another();
}

static void look(uint64_t now_us, double live_bytes) {
  const uint64_t every_us = HAK_SETTING(prof_dump_every_s) * 1000000;
  const uint64_t growth = HAK_SETTING(prof_dump_growth_bytes);
  // Rounding may leave less than nothing.
  const uint64_t live = live_bytes > 0 ? (uint64_t)live_bytes : 0;
  // Relaxed, all: see the declarations.
  const uint64_t latest = atomic_load_explicit(&latest_us, memory_order_relaxed);
  const uint64_t most = atomic_load_explicit(&most_bytes, memory_order_relaxed);
  // Another thread may have read the clock later than this one.
  const bool by_time = every_us != 0 && now_us > latest && now_us - latest >= every_us;
  if (!by_time && (growth == 0 || live < most + growth)) return;
  if (!leave_another()) return;
  atomic_store_explicit(&latest_us, now_us, memory_order_relaxed);
  if (live > most) atomic_store_explicit(&most_bytes, live, memory_order_relaxed);
}

static void begin_looking(void) {
  if (HAK_SETTING(prof_dump_every_s) == 0 && HAK_SETTING(prof_dump_growth_bytes) == 0) return;
  if (!hak_prof_dump_is_numbered(pattern_of_many())) {
    say("HAKMEM_PROF_DUMP_EVERY_S and HAKMEM_PROF_DUMP_GROWTH_MB have no effect: HAKMEM_PROF_DUMP has no %n", "", "");
    return;
  }
  // Relaxed: see the declaration.
  atomic_store_explicit(&latest_us, hak_os_now_us(), memory_order_relaxed);
  // Release: pairs with whoever calls it, who then sees the time.
  atomic_store_explicit(&hak_sampler_on_sample, look, memory_order_release);
}

// ---- The start and the end ----------------------------------------------------------------------

HAK_COLD bool hak_process_triggers_start(void) {
  static const int signals[] = {
      [HAK_DUMP_SIGNAL_HUP] = SIGHUP,   [HAK_DUMP_SIGNAL_QUIT] = SIGQUIT, [HAK_DUMP_SIGNAL_USR1] = SIGUSR1,
      [HAK_DUMP_SIGNAL_USR2] = SIGUSR2, [HAK_DUMP_SIGNAL_PROF] = SIGPROF, [HAK_DUMP_SIGNAL_URG] = SIGURG,
  };
  const char *pattern = hak_gate_text(HAK_GATE_TEXT_PROF_DUMP);
  if (*pattern == '\0' || hak_prof_dump_accepts(pattern)) {
    path_pattern = pattern;
  } else {
    say("HAKMEM_PROF_DUMP is not accepted; accepted: a path with %p, %n or %%", "", "");
  }
  const enum hak_dump_signal chosen = HAK_SETTING(dump_signal);
  begin_looking();
  if (chosen != HAK_DUMP_SIGNAL_OFF) install(signals[chosen], hak_gates[HAK_GATE_DUMP_SIGNAL].choices[chosen]);
  return true;
}

HAK_COLD void hak_process_triggers_exit(void) {
  // Acquire: pairs with leave_for_later and leave_another.
  hak_sampler_call *due = atomic_exchange_explicit(&hak_sampler_due, NULL, memory_order_acquire);
  if (*path_pattern == '\0') {
    if (due != NULL) due();
    return;
  }
  if (has_samples() && hak_prof_dump_or_tell(path_pattern) == EBUSY) {
    say("no profile is written at the end: a thread was still writing one", "", "");
  }
}

#endif
