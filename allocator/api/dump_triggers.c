// SPDX-License-Identifier: Apache-2.0
//
// Profiles that a program gets without code of its own: at its end (HAKMEM_PROF_DUMP) and by signal
// (HAKMEM_DUMP_SIGNAL).
//
// The signal handler writes the profile itself, so that a program that waits, and never allocates again, gets one too.
// The writer takes only the pool's lock, once, and the sampler's, for a moment at a time. Only if the interrupted
// thread holds a lock of the allocator, and perhaps this one, the profile is left to the next counted allocation of any
// thread, or to the end of the process.
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
#include "allocator/os/report.h"
#include "allocator/os/signal_action.h"
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
  hak_line_write(&line);
}

static bool has_samples(void) {
  if (hak_prof_dump_has_samples()) return true;
  say("no profile is written: nothing is sampled without HAKMEM_PROF=1", "", "");
  return false;
}

// ---- By signal ----------------------------------------------------------------------------------

static void leave_for_later(void);

static void write_by_signal(void) {
  if (!has_samples()) return;
  const char *pattern = *path_pattern != '\0' ? path_pattern : "hakmem.%p.%n.pb.gz";
  if (hak_prof_dump_or_tell(pattern) == EBUSY) leave_for_later();
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
  if (chosen != HAK_DUMP_SIGNAL_OFF) install(signals[chosen], hak_gates[HAK_GATE_DUMP_SIGNAL].choices[chosen]);
  return true;
}

HAK_COLD void hak_process_triggers_exit(void) {
  // Acquire: pairs with leave_for_later.
  const bool is_due = atomic_exchange_explicit(&hak_sampler_due, NULL, memory_order_acquire) != NULL;
  if (*path_pattern == '\0') {
    if (is_due) write_by_signal();
    return;
  }
  if (has_samples() && hak_prof_dump_or_tell(path_pattern) == EBUSY) {
    say("no profile is written at the end: a thread was still writing one", "", "");
  }
}

#endif
