// SPDX-License-Identifier: Apache-2.0
#include "allocator/test/kernel/call_supervisor.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace hak_test {
namespace {

// Linux 6.6; older headers do not name them.
constexpr unsigned long kSetFlags = _IOW('!', 4, uint64_t);
constexpr unsigned long kSyncWakeUp = 1;

constexpr int kBySignal = 100;

[[noreturn]] void Fatal(const char *what) {
  perror(what);
  _exit(99);
}

}  // namespace

const std::vector<CallKind> &CallKinds() {
  static const std::vector<CallKind> *const kinds = new std::vector<CallKind>{
      {"mmap", SYS_mmap, {ENOMEM, EAGAIN, EPERM, EINVAL}, {}, true},
      {"munmap", SYS_munmap, {ENOMEM, EPERM, EINVAL}, {}},
      {"mremap", SYS_mremap, {ENOMEM, EAGAIN, EPERM, EINVAL, ENOSYS}, {}},
      {"mprotect", SYS_mprotect, {ENOMEM, EACCES, EPERM}, {}, true},
      {"madvise", SYS_madvise, {EINVAL, EPERM, ENOSYS, ENOMEM}, {EAGAIN}},
      {"membarrier", SYS_membarrier, {ENOSYS, EPERM, EINVAL, ENOMEM}, {}},
      {"openat", SYS_openat, {ENOENT, EACCES, EPERM, EMFILE, ENOMEM, ENOSYS}, {EINTR}},
      {"read", SYS_read, {EIO, EAGAIN, EPERM, ENOMEM}, {EINTR}},
      {"getrandom", SYS_getrandom, {EAGAIN, EPERM, ENOSYS}, {EINTR}},
      {"prlimit64", SYS_prlimit64, {EPERM, ENOSYS, EINVAL}, {}},
      {"prctl", SYS_prctl, {EINVAL, EPERM, ENOSYS}, {}},
  };
  if (kinds->size() != kCallKinds) abort();
  return *kinds;
}

std::ostream &operator<<(std::ostream &stream, const CallPlan &plan) {
  switch (plan.failing) {
    case Failing::kNone:
      return stream << "no call fails";
    case Failing::kOne:
      stream << "call " << plan.nth << " fails";
      break;
    case Failing::kAllFrom:
      stream << "all calls fail from " << plan.nth << " on";
      break;
    case Failing::kKindFrom:
      stream << "all calls of " << CallKinds()[plan.kind].name << " fail from " << plan.nth << " on";
      break;
  }
  return stream << " (error " << plan.error << ")";
}

Supervision *ShareSupervision(int *file) {
  if (*file < 0) {
    *file = static_cast<int>(syscall(SYS_memfd_create, "supervision", 0));
    if (*file < 0 || ftruncate(*file, sizeof(Supervision)) != 0) Fatal("memfd_create");
  }
  void *at = mmap(nullptr, sizeof(Supervision), PROT_READ | PROT_WRITE, MAP_SHARED, *file, 0);
  if (at == MAP_FAILED) Fatal("mmap of the supervision");
  return static_cast<Supervision *>(at);  // zeros: nothing armed or counted
}

namespace {

// ---- The supervised process ---------------------------------------------------------------------

// The listener of a filter that reports all calls of the kinds; -1: there are no such filters.
int SetReportingFilter() {
  std::vector<sock_filter> program = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const CallKind &kind : CallKinds()) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(kind.number), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog all = {.len = static_cast<unsigned short>(program.size()), .filter = program.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &all));
}

union Envelope {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

// A message with one byte and, unless it is negative, a descriptor.
void SendDescriptor(int socket, int descriptor) {
  char byte = 0;
  iovec part = {&byte, 1};
  Envelope envelope = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = envelope.bytes;
    message.msg_controllen = sizeof envelope.bytes;
    envelope.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&envelope.header), &descriptor, sizeof descriptor);
  }
  if (sendmsg(socket, &message, 0) != 1) Fatal("sendmsg");
}

int ReceiveDescriptor(int socket) {
  char byte = 0;
  iovec part = {&byte, 1};
  Envelope envelope = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = envelope.bytes;
  message.msg_controllen = sizeof envelope.bytes;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || message.msg_controllen < sizeof(cmsghdr)) return -1;
  int descriptor = -1;
  memcpy(&descriptor, CMSG_DATA(&envelope.header), sizeof descriptor);
  return descriptor;
}

// ---- The supervisor -----------------------------------------------------------------------------

struct Range {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool Has(uint64_t address) const { return address >= begin && address < end; }
};

// Where the code of this program lies in a process.
Range CodeOf(pid_t process) {
  char own[4096];
  const ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
  if (length <= 0) Fatal("readlink");
  own[length] = '\0';
  FILE *maps = fopen(("/proc/" + std::to_string(process) + "/maps").c_str(), "re");
  if (maps == nullptr) return {};  // it has ended
  Range range;
  char line[4400];
  while (range.end == 0 && fgets(line, sizeof line, maps) != nullptr) {
    if (strstr(line, own) == nullptr) continue;
    unsigned long long begin = 0;
    unsigned long long end = 0;
    char rights[5] = {};
    if (sscanf(line, "%llx-%llx %4s", &begin, &end, rights) == 3 && rights[2] == 'x') range = {begin, end};
  }
  fclose(maps);
  return range;
}

class Supervisor {
 public:
  Supervisor(const CallPlan &plan, Supervision *shared, int listener)
      : plan_(plan), shared_(shared), listener_(listener), code_(CodeOf(getpid())) {
    seccomp_notif_sizes sizes = {};
    if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0) Fatal("SECCOMP_GET_NOTIF_SIZES");
    // The kernel's records may be longer than those of the headers.
    // The two processes take turns on one processor. An older kernel refuses; then all is the same, but slower.
    ioctl(listener_, kSetFlags, kSyncWakeUp);
    call_.resize(std::max<size_t>(sizes.seccomp_notif, sizeof(seccomp_notif)) / sizeof(uint64_t) + 1);
    answer_.resize(std::max<size_t>(sizes.seccomp_notif_resp, sizeof(seccomp_notif_resp)) / sizeof(uint64_t) + 1);
  }

  // Until the last process with the filter has ended.
  void Run() {
    for (;;) {
      pollfd wait = {listener_, POLLIN, 0};
      if (poll(&wait, 1, -1) < 0) {
        if (errno == EINTR) continue;
        Fatal("poll");
      }
      if ((wait.revents & POLLIN) != 0) {
        Answer();
      } else {
        return;
      }
    }
  }

 private:
  void Answer() {
    std::fill(call_.begin(), call_.end(), 0);
    std::fill(answer_.begin(), answer_.end(), 0);
    auto *call = reinterpret_cast<seccomp_notif *>(call_.data());
    auto *answer = reinterpret_cast<seccomp_notif_resp *>(answer_.data());
    // A caller that a signal has ended meanwhile has no call and takes no answer.
    if (ioctl(listener_, SECCOMP_IOCTL_NOTIF_RECV, call) != 0) return;
    answer->id = call->id;
    const int error = ErrorFor(*call);
    if (error == 0) {
      answer->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    } else {
      answer->error = -error;
    }
    ioctl(listener_, SECCOMP_IOCTL_NOTIF_SEND, answer);
  }

  bool IsOfAllocator(const seccomp_notif &call) {
    // After an exec the same program lies elsewhere.
    if (!code_.Has(call.data.instruction_pointer)) {
      const Range now = CodeOf(static_cast<pid_t>(call.pid));
      if (now.Has(call.data.instruction_pointer)) code_ = now;
    }
    return code_.Has(call.data.instruction_pointer);
  }

  // 0: the call is let pass.
  int ErrorFor(const seccomp_notif &call) {
    if (!shared_->armed.load() || !IsOfAllocator(call)) return 0;
    const std::vector<CallKind> &kinds = CallKinds();
    size_t kind = 0;
    while (kinds[kind].number != call.data.nr) ++kind;
    const uint64_t nth = ++shared_->all;
    const uint64_t nth_of_kind = ++shared_->calls[kind];
    if (nth <= kMostCalls) shared_->sequence[nth - 1] = static_cast<unsigned char>(kind);
    std::vector<int> errors = kinds[kind].lasting;
    switch (plan_.failing) {
      case Failing::kNone:
        return 0;
      case Failing::kOne:
        if (nth != plan_.nth) return 0;
        errors.insert(errors.end(), kinds[kind].passing.begin(), kinds[kind].passing.end());
        break;
      case Failing::kAllFrom:
        if (nth < plan_.nth) return 0;
        break;
      case Failing::kKindFrom:
        if (kind != plan_.kind || nth_of_kind < plan_.nth) return 0;
        break;
    }
    ++shared_->hits;
    return errors[plan_.error % errors.size()];
  }

  const CallPlan plan_;
  Supervision *const shared_;
  const int listener_;
  Range code_;
  std::vector<uint64_t> call_, answer_;
};

}  // namespace

int Supervise(const CallPlan &plan, Supervision *shared, const std::function<int()> &program) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) Fatal("socketpair");
  const pid_t child = fork();
  if (child < 0) Fatal("fork");
  if (child == 0) {
    alarm(plan.alarm_seconds);
    const int listener = SetReportingFilter();
    SendDescriptor(sockets[1], listener);
    if (listener < 0) _exit(kNoSupervisor);
    close(listener);
    close(sockets[0]);
    close(sockets[1]);
    _exit(program());
  }
  close(sockets[1]);
  const int listener = ReceiveDescriptor(sockets[0]);
  if (listener >= 0) Supervisor(plan, shared, listener).Run();
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) Fatal("waitpid");
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  dprintf(STDERR_FILENO, "the program was ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return kBySignal;
}

}  // namespace hak_test
