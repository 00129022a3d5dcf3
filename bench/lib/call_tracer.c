// SPDX-License-Identifier: Apache-2.0
//
// Stops traced processes at memory system calls, by a seccomp filter and ptrace.
#include "bench/lib/call_tracer.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#error "add this architecture's AUDIT_ARCH_*"
#endif

static const uint32_t kNumbers[CALL_KINDS] = {SYS_mmap, SYS_munmap, SYS_madvise, SYS_mprotect, SYS_mremap, SYS_brk};

// A call of kind k stops with k as the event's message, so that no register needs to be read.
bool call_filter_install(void) {
  enum { CHECK_ARCH = 4, LENGTH = CHECK_ARCH + 2 * CALL_KINDS + 1 };
  struct sock_filter code[LENGTH] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
  };
  for (uint32_t k = 0; k < CALL_KINDS; k++) {
    code[CHECK_ARCH + 2 * k] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kNumbers[k], 0, 1);
    code[CHECK_ARCH + 2 * k + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | k);
  }
  code[LENGTH - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const struct sock_fprog program = {.len = LENGTH, .filter = code};
  // Without privileges, only a process that cannot gain any may install a filter.
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  // SPEC_ALLOW: some kernels slow down a filtered process to guard against speculation, and that would be measured.
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0;
}

bool call_tracer_seize(pid_t child) {
  const long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                       PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
  // Unlike PTRACE_TRACEME, SEIZE tells a group-stop from a signal, also for the threads that are traced from birth.
  return ptrace(PTRACE_SEIZE, child, NULL, (void *)options) == 0;
}

int call_tracer_kind(pid_t thread, int status) {
  unsigned long kind = CALL_KINDS;
  if (status >> 16 != PTRACE_EVENT_SECCOMP || ptrace(PTRACE_GETEVENTMSG, thread, NULL, &kind) != 0) return CALL_KINDS;
  return kind < CALL_KINDS ? (int)kind : CALL_KINDS;
}

bool call_tracer_resume(pid_t thread, int status) {
  const int signal = WSTOPSIG(status), event = status >> 16;
  long done;
  if (event == 0) {
    done = ptrace(PTRACE_CONT, thread, NULL, (void *)(intptr_t)signal);  // delivers the signal to the thread
  } else if (event == PTRACE_EVENT_STOP &&
             (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)) {
    done = ptrace(PTRACE_LISTEN, thread, NULL, NULL);  // stays stopped until it gets SIGCONT
  } else {
    done = ptrace(PTRACE_CONT, thread, NULL, NULL);
  }
  // It may have been killed meanwhile; waitpid reports that later.
  return done == 0 || errno == ESRCH;
}
