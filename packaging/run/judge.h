// SPDX-License-Identifier: Apache-2.0
//
// Whether a library in LD_PRELOAD takes effect in a program: the dynamic linker of the same C library and processor
// must start it, and not with raised privileges, because then it ignores such libraries. And the program must not
// define malloc itself.
#ifndef HAKMEM_PACKAGING_RUN_JUDGE_H_
#define HAKMEM_PACKAGING_RUN_JUDGE_H_

enum verdict {
  VERDICT_AFFECTED,        // it takes effect
  VERDICT_PARTLY,          // the program has another allocator, which serves a part of it
  VERDICT_UNAFFECTED,      // it has no effect on the program
  VERDICT_INCOMPATIBLE,    // the program cannot start with it
  VERDICT_NOT_EXECUTABLE,  // the file cannot be run
  VERDICT_MISSING          // the file does not exist
};

struct judgement {
  enum verdict verdict;
  char text[8192];  // the reason, for a message; "" if it takes effect
};

// Judges the program that execvp(`name`) starts with `path` as its PATH (NULL: the C library's default). A script is
// judged by its interpreter, which `/usr/bin/env NAME` and similar lines may name, and a file of unknown format by
// /bin/sh, with which execvp starts it.
void judge_program(const char *name, const char *path, struct judgement *judgement);

#endif  // HAKMEM_PACKAGING_RUN_JUDGE_H_
