// SPDX-License-Identifier: Apache-2.0
//
// Runs a part of a test in a process of its own, with a watchdog; returns its output and how it ended.
#ifndef HAKMEM_ALLOCATOR_TESTS_SUBPROCESS_H_
#define HAKMEM_ALLOCATOR_TESTS_SUBPROCESS_H_

#include <functional>
#include <ostream>
#include <string>
#include <vector>

namespace hak_test {

struct Outcome {
  bool timed_out = false;
  int exit_code = -1;  // -1: a signal ended the process
  int signal = 0;      // 0: the process exited
  std::string out;
  std::string err;
};

std::ostream &operator<<(std::ostream &stream, const Outcome &outcome);

// Forks and runs `body`; its result is the exit code, by exit(), so exit handlers run. The parent must have one thread.
Outcome RunForked(const std::function<int()> &body, int timeout_seconds = 60);

// Runs this test's own program again with `arguments` and with `environment` ("NAME=value") added to its environment.
Outcome RunSelf(const std::vector<std::string> &arguments, const std::vector<std::string> &environment,
                int timeout_seconds = 60);

// Whether RunSelf works: always, except for aarch64 programs in an emulator, which the kernel cannot start.
bool CanRunSelf();

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_SUBPROCESS_H_
