// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/report.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "allocator/os/lock.h"

// How long the last line waits for somebody to read stderr.
#define LAST_LINE_MS 1000

void hak_line_text(struct hak_line *line, const char *text) {
  // One byte stays free for the newline.
  while (*text != '\0' && line->length + 1 < sizeof line->text) line->text[line->length++] = *text++;
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

void hak_line_write(struct hak_line *line) {
  const int saved = errno;
  line->text[line->length++] = '\n';
  size_t done = 0;
  while (done < line->length) {
    const ssize_t n = write(STDERR_FILENO, line->text + done, line->length - done);
    if (n > 0) {
      done += (size_t)n;
    } else if (errno != EINTR) {
      break;  // No stderr: there is nobody to tell.
    }
  }
  errno = saved;
}

// A reader of stderr who is gone must not end the process by SIGPIPE instead.
static void block_sigpipe(void) {
  sigset_t broken_pipe;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken_pipe, NULL);
}

// A reader who does not read must not keep the process alive: then the line is lost. A pipe that is ready takes all of
// it.
static bool stderr_takes_a_line(void) {
  struct pollfd stderr_is = {.fd = STDERR_FILENO, .events = POLLOUT};
  int ready;
  do {
    ready = poll(&stderr_is, 1, LAST_LINE_MS);
  } while (ready < 0 && errno == EINTR);
  return ready != 0;
}

HAK_COLD void hak_fatal(const char *what, const void *pointer) {
  struct hak_line line = {.length = 0};
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, what);
  hak_line_text(&line, ": ");
  hak_line_hex(&line, (uint64_t)(uintptr_t)pointer);
  block_sigpipe();
  if (stderr_takes_a_line()) hak_line_write(&line);
  hak_lock_give_up();
  abort();
}
