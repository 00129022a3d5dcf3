// SPDX-License-Identifier: Apache-2.0
//
// For tests whose cases are processes of their own, started by the test's own program with `--child CASE TURN`, and
// judged from outside. Each has a watchdog.
#ifndef HAKMEM_ALLOCATOR_TEST_LIFE_CASES_H_
#define HAKMEM_ALLOCATOR_TEST_LIFE_CASES_H_

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <string>

#include "allocator/test/subprocess.h"

namespace hak_life {

// A case that hangs is ended after this time, and a child of one sooner. No case takes a tenth of it on a free machine.
constexpr int kTimeout = 200;
constexpr unsigned kHangSeconds = 150;

// The result of a process that was told a case which does not exist.
constexpr int kNoSuchCase = 99;

[[noreturn]] inline void Fail(const char *what, uint64_t value) {
  fprintf(stderr, "%s: %llu\n", what, static_cast<unsigned long long>(value));
  _exit(1);
}

inline void AtMost(uint64_t value, uint64_t bound, const char *what) {
  if (value > bound) Fail(what, value);
}

struct Case {
  const char *name;
  int (*run)();
};

// In the child: runs the case. An array, because nothing may be freed at the end of a process that has interrupted
// free.
template <size_t kCount>
int RunCase(const Case (&cases)[kCount], const char *name) {
  for (const Case &one : cases) {
    if (strcmp(name, one.name) == 0) return one.run();
  }
  return kNoSuchCase;
}

// In the parent: runs the case in a child.
inline hak_test::Outcome Start(const char *name, int turn) {
  return hak_test::RunSelf({"--child", name, std::to_string(turn)}, {}, kTimeout);
}

// The number of failures, 0 or 1; a failure is told.
inline int Expect(bool good, const char *name, const hak_test::Outcome &outcome) {
  if (good) return 0;
  fprintf(stderr, "FAILED %s: %s exit %d signal %d\n%s", name, outcome.timed_out ? "timed out," : "", outcome.exit_code,
          outcome.signal, outcome.err.c_str());
  return 1;
}

// The same for a case that ends with 0.
inline int ExpectSuccess(const char *name, int turn = 0) {
  const hak_test::Outcome outcome = Start(name, turn);
  return Expect(!outcome.timed_out && outcome.exit_code == 0, name, outcome);
}

}  // namespace hak_life

#endif  // HAKMEM_ALLOCATOR_TEST_LIFE_CASES_H_
