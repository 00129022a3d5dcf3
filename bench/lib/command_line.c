// SPDX-License-Identifier: Apache-2.0
//
// Reads command lines: options, numbers, refusals.
#include "bench/lib/command_line.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void refuse(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "%s: ", command_line.program);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  command_line.usage(stderr);
  exit(2);
}

uint64_t number(const char *what, const char *text, uint64_t low, uint64_t high) {
  char *end = NULL;
  errno = 0;
  const uint64_t value = strtoull(text, &end, 10);
  // strtoull alone would accept "-1", " 1" and "+1".
  const bool whole = text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
  if (!whole || value < low || value > high) {
    refuse("%s must be a whole number from %" PRIu64 " to %" PRIu64 ", not '%s'", what, low, high, text);
  }
  return value;
}

int choice(const char *what, const char *text, const char *const *names, int count) {
  for (int i = 0; i < count; i++) {
    if (strcmp(text, names[i]) == 0) return i;
  }
  refuse("%s does not know '%s'", what, text);
}

const char *option_value(const char *name, int argc, char **argv, int *i) {
  const size_t length = strlen(name);
  if (strncmp(argv[*i], name, length) != 0) return NULL;
  if (argv[*i][length] == '=') return argv[*i] + length + 1;
  if (argv[*i][length] != '\0') return NULL;
  if (*i + 1 == argc) refuse("%s needs a value", name);
  return argv[++*i];
}
