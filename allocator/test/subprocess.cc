// SPDX-License-Identifier: Apache-2.0
#include "allocator/test/subprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace hak_test {
namespace {

[[noreturn]] void Fatal(const char *what) {
  perror(what);
  abort();
}

// Reads both pipes to their end. False: the deadline came first.
bool Collect(int out, int err, int timeout_seconds, Outcome *outcome) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + std::chrono::seconds(timeout_seconds);
  pollfd fds[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  std::string *texts[2] = {&outcome->out, &outcome->err};
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    const int ready = poll(fds, 2, static_cast<int>(left));
    if (ready < 0 && errno != EINTR) Fatal("poll");
    for (int i = 0; i < 2; ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t n = read(fds[i].fd, buffer, sizeof buffer);
      if (n > 0) {
        texts[i]->append(buffer, static_cast<size_t>(n));
      } else if (n == 0 || errno != EINTR) {
        fds[i].fd = -1;
      }
    }
  }
  return true;
}

template <typename Child>
Outcome Run(int timeout_seconds, const Child &child) {
  int out[2];
  int err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) Fatal("pipe2");
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) Fatal("fork");
  if (pid == 0) {
    // A process group of its own, so that the watchdog also ends what the child forks.
    setpgid(0, 0);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    close(out[0]);
    close(out[1]);
    close(err[0]);
    close(err[1]);
    child();
    abort();
  }
  close(out[1]);
  close(err[1]);
  Outcome outcome;
  outcome.timed_out = !Collect(out[0], err[0], timeout_seconds, &outcome);
  if (outcome.timed_out) {
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
  }
  close(out[0]);
  close(err[0]);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) Fatal("waitpid");
  }
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
#if defined(__aarch64__)
  // The emulator, in which aarch64 tests run, adds a line of its own to an abort.
  const std::string emulator = "qemu: uncaught target signal 6 (Aborted) - core dumped\n";
  const size_t own = outcome.err.size() - std::min(outcome.err.size(), emulator.size());
  if (outcome.err.compare(own, std::string::npos, emulator) == 0) outcome.err.resize(own);
#endif
  return outcome;
}

}  // namespace

std::ostream &operator<<(std::ostream &stream, const Outcome &outcome) {
  if (outcome.timed_out) stream << "timed out, ";
  stream << "exit code " << outcome.exit_code << ", signal " << outcome.signal << "\n--- stdout\n"
         << outcome.out << "--- stderr\n"
         << outcome.err << "---";
  return stream;
}

Outcome RunForked(const std::function<int()> &body, int timeout_seconds) {
  return Run(timeout_seconds, [&] { exit(body()); });
}

Outcome RunSelf(const std::vector<std::string> &arguments, const std::vector<std::string> &environment,
                int timeout_seconds) {
  // Built before the fork, so that the child does nothing but exec.
  std::vector<std::string> strings = {"/proc/self/exe"};
  strings.insert(strings.end(), arguments.begin(), arguments.end());
  std::vector<char *> argv;
  for (std::string &s : strings) argv.push_back(s.data());
  argv.push_back(nullptr);
  std::vector<std::string> added = environment;
  std::vector<char *> envp;
  for (std::string &s : added) envp.push_back(s.data());
  for (char **e = environ; *e != nullptr; ++e) {
    bool replaced = false;
    for (const std::string &s : environment) {
      const size_t name = s.find('=') + 1;
      replaced = replaced || strncmp(*e, s.c_str(), name) == 0;
    }
    if (!replaced) envp.push_back(*e);
  }
  envp.push_back(nullptr);
  return Run(timeout_seconds, [&] {
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  });
}

bool CanRunSelf() {
#if defined(__aarch64__)
  return RunSelf({"--gtest_list_tests"}, {}).exit_code != 127;
#else
  return true;
#endif
}

}  // namespace hak_test
