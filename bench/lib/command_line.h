// SPDX-License-Identifier: Apache-2.0
//
// What the command lines of random_mixed and soak_worker have in common. A mistake prints one line and the usage on
// stderr and exits 2.
#ifndef HAKMEM_BENCH_LIB_COMMAND_LINE_H_
#define HAKMEM_BENCH_LIB_COMMAND_LINE_H_

#include <stdint.h>
#include <stdio.h>

// Each program defines it.
struct command_line {
  const char *program;
  void (*usage)(FILE *to);
};
extern const struct command_line command_line;

// Reports a mistake on the command line, and ends the program.
__attribute__((format(printf, 1, 2))) _Noreturn void refuse(const char *format, ...);

// `text` as a whole number from `low` to `high`.
uint64_t number(const char *what, const char *text, uint64_t low, uint64_t high);

// The index of `text` among the names.
int choice(const char *what, const char *text, const char *const *names, int count);

// The value of option `name` if argv[*i] is this option, given as --name=value or --name value; NULL otherwise.
const char *option_value(const char *name, int argc, char **argv, int *i);

#endif  // HAKMEM_BENCH_LIB_COMMAND_LINE_H_
