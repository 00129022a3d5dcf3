// SPDX-License-Identifier: Apache-2.0
//
// Counts the system calls of the allocator and makes chosen ones fail, from outside: a filter (seccomp(2)) reports each
// call to a second process, which lets it pass or answers with an error number instead. Unlike the fault plan it needs
// no line in the allocator: it sees each single call, and the errors have the numbers that a kernel gives.
#ifndef HAKMEM_ALLOCATOR_TEST_KERNEL_CALL_SUPERVISOR_H_
#define HAKMEM_ALLOCATOR_TEST_KERNEL_CALL_SUPERVISOR_H_

#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <functional>
#include <ostream>
#include <vector>

namespace hak_test {

// A system call that may fail, and the errors that it may give for calls as the allocator makes them. The futex is not
// among them: its failures are waits that end early.
struct CallKind {
  const char *name;
  long number;
  std::vector<int> lasting;   // may be given again and again
  std::vector<int> passing;   // the caller may try again until it succeeds
  bool gives_memory = false;  // a request may fail because of it
};
inline constexpr size_t kCallKinds = 11;
const std::vector<CallKind> &CallKinds();

// Which calls fail: none; the nth of all (from 1 on); it and all later ones; the nth of one kind and later ones of it.
enum class Failing { kNone, kOne, kAllFrom, kKindFrom };

struct CallPlan {
  Failing failing = Failing::kNone;
  uint64_t nth = 0;
  size_t kind = 0;   // of kKindFrom
  size_t error = 0;  // which of a kind's errors: this index modulo their number
  // A program that runs longer hangs: it is ended by SIGALRM.
  unsigned alarm_seconds = 20;
};
std::ostream &operator<<(std::ostream &stream, const CallPlan &plan);

// More calls than any program of the tests makes.
inline constexpr size_t kMostCalls = 2000;

// What the supervised process and its supervisor share.
struct Supervision {
  std::atomic<bool> armed;  // calls count, and fail by the plan
  std::atomic<uint64_t> hits;
  std::atomic<uint64_t> all;
  std::atomic<uint64_t> calls[kCallKinds];
  std::atomic<unsigned char> sequence[kMostCalls];  // the kind of each of all calls
};
// In memory of a file, so that it can be mapped again behind an exec: -1 begins a new one, whose descriptor is in
// *file.
Supervision *ShareSupervision(int *file);

// No filter can be set here.
inline constexpr int kNoSupervisor = 77;

// Runs `program` in a child, whose system calls from this program's own code it supervises, and returns how that ended:
// its exit code, 100 and a line on stderr for a signal, or kNoSupervisor. Threads and children of the program are
// supervised too. Call it in a process with one thread.
int Supervise(const CallPlan &plan, Supervision *shared, const std::function<int()> &program);

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TEST_KERNEL_CALL_SUPERVISOR_H_
