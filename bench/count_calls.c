// SPDX-License-Identifier: Apache-2.0
//
// count_calls REPORT LIBRARY COMMAND...: runs COMMAND with LIBRARY preloaded ("-" for none), counts the memory system
// calls of it and of all processes and threads that it starts, from its exec on, and writes one line "KIND COUNT" for
// each kind to REPORT. Ends when the last of these processes has ended, with the command's status, 128 + signal when a
// signal ended it, 125 on an error of its own.
//
// A seccomp filter stops the traced processes at the counted calls only, so all others cost next to nothing, unlike
// under strace without --seccomp-bpf. A call counts when it is made, whether or not it succeeds; calls of a 32-bit ABI
// do not count.
#include <errno.h>
#include <inttypes.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

enum { OWN_ERROR = 125, CANNOT_RUN = 127 };

static const struct {
  const char *name;
  uint32_t number;
} kKinds[] = {
    {"mmap", SYS_mmap},         {"munmap", SYS_munmap}, {"madvise", SYS_madvise},
    {"mprotect", SYS_mprotect}, {"mremap", SYS_mremap}, {"brk", SYS_brk},
};
enum { KINDS = sizeof kKinds / sizeof *kKinds };

static _Noreturn void give_up(const char *what) {
  fprintf(stderr, "count_calls: %s: %s\n", what, strerror(errno));
  _exit(OWN_ERROR);
}

// Stops at a call of kind k with k as the event's message, so that no register has to be read.
static int install_filter(void) {
  enum { CHECK_ARCH = 4, LENGTH = CHECK_ARCH + 2 * KINDS + 1 };
  struct sock_filter code[LENGTH] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
  };
  for (uint32_t k = 0; k < KINDS; k++) {
    code[CHECK_ARCH + 2 * k] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kKinds[k].number, 0, 1);
    code[CHECK_ARCH + 2 * k + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | k);
  }
  code[LENGTH - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const struct sock_fprog program = {.len = LENGTH, .filter = code};
  // Without privileges a filter may only be installed by a process that cannot gain any.
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

// The child's part: waits until the parent traces it, then becomes the command.
static _Noreturn void become(int go, const char *library, char **command) {
  char byte;
  if (read(go, &byte, 1) != 1) _exit(OWN_ERROR);
  close(go);
  if (strcmp(library, "-") == 0) {
    unsetenv("LD_PRELOAD");
  } else if (setenv("LD_PRELOAD", library, 1) != 0) {
    give_up("LD_PRELOAD");
  }
  if (install_filter() != 0) give_up("seccomp filter");
  execvp(command[0], command);
  fprintf(stderr, "count_calls: %s: %s\n", command[0], strerror(errno));
  _exit(CANNOT_RUN);
}

// Lets a stopped thread go on, with `listen` only as far as telling us what happens to it. It may have been killed
// meanwhile, which its own exit report will tell.
static void resume(bool listen, pid_t thread, int signal) {
  if (ptrace(listen ? PTRACE_LISTEN : PTRACE_CONT, thread, NULL, (void *)(intptr_t)signal) != 0 && errno != ESRCH)
    give_up("ptrace");
}

static void handle_stop(pid_t thread, int status, uint64_t *counts) {
  const int signal = WSTOPSIG(status), event = status >> 16;
  if (event == 0) {
    resume(false, thread, signal);  // a signal on its way to the thread
  } else if (event == PTRACE_EVENT_STOP &&
             (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)) {
    resume(true, thread, 0);  // stopped like any process, until somebody sends SIGCONT
  } else {
    if (event == PTRACE_EVENT_SECCOMP) {
      unsigned long kind = KINDS;
      if (ptrace(PTRACE_GETEVENTMSG, thread, NULL, &kind) == 0 && kind < KINDS) counts[kind]++;
    }
    resume(false, thread, 0);
  }
}

// Follows the traced processes until none is left; the wait status of the first one.
static int trace(pid_t first, uint64_t *counts) {
  int result = 0;
  for (;;) {
    int status;
    const pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0) {
      if (errno == EINTR) continue;
      if (errno == ECHILD) return result;
      give_up("waitpid");
    }
    if (WIFSTOPPED(status)) {
      handle_stop(thread, status, counts);
    } else if (thread == first) {
      result = status;
    }
  }
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fputs("usage: count_calls REPORT LIBRARY|- COMMAND...\n", stderr);
    return 2;
  }
  FILE *report = fopen(argv[1], "we");
  if (!report) give_up(argv[1]);
  int go[2];
  if (pipe(go) != 0) give_up("pipe");
  const pid_t child = fork();
  if (child < 0) give_up("fork");
  if (child == 0) {
    close(go[1]);
    become(go[0], argv[2], argv + 3);
  }
  close(go[0]);
  const long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                       PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
  // Unlike PTRACE_TRACEME, SEIZE tells a group-stop from a signal, also for the threads that are traced from birth.
  if (ptrace(PTRACE_SEIZE, child, NULL, (void *)options) != 0) give_up("ptrace");  // the child sees the pipe's end
  if (write(go[1], "", 1) != 1) give_up("pipe");
  close(go[1]);

  uint64_t counts[KINDS] = {0};
  const int status = trace(child, counts);
  for (int k = 0; k < KINDS; k++) fprintf(report, "%s %" PRIu64 "\n", kKinds[k].name, counts[k]);
  if (fclose(report) != 0) give_up(argv[1]);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
