// SPDX-License-Identifier: Apache-2.0
//
// What the unit tests of the boxes share: random numbers, fault plans that end with a scope, exact checks of the last
// line before an abort, and questions to the kernel about memory.
#ifndef HAKMEM_OS_UNIT_TEST_H_
#define HAKMEM_OS_UNIT_TEST_H_

#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <string>
#include <vector>

#include "allocator/os/atomic.h"
#include "allocator/os/fault.h"
#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/test/test_random.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define HAK_UNIT_SLOW_BUILD 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define HAK_UNIT_SLOW_BUILD 1
#endif
#endif
#ifndef HAK_UNIT_SLOW_BUILD
#define HAK_UNIT_SLOW_BUILD 0
#endif

namespace hak_unit {

// Random numbers that differ in each run; HAK_TEST_SEED repeats a run. Sequences with different numbers do not overlap.
class Random {
 public:
  explicit Random(uint64_t sequence) : engine_(hak_test::TestSeed(sequence)) {}
  uint64_t Next() { return engine_(); }
  uint32_t Below(uint64_t n) { return static_cast<uint32_t>(engine_() % n); }
  bool OneIn(uint64_t n) { return engine_() % n == 0; }

 private:
  std::mt19937_64 engine_;
};

// How many operations a random test makes: fewer in builds where each costs several times as much.
inline int Operations(int n) { return HAK_UNIT_SLOW_BUILD ? n / 4 : n; }

// A fault plan that ends with its scope.
class FaultPlan {
 public:
  explicit FaultPlan(uint32_t kinds, uint64_t nth = 1, uint64_t count = UINT64_MAX) {
    hak_fault_set(kinds, nth, count);
  }
  FaultPlan(const FaultPlan &) = delete;
  FaultPlan &operator=(const FaultPlan &) = delete;
  ~FaultPlan() { hak_fault_clear(); }
};

// The line that hak_fatal writes.
inline std::string FatalLine(const char *what, const void *pointer) {
  char line[256];
  snprintf(line, sizeof line, "hakmem: %s: 0x%llx\n", what,
           static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(pointer)));
  return line;
}

// For stderr of a process that wrote `text` and ended by SIGABRT: the text and nothing else. The emulator, in which
// aarch64 tests run, adds a line of its own.
inline ::testing::Matcher<const std::string &> IsLast(const std::string &text) {
#if defined(__aarch64__)
  return ::testing::AnyOf(text, text + "qemu: uncaught target signal 6 (Aborted) - core dumped\n");
#else
  return text;
#endif
}

// The same for `text` whose first line is that of hak_fatal up to the pointer: the size of the block and the process
// follow in it.
inline ::testing::Matcher<const std::string &> IsFatal(const std::string &text) {
  const size_t end = text.find('\n');
  std::string pattern;
  for (size_t i = 0; i < text.size(); i++) {
    if (i == end) {
      pattern += "( \\([0-9]+-byte block\\))? in (process [0-9]+|[^[\n]+\\[[0-9]+\\])(, thread [0-9]+)?";
    }
    if (strchr("\\^.[$()|*+?{", text[i]) != nullptr) pattern += '\\';
    pattern += text[i];
  }
#if defined(__aarch64__)
  pattern += "(qemu: uncaught target signal 6 \\(Aborted\\) - core dumped\n)?";
#endif
  return ::testing::MatchesRegex(pattern);
}

// Whether a limit is enforced; the emulator does not enforce limits on the address space.
inline bool LimitsAddressSpace() {
  struct rlimit old;
  if (getrlimit(RLIMIT_AS, &old) != 0) return false;
  struct rlimit limited = old;
  limited.rlim_cur = rlim_t{1} << 40;
  struct rlimit seen = old;
  const bool kept =
      setrlimit(RLIMIT_AS, &limited) == 0 && getrlimit(RLIMIT_AS, &seen) == 0 && seen.rlim_cur == limited.rlim_cur;
  return setrlimit(RLIMIT_AS, &old) == 0 && kept;
}

// Whether all pages of the range are mapped.
inline bool IsMapped(const void *start, size_t size) {
  const size_t page = hak_os_page_size();
  std::vector<unsigned char> state((size + page - 1) / page);
  return mincore(const_cast<void *>(start), size, state.data()) == 0;
}

// Whether the byte can be read: the kernel refuses to copy it from a page that is inaccessible or not mapped.
inline bool IsReadable(const void *byte) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  // Makes the system call directly, because a sanitizer's wrapper would read the byte first.
  const bool copied = syscall(SYS_write, ends[1], byte, 1) == 1;
  close(ends[0]);
  close(ends[1]);
  return copied;
}

// Runs `body` in a child of this process and returns its result, or 256 and the signal that ended it.
template <typename Body>
int ResultInChild(const Body &body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // An end for a child that hangs.
    _exit(body());
  }
  int status = -1;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

// Makes this process look like a child that was created without fork handlers while another thread held the lock: the
// lock is held, and nobody is there to release it.
inline void LoseHolder(struct hak_lock *lock) {
  static HAK_ATOMIC(uint32_t) word;
  hak_lock_fork_word = &word;
  lock->state = 1;
}

// How many pages of the range are resident.
inline size_t ResidentPages(const void *start, size_t size) {
  const size_t page = hak_os_page_size();
  std::vector<unsigned char> state((size + page - 1) / page);
  if (mincore(const_cast<void *>(start), size, state.data()) != 0) return SIZE_MAX;
  size_t resident = 0;
  for (const unsigned char s : state) resident += s & 1;
  return resident;
}

inline bool IsZero(const void *start, size_t size) {
  const unsigned char *bytes = static_cast<const unsigned char *>(start);
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

}  // namespace hak_unit

// Expects that the statement ends the process by SIGABRT, with exactly this line on stderr.
#define HAK_EXPECT_FATAL(statement, what, pointer)           \
  EXPECT_EXIT(statement, ::testing::KilledBySignal(SIGABRT), \
              ::hak_unit::IsFatal(::hak_unit::FatalLine((what), (pointer))))

// The same, where the line also says the block's size.
#define HAK_EXPECT_FATAL_BLOCK(statement, what, pointer, bytes)                               \
  EXPECT_EXIT(statement, ::testing::KilledBySignal(SIGABRT),                                  \
              ::testing::AllOf(::hak_unit::IsFatal(::hak_unit::FatalLine((what), (pointer))), \
                               ::testing::HasSubstr(" (" + std::to_string(bytes) + "-byte block) in ")))

// Runs the statement in a child process and expects that its checks pass. For what a process can do only once, or what
// would disturb later tests.
#define HAK_EXPECT_PASSES_IN_CHILD(statement)         \
  EXPECT_EXIT(                                        \
      {                                               \
        statement;                                    \
        fflush(stdout);                               \
        _exit(::testing::Test::HasFailure() ? 1 : 0); \
      },                                              \
      ::testing::ExitedWithCode(0), "")

#endif  // HAKMEM_OS_UNIT_TEST_H_
