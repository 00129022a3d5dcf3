// SPDX-License-Identifier: Apache-2.0
//
// A filter for the system calls of this process (seccomp(2)), for tests that run in a child.
#ifndef HAKMEM_ALLOCATOR_TEST_KERNEL_FILTER_H_
#define HAKMEM_ALLOCATOR_TEST_KERNEL_FILTER_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

namespace hak_test {

// From now on, in all threads, the `listed` calls have the result `then`, and all others `otherwise` (SECCOMP_RET_...).
// False: this kernel or emulator has no filters.
inline bool SetFilter(const std::vector<long> &listed, unsigned then, unsigned otherwise) {
  std::vector<sock_filter> program = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const long number : listed) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, then));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, otherwise));
  sock_fprog all = {.len = static_cast<unsigned short>(program.size()), .filter = program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &all) == 0;
}

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TEST_KERNEL_FILTER_H_
