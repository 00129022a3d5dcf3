// SPDX-License-Identifier: Apache-2.0
//
// What the greatest profile takes: a full table of stacks, written by the handler of HAKMEM_DUMP_SIGNAL in a process
// that gets no more memory and whose free blocks are overwritten. Its system calls are counted and are of few kinds,
// none of which gives memory. The BUILD file sets HAKMEM_DUMP_SIGNAL=SIGUSR2.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <hakmem/pprof.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

constexpr uint64_t kStacks = 65536;
constexpr int kLevels = 16;

std::vector<void *> blocks;

// A stack for each path: at each level one of two calls. What is around them keeps the compiler from making them one.
__attribute__((noinline)) void Descend(uint64_t path, int level) {
  if (level == 0) {
    blocks.push_back(hak_malloc(32));
    __asm__ volatile("" : : : "memory");
  } else if ((path & 1) != 0) {
    __asm__ volatile("# one begins" : : : "memory");
    Descend(path >> 1, level - 1);
    __asm__ volatile("# one ends" : : : "memory");
  } else {
    __asm__ volatile("# other begins" : : : "memory");
    Descend(path >> 1, level - 1);
    __asm__ volatile("# other ends" : : : "memory");
  }
}

int CountStack(const hak_prof_stack *, void *argument) {
  ++*static_cast<uint64_t *>(argument);
  return 0;
}

// The child: no more memory, free blocks overwritten, and the signal. Its own calls come before and after the
// handler's.
[[noreturn]] void DumpInNeed() {
  std::vector<void *> freed;
  for (int i = 0; i < 1000; i++) freed.push_back(hak_malloc(64));
  const rlimit none = {0, 0};
  if (setrlimit(RLIMIT_AS, &none) != 0 || hak_malloc(size_t{1} << 30) != nullptr) _exit(2);
  // Nothing else is called afterwards that would notice it.
  for (void *block : freed) hak_free(block);
  for (void *block : freed) memset(block, 0xff, 64);
  if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(3);
  raise(SIGSTOP);
  raise(SIGUSR2);
  _exit(0);
}

// The calls of the child by their number, from its stop to its end; false: it did not end well.
bool CallsOf(pid_t child, std::map<uint64_t, uint64_t> *calls) {
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return false;
  ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  int pass = 0;
  for (;;) {
    if (ptrace(PTRACE_SYSCALL, child, nullptr, pass) != 0 || waitpid(child, &status, 0) != child) return false;
    if (WIFEXITED(status)) return WEXITSTATUS(status) == 0;
    if (!WIFSTOPPED(status)) return false;
    const bool at_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
    pass = at_call ? 0 : WSTOPSIG(status);
    __ptrace_syscall_info info = {};
    if (at_call && ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) > 0 &&
        info.op == PTRACE_SYSCALL_INFO_ENTRY) {
      ++(*calls)[info.entry.nr];
    }
  }
}

std::string Read(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST(DumpBound, OfAFullTableInNeed) {
  ASSERT_EQ(chdir(getenv("TEST_TMPDIR")), 0);
  ASSERT_EQ(hak_config_set("HAKMEM_PROF_SAMPLE_KB", "0"), 0);
  // In HARDENED a freed block between guard pages could not be overwritten.
  ASSERT_EQ(hak_config_set("HAKMEM_GUARD_SAMPLE", "0"), 0);
  ASSERT_EQ(hak_prof_start(), 0);
  blocks.reserve(kStacks);
  for (uint64_t path = 0; path < kStacks; path++) Descend(path, kLevels);
  ASSERT_EQ(hak_prof_stop(), 0);
  uint64_t stacks = 0;
  ASSERT_EQ(hak_prof_visit_stacks(CountStack, &stacks), 0);
  // The one without frames has what was allocated when the table was full.
  ASSERT_EQ(stacks, kStacks);

  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) DumpInNeed();
  std::map<uint64_t, uint64_t> calls;
  ASSERT_TRUE(CallsOf(child, &calls));
  const std::string profile = Read("hakmem." + std::to_string(child) + ".0.pb.gz");
  ASSERT_GT(profile.size(), 20u);

  // The last four bytes are the size before compression. Each stack is there, and none takes more than its addresses
  // and values may.
  uint32_t bytes = 0;
  memcpy(&bytes, profile.data() + profile.size() - 4, 4);
  EXPECT_GT(bytes, kStacks * (kLevels + 12));
  EXPECT_LT(bytes, kStacks * 300);

  uint64_t all = 0;
  const std::set<uint64_t> plain = {SYS_openat, SYS_read,           SYS_pread64,       SYS_write,
                                    SYS_close,  SYS_getpid,         SYS_clock_gettime, SYS_gettid,
                                    SYS_tgkill, SYS_rt_sigprocmask, SYS_rt_sigreturn,  SYS_exit_group};
  for (const auto &[number, count] : calls) {
    EXPECT_EQ(plain.count(number), 1u) << "system call " << number << ", " << count << " times";
    all += count;
  }
  // A call for each KiB that is written; a few for each mapping, whose list is read in parts and whose headers are
  // looked at; and those of the test.
  const std::string maps = Read("/proc/self/maps");
  const uint64_t mappings = static_cast<uint64_t>(std::count(maps.begin(), maps.end(), '\n'));
  EXPECT_GE(calls[SYS_write], profile.size() / 1024);
  EXPECT_LE(calls[SYS_write], profile.size() / 1024 + 2);
  EXPECT_LE(all, profile.size() / 1024 + 10 * mappings + 40);
  printf("%llu system calls, %zu bytes of %u\n", static_cast<unsigned long long>(all), profile.size(), bytes);
}

}  // namespace
