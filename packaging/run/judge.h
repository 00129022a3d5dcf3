// SPDX-License-Identifier: Apache-2.0
//
// Whether a library named in LD_PRELOAD takes part in a program: the dynamic linker of the same C library and processor
// must start it, and not with raised privileges, for then it ignores such libraries.
#ifndef HAKMEM_PACKAGING_RUN_JUDGE_H_
#define HAKMEM_PACKAGING_RUN_JUDGE_H_

enum verdict {
  VERDICT_AFFECTED,        // it does
  VERDICT_UNAFFECTED,      // it does not; the program runs as it would without
  VERDICT_INCOMPATIBLE,    // the program does not start with it
  VERDICT_NOT_EXECUTABLE,  // the file cannot be run
  VERDICT_MISSING          // there is no such file
};

struct judgement {
  enum verdict verdict;
  char text[8192];  // one clause on the file that is the reason, for a message; "" when affected
};

// Judges the program that execvp(`name`) starts with `path` as its PATH (NULL: the C library's default). A script is
// judged by its interpreter, as far as `/usr/bin/env NAME` and the like lead to one, and a file without a known format
// by /bin/sh, which execvp gives it to.
void judge_program(const char *name, const char *path, struct judgement *judgement);

#endif  // HAKMEM_PACKAGING_RUN_JUDGE_H_
