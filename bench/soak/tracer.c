// SPDX-License-Identifier: Apache-2.0
//
// Counts the memory system calls of the worker, its threads and its children by kind. A seccomp filter stops them at
// these calls only, and the process that the user started, which traces them, adds up in a page that both share. The
// worker is a fresh image of the program, not a fork of a process in which the allocator has already started.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/soak/soak.h"

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#error "add this architecture's AUDIT_ARCH_*"
#endif

static const char kVariable[] = "HAKMEM_BENCH_SOAK_COUNTS";  // the file descriptor of the shared page

static const uint32_t kNumbers[CALL_KINDS] = {SYS_mmap, SYS_munmap, SYS_madvise, SYS_mprotect, SYS_mremap, SYS_brk};

static _Atomic(uint64_t) *shared;  // NULL: nothing is counted

static void say(const char *what) {
  fprintf(stderr, "soak_worker: system calls are not counted: %s: %s\n", what, strerror(errno));
}

static void *map_page(int fd) {
  void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return page == MAP_FAILED ? NULL : page;
}

// A call of kind k stops with k as the event's message.
static bool install_filter(void) {
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
  // Without privileges a filter may only be installed by a process that cannot gain any.
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  // SPEC_ALLOW: some kernels make a filtered process slower to guard against speculation, which would be measured.
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0;
}

// The child: waits until it is traced, and becomes the worker. Its end before that tells the parent that it failed.
static _Noreturn void become_worker(int go, int fd, char **argv) {
  char byte, number[16], path[4096];
  if (read(go, &byte, 1) != 1) _exit(1);
  close(go);
  snprintf(number, sizeof number, "%d", fd);
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length < 0 || setenv(kVariable, number, 1) != 0) _exit(1);
  path[length] = '\0';
  if (!install_filter()) {
    say("seccomp");
    unsetenv(kVariable);
    setenv(kVariable, "none", 1);
  }
  execv(path, argv);
  fprintf(stderr, "soak_worker: %s: %s\n", path, strerror(errno));
  _exit(1);
}

// Lets a stopped thread go on. It may have been killed meanwhile, which its own exit report will tell.
static void resume(enum __ptrace_request request, pid_t thread, int signal) {
  if (ptrace(request, thread, NULL, (void *)(intptr_t)signal) != 0 && errno != ESRCH) {
    fprintf(stderr, "soak_worker: ptrace: %s\n", strerror(errno));
    _exit(1);
  }
}

static void handle_stop(pid_t thread, int status) {
  const int signal = WSTOPSIG(status), event = status >> 16;
  if (event == 0) {
    resume(PTRACE_CONT, thread, signal);  // a signal on its way to the thread
  } else if (event == PTRACE_EVENT_STOP &&
             (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)) {
    resume(PTRACE_LISTEN, thread, 0);  // stopped like any process, until somebody sends SIGCONT
  } else {
    unsigned long kind = CALL_KINDS;
    if (event == PTRACE_EVENT_SECCOMP && ptrace(PTRACE_GETEVENTMSG, thread, NULL, &kind) == 0 && kind < CALL_KINDS) {
      atomic_fetch_add_explicit(&shared[kind], 1, memory_order_relaxed);
    }
    resume(PTRACE_CONT, thread, 0);
  }
}

// Follows the worker to its end; what it started ends with this process (PTRACE_O_EXITKILL).
static _Noreturn void follow(pid_t worker) {
  for (;;) {
    int status;
    const pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0) {
      if (errno == EINTR) continue;
      fprintf(stderr, "soak_worker: waitpid: %s\n", strerror(errno));
      _exit(1);
    }
    if (WIFSTOPPED(status)) {
      handle_stop(thread, status);
    } else if (thread == worker) {
      if (!WIFSIGNALED(status)) _exit(WEXITSTATUS(status));
      fprintf(stderr, "soak_worker: ended by signal %d\n", WTERMSIG(status));
      _exit(128 + WTERMSIG(status));
    }
  }
}

static void attach(const char *fd) {
  char *end;
  const long number = strtol(fd, &end, 10);
  if (*fd == '\0' || *end != '\0') return;  // "none"
  shared = map_page((int)number);
  if (!shared) say("mmap");
  close((int)number);
}

void tracer_start(char **argv) {
  const char *started = getenv(kVariable);
  if (started) {
    attach(started);
    return;
  }
  const int fd = memfd_create("soak_counts", 0);
  if (fd < 0 || ftruncate(fd, PAGE) != 0 || !(shared = map_page(fd))) {
    say("shared memory");
    return;
  }
  int go[2];
  const pid_t child = pipe(go) == 0 ? fork() : -1;
  if (child < 0) {
    shared = NULL;
    say("fork");
    return;
  }
  if (child == 0) {
    close(go[1]);
    become_worker(go[0], fd, argv);
  }
  close(go[0]);
  const long options =
      PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
  // Unlike PTRACE_TRACEME, SEIZE tells a group-stop from a signal, also for the threads that are traced from birth.
  if (ptrace(PTRACE_SEIZE, child, NULL, (void *)options) != 0) {
    say("ptrace");
    close(go[1]);  // ends the child
    close(fd);
    munmap(shared, PAGE);
    shared = NULL;
    waitpid(child, NULL, 0);
    return;
  }
  close(fd);
  if (write(go[1], "", 1) != 1) soak_fail("pipe: %s", strerror(errno));
  close(go[1]);
  follow(child);
}

bool tracer_read(uint64_t calls[CALL_KINDS]) {
  for (int k = 0; k < CALL_KINDS; k++) {
    calls[k] = shared ? atomic_load_explicit(&shared[k], memory_order_relaxed) : 0;
  }
  return shared != NULL;
}
