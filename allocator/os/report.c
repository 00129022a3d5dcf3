// SPDX-License-Identifier: Apache-2.0
//
// Lines on stderr, and the end of a process that misused the allocator or has wrong settings.
#include "allocator/os/report.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "allocator/os/atomic.h"
#include "allocator/os/signal_action.h"
#include "allocator/os/signal_mask.h"
#include "allocator/os/sys_call.h"

// How long the last line waits until stderr can take it.
#define LAST_LINE_MS 1000

void hak_line_text(struct hak_line *line, const char *text) {
  // One byte stays free for the newline.
  while (*text != '\0' && line->length + 1 < sizeof line->text) line->text[line->length++] = *text++;
}

void hak_line_outside_text(struct hak_line *line, const char *text) {
  for (; *text != '\0'; text++) {
    const char shown[2] = {*text >= ' ' && *text <= '~' ? *text : '?', '\0'};
    hak_line_text(line, shown);
  }
}

void hak_line_hex(struct hak_line *line, uint64_t value) {
  char digits[19];
  size_t at = sizeof digits - 1;
  digits[at] = '\0';
  do {
    digits[--at] = "0123456789abcdef"[value & 15];
    value >>= 4;
  } while (value != 0);
  digits[--at] = 'x';
  digits[--at] = '0';
  hak_line_text(line, &digits[at]);
}

void hak_line_number(struct hak_line *line, int64_t value) {
  char digits[21];
  size_t at = sizeof digits - 1;
  digits[at] = '\0';
  uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
  do {
    digits[--at] = (char)('0' + rest % 10);
    rest /= 10;
  } while (rest != 0);
  if (value < 0) digits[--at] = '-';
  hak_line_text(line, &digits[at]);
}

// Acquire and release: a thread that calls the function sees what was done before it was set.
static HAK_ATOMIC(hak_line_output) output;
static hak_line_output current_output(void) { return atomic_load_explicit(&output, memory_order_acquire); }
// Acquire and release: as above; the caller may pass the old function on.
hak_line_output hak_line_set_output(hak_line_output wanted) {
  return atomic_exchange_explicit(&output, wanted, memory_order_acq_rel);
}

void hak_line_write(struct hak_line *line) {
  line->text[line->length++] = '\n';
  const hak_line_output give_to = current_output();
  if (give_to != NULL) {
    give_to(line->text, line->length);
    return;
  }
  size_t done = 0;
  while (done < line->length) {
    const long n = hak_sys_write(STDERR_FILENO, line->text + done, line->length - done);
    if (n > 0) {
      done += (size_t)n;
    } else if (n != -EINTR) {
      break;  // There is no stderr: the line is lost.
    }
  }
}

// Whether stderr takes a line in time. A reader that does not read must not keep the process alive, so the line is lost
// then. A pipe that is ready takes the whole line.
static bool stderr_takes_a_line(struct timespec *left) {
  struct pollfd stderr_is = {.fd = STDERR_FILENO, .events = POLLOUT};
  long ready;
  do {
    // The kernel subtracts the time that has passed, so that signals do not prolong the wait.
    ready = hak_sys_call(SYS_ppoll, (long)&stderr_is, 1, (long)left, 0, 0, 0);
  } while (ready == -EINTR);
  return ready != 0;
}

HAK_COLD bool hak_line_write_within(struct hak_line *line, struct timespec *left) {
  if (current_output() == NULL && !stderr_takes_a_line(left)) return false;
  hak_line_write(line);
  return true;
}

// The line before the process ends.
static void write_last_line(struct hak_line *line) {
  // If the reader of stderr is gone, SIGPIPE must not end the process instead.
  hak_signal_mask(SIG_BLOCK, HAK_SIGNAL(SIGPIPE));
  struct timespec left = {.tv_sec = LAST_LINE_MS / 1000, .tv_nsec = 0};
  hak_line_write_within(line, &left);
}

static bool sigpipe_is_pending(void) {
  hak_signal_set pending = 0;
  hak_sys_call(SYS_rt_sigpending, (long)&pending, sizeof pending, 0, 0, 0, 0);
  return (pending & HAK_SIGNAL(SIGPIPE)) != 0;
}

HAK_COLD void hak_line_offer(struct hak_line *line) {
  if (current_output() != NULL) {
    hak_line_write(line);
    return;
  }
  struct timespec no_time = {.tv_sec = 0, .tv_nsec = 0};
  if (!stderr_takes_a_line(&no_time)) return;
  const hak_signal_set before = hak_signal_mask(SIG_BLOCK, HAK_SIGNAL(SIGPIPE));
  const bool was_pending = sigpipe_is_pending();
  hak_line_write(line);
  if (!was_pending && sigpipe_is_pending()) {
    // The line's own: nobody else may receive it.
    const hak_signal_set sigpipe = HAK_SIGNAL(SIGPIPE);
    const struct timespec at_once = {.tv_sec = 0, .tv_nsec = 0};
    hak_sys_call(SYS_rt_sigtimedwait, (long)&sigpipe, 0, (long)&at_once, sizeof sigpipe, 0, 0);
  }
  hak_signal_mask(SIG_SETMASK, before);
}

HAK_COLD void hak_line_exit(struct hak_line *line) {
  write_last_line(line);
  // _exit can be wrapped.
  hak_sys_call(SYS_exit_group, EXIT_FAILURE, 0, 0, 0, 0, 0);
  __builtin_trap();
}

#if HAK_SANITIZED
#define end_process abort
#else
// Restores the signal's default action, and unblocks the signal.
static void set_default(int signal) {
  hak_signal_set_default(signal);
  hak_signal_mask(SIG_UNBLOCK, HAK_SIGNAL(signal));
}

// Does what abort() does, without calling it, because other libraries wrap it. The program's handler of SIGABRT runs;
// if it returns, or there is none, the signal ends the process.
static _Noreturn void end_process(void) {
  const long process = hak_sys_getpid();
  const long thread = hak_sys_gettid();
  hak_signal_mask(SIG_UNBLOCK, HAK_SIGNAL(SIGABRT));
  hak_sys_call(SYS_tgkill, process, thread, SIGABRT, 0, 0, 0);
  set_default(SIGABRT);
  hak_sys_call(SYS_tgkill, process, thread, SIGABRT, 0, 0, 0);
  // The signal had no effect: this is the first process of a container, or a sandbox forbids to send signals.
  set_default(SIGILL);
  set_default(SIGTRAP);
  __builtin_trap();
}
#endif

static _Thread_local bool ending __attribute__((tls_model("initial-exec")));

bool hak_report_is_ending(void) { return ending; }
void hak_report_set_ending(void) { ending = true; }

// Of the latest line. Relaxed, all three: the thread that wrote the line reads them; if two threads end the process at
// once, its report may be about the other one's block.
static HAK_ATOMIC(const char *) subject_what;
static HAK_ATOMIC(const char *) subject_block;
static HAK_ATOMIC(size_t) subject_bytes;

struct hak_report_subject hak_report_subject(void) {
  // Relaxed: see above.
  return (struct hak_report_subject){.what = atomic_load_explicit(&subject_what, memory_order_relaxed),
                                     .block = atomic_load_explicit(&subject_block, memory_order_relaxed),
                                     .bytes = atomic_load_explicit(&subject_bytes, memory_order_relaxed)};
}

// "" if it is not known. Written before there are threads.
static char program[32];

void hak_report_name_program(const char *path) {
  if (path == NULL) return;
  const char *name = path;
  for (; *path != '\0'; path++) {
    if (*path == '/' && path[1] != '\0') name = path + 1;
  }
  size_t length = 0;
  // The line stays one line, whatever the name is.
  for (; name[length] != '\0' && length + 1 < sizeof program; length++) {
    program[length] = name[length] >= ' ' && name[length] <= '~' ? name[length] : '?';
  }
  program[length] = '\0';
}

// Who the process and the thread are. A filter may refuse the calls.
static void put_process(struct hak_line *line) {
  const long process = hak_sys_getpid();
  const long thread = hak_sys_gettid();
  hak_line_text(line, program[0] != '\0' ? " in " : " in process ");
  hak_line_text(line, program);
  if (process > 0) {
    if (program[0] != '\0') hak_line_text(line, "[");
    hak_line_number(line, process);
    if (program[0] != '\0') hak_line_text(line, "]");
  }
  if (thread > 0 && thread != process) {
    hak_line_text(line, ", thread ");
    hak_line_number(line, thread);
  }
}

void hak_line_process(struct hak_line *line) { put_process(line); }

HAK_COLD void hak_line_write_last(struct hak_line *line) {
  put_process(line);
  write_last_line(line);
}

HAK_COLD void hak_fatal(const char *what, const void *pointer) { hak_fatal_block(what, pointer, 0); }

HAK_COLD void hak_line_misuse(struct hak_line *line, const char *what, const void *block, size_t bytes) {
  hak_line_text(line, "hakmem: ");
  hak_line_text(line, what);
  hak_line_text(line, ": ");
  hak_line_hex(line, (uint64_t)(uintptr_t)block);
  if (bytes == 0) return;
  hak_line_text(line, " (");
  hak_line_number(line, (int64_t)bytes);
  hak_line_text(line, "-byte block)");
}

HAK_COLD void hak_fatal_block(const char *what, const void *block, size_t bytes) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_misuse(&line, what, block, bytes);
  hak_line_write_last(&line);
  // Relaxed: see their declaration.
  atomic_store_explicit(&subject_what, what, memory_order_relaxed);
  atomic_store_explicit(&subject_block, (const char *)block, memory_order_relaxed);
  atomic_store_explicit(&subject_bytes, bytes, memory_order_relaxed);
  hak_report_set_ending();
  end_process();
}
