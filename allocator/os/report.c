// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "allocator/os/lock.h"

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

HAK_COLD void hak_fatal(const char *what, const void *pointer) {
  struct hak_line line = {.length = 0};
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, what);
  hak_line_text(&line, ": ");
  hak_line_hex(&line, (uint64_t)(uintptr_t)pointer);
  hak_line_write(&line);
  hak_lock_give_up();
  abort();
}
