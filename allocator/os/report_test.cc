// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/report.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "allocator/os/unit_test.h"

namespace {

std::string Text(const hak_line &line) { return std::string(line.text, line.length); }

std::string Hex(uint64_t value) {
  hak_line line = {};
  hak_line_hex(&line, value);
  return Text(line);
}

std::string Number(int64_t value) {
  hak_line line = {};
  hak_line_number(&line, value);
  return Text(line);
}

TEST(Line, Hex) {
  EXPECT_EQ(Hex(0), "0x0");
  EXPECT_EQ(Hex(0xF), "0xf");
  EXPECT_EQ(Hex(0x10), "0x10");
  EXPECT_EQ(Hex(0x123456789ABCDEF0), "0x123456789abcdef0");
  EXPECT_EQ(Hex(UINT64_MAX), "0xffffffffffffffff");
}

TEST(Line, Number) {
  EXPECT_EQ(Number(0), "0");
  EXPECT_EQ(Number(-1), "-1");
  EXPECT_EQ(Number(10), "10");
  EXPECT_EQ(Number(INT64_MAX), "9223372036854775807");
  EXPECT_EQ(Number(INT64_MIN), "-9223372036854775808");
}

TEST(Line, TextFromOutsideStaysOnItsLine) {
  hak_line line = {};
  hak_line_outside_text(&line, "/tmp/a b~\n\x1B[A\x7F\xC3\xBC");
  EXPECT_EQ(Text(line), "/tmp/a b~??[A???");
}

TEST(Line, AppendsAndIsCutAtItsCapacity) {
  hak_line line = {};
  hak_line_text(&line, "");
  EXPECT_EQ(line.length, 0u);
  hak_line_text(&line, "ab");
  hak_line_number(&line, 7);
  EXPECT_EQ(Text(line), "ab7");
  hak_line_text(&line, std::string(600, 'x').c_str());
  EXPECT_EQ(line.length, sizeof line.text - 1);  // there is room for the newline
  hak_line_hex(&line, UINT64_MAX);
  hak_line_number(&line, INT64_MIN);
  EXPECT_EQ(Text(line), "ab7" + std::string(sizeof line.text - 4, 'x'));
  testing::internal::CaptureStderr();
  hak_line_write(&line);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "ab7" + std::string(sizeof line.text - 4, 'x') + "\n");
}

// In a packet pipe each write is read separately, so that lines of other processes cannot interleave.
TEST(Line, IsOneWrite) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_DIRECT | O_CLOEXEC | O_NONBLOCK), 0);
  const int saved = dup(STDERR_FILENO);
  ASSERT_GE(saved, 0);
  ASSERT_EQ(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
  hak_line line = {};
  hak_line_text(&line, "one ");
  hak_line_number(&line, 2);
  hak_line_write(&line);
  ASSERT_EQ(dup2(saved, STDERR_FILENO), STDERR_FILENO);
  close(saved);
  char buffer[64];
  const ssize_t first = read(ends[0], buffer, sizeof buffer);
  ASSERT_GT(first, 0);
  EXPECT_EQ(std::string(buffer, static_cast<size_t>(first)), "one 2\n");
  EXPECT_LT(read(ends[0], buffer, sizeof buffer), 0);
  close(ends[0]);
  close(ends[1]);
}

TEST(Line, WithoutStderrNothingHappensAndErrnoStays) {
  const auto without_stderr = [] {
    close(STDERR_FILENO);
    hak_line line = {};
    hak_line_text(&line, "nobody reads this");
    errno = E2BIG;
    hak_line_write(&line);
    _exit(errno == E2BIG ? 0 : 1);
  };
  EXPECT_EXIT(without_stderr(), testing::ExitedWithCode(0), testing::Eq(std::string()));
}

// ---- A line that the process did not ask for ------------------------------------------------------------------------

// Offers a line to a stderr whose reader is gone; SIGPIPE would end the process. 0: it is as before, with errno.
int OfferWithoutReader(bool blocked, bool pending) {
  signal(SIGPIPE, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  if (blocked) pthread_sigmask(SIG_BLOCK, &set, nullptr);
  if (pending) raise(SIGPIPE);
  int ends[2];
  if (pipe(ends) != 0 || dup2(ends[1], STDERR_FILENO) != STDERR_FILENO) return 4;
  close(ends[0]);
  hak_line line = {};
  hak_line_text(&line, "nobody reads this");
  errno = E2BIG;
  hak_line_offer(&line);
  if (errno != E2BIG) return 5;
  sigset_t now;
  pthread_sigmask(SIG_BLOCK, nullptr, &now);
  if ((sigismember(&now, SIGPIPE) == 1) != blocked) return 6;
  sigpending(&now);
  return (sigismember(&now, SIGPIPE) == 1) == pending ? 0 : 7;
}

TEST(Offer, IsOneLine) {
  hak_line line = {};
  hak_line_text(&line, "hakmem: words");
  testing::internal::CaptureStderr();
  hak_line_offer(&line);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "hakmem: words\n");
}

TEST(Offer, IsLostWithoutAReaderAndNothingElseHappens) {
  EXPECT_EXIT(_exit(OfferWithoutReader(false, false)), testing::ExitedWithCode(0), testing::Eq(std::string()));
  EXPECT_EXIT(_exit(OfferWithoutReader(true, false)), testing::ExitedWithCode(0), testing::Eq(std::string()));
  // The program's own signal stays.
  EXPECT_EXIT(_exit(OfferWithoutReader(true, true)), testing::ExitedWithCode(0), testing::Eq(std::string()));
}

TEST(Offer, WaitsForNobody) {
  const auto offer = [] {
    int ends[2];
    if (pipe2(ends, O_NONBLOCK) != 0 || dup2(ends[1], STDERR_FILENO) != STDERR_FILENO) _exit(4);
    const char byte = 'x';
    while (write(ends[1], &byte, 1) == 1) continue;
    if (fcntl(ends[1], F_SETFL, 0) != 0) _exit(5);
    hak_line line = {};
    hak_line_text(&line, "nobody reads this");
    alarm(20);  // it would wait for ever
    hak_line_offer(&line);
    _exit(0);
  };
  EXPECT_EXIT(offer(), testing::ExitedWithCode(0), testing::Eq(std::string()));
}

// ---- The program's function -----------------------------------------------------------------------------------------

char g_given[2048];
size_t g_given_length;

void Keep(const char *text, size_t length) {
  if (g_given_length + length > sizeof g_given) return;
  memcpy(g_given + g_given_length, text, length);
  g_given_length += length;
}

TEST(Output, GetsEachLineInsteadOfStderr) {
  hak_line line = {};
  hak_line_text(&line, "hakmem: one");
  hak_line second = {};
  hak_line_text(&second, "hakmem: two");
  hak_line third = {};
  hak_line_text(&third, "hakmem: three");
  testing::internal::CaptureStderr();
  EXPECT_EQ(hak_line_set_output(Keep), nullptr);
  hak_line_write(&line);
  hak_line_offer(&second);
  EXPECT_EQ(hak_line_set_output(nullptr), Keep);
  hak_line_write(&third);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "hakmem: three\n");
  EXPECT_EQ(std::string(g_given, g_given_length), "hakmem: one\nhakmem: two\n");
}

// In a process whose stderr takes nothing, which does not matter to the function: it writes where stderr was.
void GiveWithoutStderr(bool is_last) {
  static int before;
  before = dup(STDERR_FILENO);
  int ends[2];
  if (before < 0 || pipe2(ends, O_NONBLOCK) != 0 || dup2(ends[1], STDERR_FILENO) != STDERR_FILENO) _exit(4);
  const char byte = 'x';
  while (write(ends[1], &byte, 1) == 1) continue;
  hak_line_set_output([](const char *text, size_t length) {
    if (write(before, "given: ", 7) != 7 || write(before, text, length) < 0) _exit(3);
  });
  if (is_last) hak_fatal("double free", nullptr);
  hak_line line = {};
  hak_line_text(&line, "hakmem: offered");
  hak_line_offer(&line);
  _exit(0);
}

TEST(Output, DoesNotNeedStderr) {
  EXPECT_EXIT(GiveWithoutStderr(false), testing::ExitedWithCode(0),
              testing::Eq(std::string("given: hakmem: offered\n")));
  EXPECT_EXIT(GiveWithoutStderr(true), testing::KilledBySignal(SIGABRT),
              hak_unit::IsFatal("given: hakmem: double free: 0x0\n"));
}

// As the last line before the end: no exit handler runs, and a reader that is gone is no other end.
void ExitWith(bool without_reader) {
  atexit([] {
    if (write(STDERR_FILENO, "handler\n", 8) != 8) _exit(3);
  });
  int ends[2];
  if (without_reader) {
    signal(SIGPIPE, SIG_DFL);
    if (pipe(ends) != 0 || dup2(ends[1], STDERR_FILENO) != STDERR_FILENO) _exit(4);
    close(ends[0]);
  }
  hak_line line = {};
  hak_line_text(&line, "hakmem: wrong");
  hak_line_exit(&line);
}

TEST(Exit, WritesTheLineAndEndsWithStatus1) {
  EXPECT_EXIT(ExitWith(false), testing::ExitedWithCode(1), testing::Eq(std::string("hakmem: wrong\n")));
  EXPECT_EXIT(ExitWith(true), testing::ExitedWithCode(1), testing::Eq(std::string()));
}

TEST(Fatal, NamesWhatAndWhereAndAborts) {
  HAK_EXPECT_FATAL(hak_fatal("double free", reinterpret_cast<void *>(0x7f00deadbee0)), "double free",
                   reinterpret_cast<void *>(0x7f00deadbee0));
  EXPECT_EXIT(hak_fatal("invalid free", nullptr), testing::KilledBySignal(SIGABRT),
              hak_unit::IsFatal("hakmem: invalid free: 0x0\n"));
}

// As with abort(), the program's handler runs once, with the signal unblocked, and then the signal ends the process.
void FatalWith(sighandler_t handler, bool blocked) {
  signal(SIGABRT, handler);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGABRT);
  if (blocked) pthread_sigmask(SIG_BLOCK, &set, nullptr);
  hak_fatal("double free", nullptr);
}

TEST(Fatal, EndsTheProcessWhateverTheProgramDidToTheSignal) {
  const std::string line = "hakmem: double free: 0x0\n";
  const sighandler_t handler = [](int) {
    if (write(STDERR_FILENO, "handler\n", 8) != 8) _exit(3);
  };
  EXPECT_EXIT(FatalWith(SIG_DFL, true), testing::KilledBySignal(SIGABRT), hak_unit::IsFatal(line));
  EXPECT_EXIT(FatalWith(SIG_IGN, false), testing::KilledBySignal(SIGABRT), hak_unit::IsFatal(line));
  EXPECT_EXIT(FatalWith(SIG_IGN, true), testing::KilledBySignal(SIGABRT), hak_unit::IsFatal(line));
  EXPECT_EXIT(FatalWith(handler, false), testing::KilledBySignal(SIGABRT), hak_unit::IsFatal(line + "handler\n"));
  EXPECT_EXIT(FatalWith(handler, true), testing::KilledBySignal(SIGABRT), hak_unit::IsFatal(line + "handler\n"));
}

// A pending cancellation takes effect at the next cancellation point, and the report contains none.
TEST(Fatal, IsNotCancelled) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "with a sanitizer the C library's functions are called, which are cancellation points";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
  GTEST_SKIP() << "with a sanitizer the C library's functions are called, which are cancellation points";
#endif
#endif
  const auto cancelled = [] {
    pthread_cancel(pthread_self());
    hak_fatal("double free", nullptr);
  };
  EXPECT_EXIT(cancelled(), testing::KilledBySignal(SIGABRT), hak_unit::IsFatal("hakmem: double free: 0x0\n"));
}

TEST(Fatal, AnEndlessReasonStillIsOneLine) {
  const std::string reason(2000, 'y');
  EXPECT_EXIT(hak_fatal(reason.c_str(), nullptr), testing::KilledBySignal(SIGABRT),
              hak_unit::IsLast("hakmem: " + std::string(511 - 8, 'y') + "\n"));
}

// ---- Who the process is ---------------------------------------------------------------------------------------------

// What the process that runs `end` in a child writes to stderr, and the child's id.
std::string LastWords(const std::function<void()> &end, pid_t *child) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
  *child = fork();
  if (*child == 0) {
    dup2(ends[1], STDERR_FILENO);
    end();
  }
  close(ends[1]);
  std::string text;
  char part[256];
  for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(*child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
  return text.substr(0, text.find("qemu: "));
}

TEST(Fatal, NamesTheProgramTheProcessAndTheBlock) {
  const struct Program {
    const char *path;
    std::string name;
  } programs[] = {
      {"/usr/sbin/server", "server["},
      {"server", "server["},
      {"./a b", "a b["},
      {"/usr/bin/", "bin/["},
      {"/tmp/two\nlines\033[1m", "two?lines?[1m["},
      {"/opt/a-name-that-is-longer-than-what-there-is-room-for", "a-name-that-is-longer-than-what["},
  };
  void *const block = reinterpret_cast<void *>(0x7f00deadbee0);
  for (const Program &program : programs) {
    const char *const path = program.path;
    const std::string &name = program.name;
    pid_t child = 0;
    const auto with_size = [path, block] {
      hak_report_name_program(path);
      hak_fatal_block("double free", block, 48);
    };
    std::string line = LastWords(with_size, &child);
    EXPECT_EQ(line, "hakmem: double free: 0x7f00deadbee0 (48-byte block) in " + name + std::to_string(child) + "]\n");
    const auto without = [path, block] {
      hak_report_name_program(path);
      hak_report_name_program(nullptr);
      hak_fatal("invalid free", block);
    };
    line = LastWords(without, &child);
    EXPECT_EQ(line, "hakmem: invalid free: 0x7f00deadbee0 in " + name + std::to_string(child) + "]\n");
  }
}

TEST(Fatal, NamesTheProcessWithoutAName) {
  pid_t child = 0;
  const std::string line = LastWords([] { hak_fatal("invalid free", nullptr); }, &child);
  EXPECT_EQ(line, "hakmem: invalid free: 0x0 in process " + std::to_string(child) + "\n");
}

TEST(Fatal, NamesTheThread) {
  pid_t child = 0;
  const auto in_a_thread = [] {
    std::thread([] {
      hak_report_name_program("server");
      dprintf(STDERR_FILENO, "%ld ", syscall(SYS_gettid));
      hak_fatal("double free", nullptr);
    }).join();
  };
  const std::string text = LastWords(in_a_thread, &child);
  const std::string thread = text.substr(0, text.find(' '));
  EXPECT_NE(thread, std::to_string(child));
  EXPECT_EQ(text,
            thread + " hakmem: double free: 0x0 in server[" + std::to_string(child) + "], thread " + thread + "\n");
}

// ---- A stderr that takes no data: the process still ends by SIGABRT, and the line is lost --------------------------

// Replaces stderr by a pipe; returns the pipe's reading end.
int PipeAsStderr() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0 || dup2(ends[1], STDERR_FILENO) < 0) _exit(3);
  close(ends[1]);
  return ends[0];
}

// Fills the pipe, and makes it blocking or not.
void FillPipe(bool blocking) {
  const int flags = fcntl(STDERR_FILENO, F_GETFL);
  fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK);
  char text[4096] = {};
  while (write(STDERR_FILENO, text, sizeof text) > 0) {
  }
  while (write(STDERR_FILENO, text, 1) > 0) {
  }
  if (blocking) fcntl(STDERR_FILENO, F_SETFL, flags);
  alarm(30);
}

TEST(FatalWithoutAReader, ClosedStderr) {
  const auto closed = [] {
    close(STDERR_FILENO);
    hak_fatal("double free", nullptr);
  };
  EXPECT_EXIT(closed(), testing::KilledBySignal(SIGABRT), testing::Eq(std::string()));
}

TEST(FatalWithoutAReader, TheReaderIsGone) {
  const auto gone = [] {
    close(PipeAsStderr());
    hak_fatal("double free", nullptr);
  };
  EXPECT_EXIT(gone(), testing::KilledBySignal(SIGABRT), testing::Eq(std::string()));
}

TEST(FatalWithoutAReader, TheReaderDoesNotRead) {
#if defined(__aarch64__)
  GTEST_SKIP() << "the emulator itself then waits for the reader";
#endif
  for (const bool blocking : {false, true}) {
    const auto full = [blocking] {
      PipeAsStderr();
      FillPipe(blocking);
      hak_fatal("double free", nullptr);
    };
    EXPECT_EXIT(full(), testing::KilledBySignal(SIGABRT), testing::Eq(std::string())) << blocking;
  }
}

// The pipe of the tests above takes a line if there is room.
TEST(FatalWithoutAReader, RoomInThePipe) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const auto room = [&ends] {
    dup2(ends[1], STDERR_FILENO);
    hak_fatal("double free", nullptr);
  };
  EXPECT_EXIT(room(), testing::KilledBySignal(SIGABRT), testing::Eq(std::string()));
  char text[200] = {};
  EXPECT_GT(read(ends[0], text, sizeof text - 1), 0);
  EXPECT_THAT(std::string(text), hak_unit::IsFatal("hakmem: double free: 0x0\n"));
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
