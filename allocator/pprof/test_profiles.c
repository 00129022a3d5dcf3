// SPDX-License-Identifier: Apache-2.0
//
// usage: test_profiles gzip                      compresses standard input to standard output
//        test_profiles script [FAIL_AFTER]       writes the profile that the lines of standard input describe
//
// A profile goes to standard output, and "error NUMBER" to standard error.
// With FAIL_AFTER the sink refuses everything after so many bytes. The lines:
//   about VALUES FIRST PERIOD TIME DURATION      must be the first one
//   process                                      the mappings of this process
//   map START LIMIT OFFSET FILE BUILD_ID         in hexadecimal; - for an empty text
//   stack VALUE... @ ADDRESS...                  return addresses in hexadecimal
//   own VALUE...                                 a stack of three functions of this program
//   comment TEXT
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "allocator/pprof/profile.h"
#include "allocator/pprof/profile_file.h"

static struct hak_pprof pprof;
static struct hak_gzip gzip;
static struct {
  uint64_t left;
  int file;
} out = {.left = UINT64_MAX, .file = STDOUT_FILENO};

static int write_out(void *context, const void *bytes, size_t size) {
  (void)context;
  if (size > out.left) return EIO;
  out.left -= size;
  return hak_pprof_write(&out.file, bytes, size);
}

// ---- Three functions whose names a profile shows --------------------------------------------------

static void *frames[3];

__attribute__((noinline)) static void own_leaf(void) {
  frames[0] = __builtin_return_address(0);
  __asm__ volatile("" : : : "memory");
}
__attribute__((noinline)) static void own_call(void) {
  own_leaf();
  frames[1] = __builtin_return_address(0);
  __asm__ volatile("" : : : "memory");
}
__attribute__((noinline)) static void own_root(void) {
  own_call();
  frames[2] = __builtin_return_address(0);
  __asm__ volatile("" : : : "memory");
}

__attribute__((noinline)) static void own_stack(const int64_t *values) {
  own_root();
  hak_pprof_add(&pprof, frames, 3, values);
  __asm__ volatile("" : : : "memory");
}

// ---- The script ------------------------------------------------------------------------------------

static void wrong(const char *line) {
  fprintf(stderr, "not understood: %s", line);
  exit(2);
}

static const char *word(char **rest) {
  const char *found = strtok_r(NULL, " \n", rest);
  if (found == NULL) wrong("a line that is too short\n");
  return strcmp(found, "-") == 0 ? "" : found;
}

static void begin(char **rest) {
  struct hak_pprof_type types[HAK_PPROF_MOST_VALUES];
  struct hak_pprof_about about = {.types = types, .values = (uint32_t)strtoul(word(rest), NULL, 10)};
  for (uint32_t i = 0; i < about.values; i++) types[i] = hak_pprof_heap_types[i % HAK_PPROF_HEAP_VALUES];
  about.first = (uint32_t)strtoul(word(rest), NULL, 10);
  about.period = strtoll(word(rest), NULL, 10);
  if (about.period != 0) about.period_type = (struct hak_pprof_type){"space", "bytes"};
  about.time_ns = strtoull(word(rest), NULL, 10);
  about.duration_ns = strtoull(word(rest), NULL, 10);
  hak_pprof_begin(&pprof, write_out, NULL, &about);
}

static void add_map(char **rest) {
  struct hak_mapping mapping;
  mapping.start = strtoull(word(rest), NULL, 16);
  mapping.limit = strtoull(word(rest), NULL, 16);
  mapping.offset = strtoull(word(rest), NULL, 16);
  mapping.file = word(rest);
  mapping.build_id = word(rest);
  hak_pprof_add_mapping(&pprof, &mapping);
}

static void add_stack(char **rest, bool is_own) {
  static void *addresses[4096];
  int64_t values[HAK_PPROF_MOST_VALUES];
  for (uint32_t i = 0; i < pprof.values; i++) values[i] = strtoll(word(rest), NULL, 10);
  if (is_own) {
    own_stack(values);
    return;
  }
  if (strcmp(word(rest), "@") != 0) wrong("a stack without @\n");
  uint32_t count = 0;
  for (const char *text; (text = strtok_r(NULL, " \n", rest)) != NULL;) {
    if (count == sizeof addresses / sizeof addresses[0]) wrong("too many addresses\n");
    addresses[count++] = (void *)(uintptr_t)strtoull(text, NULL, 16);
  }
  hak_pprof_add(&pprof, addresses, count, values);
}

static int script(void) {
  static char line[1 << 17];
  errno = 4242;
  while (fgets(line, sizeof line, stdin) != NULL) {
    errno = 4242;
    char *rest = NULL;
    const char *command = strtok_r(line, " \n", &rest);
    if (command == NULL) continue;
    if (strcmp(command, "about") == 0) {
      begin(&rest);
    } else if (strcmp(command, "process") == 0) {
      if (!hak_pprof_add_process(&pprof)) wrong("no mappings\n");
    } else if (strcmp(command, "map") == 0) {
      add_map(&rest);
    } else if (strcmp(command, "stack") == 0 || strcmp(command, "own") == 0) {
      add_stack(&rest, command[0] == 'o');
    } else if (strcmp(command, "comment") == 0) {
      rest[strcspn(rest, "\n")] = '\0';
      hak_pprof_comment(&pprof, rest);
    } else {
      wrong(line);
    }
    if (errno != 4242) wrong("errno changed\n");
  }
  const int error = hak_pprof_end(&pprof);
  if (error != 0) fprintf(stderr, "error %d\n", error);
  return error == 0 ? 0 : 1;
}

static int compress(void) {
  static unsigned char bytes[7777];
  hak_gzip_begin(&gzip, write_out, NULL);
  for (size_t got; (got = fread(bytes, 1, sizeof bytes, stdin)) != 0;) hak_gzip_put(&gzip, bytes, got);
  return hak_gzip_end(&gzip);
}

int main(int argc, char **argv) {
  if (argc == 3) out.left = strtoull(argv[2], NULL, 10);
  if (argc >= 2 && strcmp(argv[1], "gzip") == 0) return compress();
  if (argc >= 2 && strcmp(argv[1], "script") == 0) return script();
  return 2;
}
