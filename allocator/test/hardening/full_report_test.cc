// SPDX-License-Identifier: Apache-2.0
//
// HAKMEM_REPORT=full: what follows the line about misuse.
#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr char kFull[] = "HAKMEM_REPORT=full";
constexpr size_t kLarge = 100000;

std::vector<std::string> Lines(const std::string &text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end == std::string::npos ? text.size() : end + 1;
  }
  return lines;
}

bool IsGuarded() {
  return strstr(hak_version(), " observe ") != nullptr || strstr(hak_version(), " hardened ") != nullptr;
}

// ---- In the child: functions that the stack must show -------------------------------------------

char *New(size_t size) { return static_cast<char *>(hak_malloc(size)); }
void Write(char *at) { *const_cast<volatile char *>(at) = 0x5a; }

// The functions do not end by a call, which would leave no frame.
int after;
#define HAK_FRAME_ENDS after = after + 1

__attribute__((noinline)) void FreeTwice(char *block) {
  hak_free(block);
  hak_free(block);
  HAK_FRAME_ENDS;
}
__attribute__((noinline)) void Underflow(char *block) {
  Write(block - 1);
  HAK_FRAME_ENDS;
}
__attribute__((noinline)) void FreeOverflown(char *block) {
  Write(block + 40);
  hak_free(block);
  HAK_FRAME_ENDS;
}
__attribute__((noinline)) char *Allocate() {
  char *const block = New(40);
  HAK_FRAME_ENDS;
  return block;
}

// Where the program was loaded, and the function: what the parent looks for.
void Tell(void *function) {
  uintptr_t bias = 0;
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *to) {
        *static_cast<uintptr_t *>(to) = info->dlpi_addr;
        return 1;  // The first is the program.
      },
      &bias);
  printf("%lu\n", static_cast<unsigned long>(reinterpret_cast<uintptr_t>(function) - bias));
  fflush(stdout);
}

int Child(const std::string &what) {
  if (what == "double_free") {
    Tell(reinterpret_cast<void *>(FreeTwice));
    FreeTwice(New(40));
  } else if (what == "thread") {
    Tell(reinterpret_cast<void *>(FreeTwice));
    std::thread([] { FreeTwice(New(40)); }).join();
  } else if (what == "underflow") {
    Tell(reinterpret_cast<void *>(Underflow));
    Underflow(New(kLarge));
  } else if (what == "overflow") {
    Tell(reinterpret_cast<void *>(FreeOverflown));
    FreeOverflown(New(40));
  } else if (what == "sampled") {
    Tell(reinterpret_cast<void *>(Allocate));
    FreeOverflown(Allocate());
  } else if (what == "own") {
    signal(SIGABRT, [](int) { _exit(write(STDERR_FILENO, "own\n", 4) == 4 ? 7 : 8); });
    FreeTwice(New(40));
  } else if (what == "abort") {
    hak_free(New(40));
    abort();
  } else if (what == "full_pipe") {
    int ends[2];
    if (pipe2(ends, O_NONBLOCK) != 0) return 3;
    char text[4096] = {};
    while (write(ends[1], text, sizeof text) > 0) {
    }
    // Room for the last line and some of the rest.
    if (read(ends[0], text, sizeof text) < 0 || fcntl(ends[1], F_SETFL, 0) != 0) return 4;
    dup2(ends[1], STDERR_FILENO);
    FreeTwice(New(40));
  }
  return 0;
}

// ---- What the parent looks for ------------------------------------------------------------------

// The offsets in the test's own program of the frames that follow the line `head`.
std::vector<unsigned long> Offsets(const std::vector<std::string> &lines, const std::string &head) {
  std::vector<unsigned long> offsets;
  bool within = false;
  for (const std::string &line : lines) {
    if (line.rfind("hakmem:   0x", 0) != 0) within = line.find(head) != std::string::npos;
    const size_t plus = line.rfind('+');
    if (!within || plus == std::string::npos || line.find("/proc/self/exe+") == std::string::npos) continue;
    offsets.push_back(strtoul(line.c_str() + plus + 1, nullptr, 16));
  }
  return offsets;
}

// Whether an address of the function, which the child has told, is among them. It is shorter than this.
constexpr unsigned long kFunction = 256;

bool Has(const std::vector<unsigned long> &offsets, const Outcome &outcome) {
  const unsigned long start = strtoul(outcome.out.c_str(), nullptr, 10);
  bool has = false;
  for (const unsigned long offset : offsets) has = has || (offset > start && offset - start < kFunction);
  return has && start != 0;
}

class FullReport : public testing::Test {
 protected:
  static Outcome Run(const std::string &what, std::vector<std::string> environment = {kFull}) {
    environment.emplace_back("HAKMEM_GUARD_SAMPLE=0");
    return RunSelf({"--child=" + what}, environment);
  }
};

TEST_F(FullReport, TheStackOfTheCallFollowsTheLine) {
  for (const char *what : {"double_free", "thread"}) {
    const Outcome outcome = Run(what);
    EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
    const std::vector<std::string> lines = Lines(outcome.err);
    ASSERT_GT(lines.size(), 3u) << outcome;
    EXPECT_THAT(lines[0], testing::StartsWith("hakmem: double free: 0x")) << outcome;
    EXPECT_EQ(lines[1], "hakmem: the call:") << outcome;
    EXPECT_TRUE(Has(Offsets(lines, "the call:"), outcome)) << outcome;
    for (size_t i = 2; i < lines.size(); ++i) {
      EXPECT_THAT(lines[i], testing::MatchesRegex("hakmem:   0x[0-9a-f]+( [^ ]+\\+0x[0-9a-f]+)?")) << outcome;
    }
    EXPECT_LE(lines.size(), 70u);
  }
}

TEST_F(FullReport, OneLineWithoutTheSetting) {
  for (const std::vector<std::string> &environment : {std::vector<std::string>{}, {"HAKMEM_REPORT=line"}}) {
    const Outcome outcome = Run("double_free", environment);
    EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
    EXPECT_EQ(Lines(outcome.err).size(), 1u) << outcome;
  }
}

TEST_F(FullReport, AFaultAtAGuardHasAStackToo) {
  if (!IsGuarded()) GTEST_SKIP() << "no block has guards";
  const Outcome outcome = Run("underflow");
  EXPECT_EQ(outcome.signal, SIGSEGV) << outcome;
  const std::vector<std::string> lines = Lines(outcome.err);
  ASSERT_GT(lines.size(), 3u) << outcome;
  EXPECT_THAT(lines[0], testing::StartsWith("hakmem: underflow: 0x")) << outcome;
  EXPECT_EQ(lines[1], "hakmem: the call:") << outcome;
  EXPECT_TRUE(Has(Offsets(lines, "the call:"), outcome)) << outcome;
}

TEST_F(FullReport, AnOverflowShowsTheBytes) {
  if (!IsGuarded()) GTEST_SKIP() << "no canary";
  const Outcome outcome = Run("overflow");
  EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
  const std::vector<std::string> lines = Lines(outcome.err);
  EXPECT_THAT(lines[0], testing::StartsWith("hakmem: overflow: 0x")) << outcome;
  const size_t at = outcome.err.find("hakmem: the bytes at its end:\n");
  ASSERT_NE(at, std::string::npos) << outcome;
  EXPECT_THAT(Lines(outcome.err.substr(at))[1], testing::MatchesRegex("hakmem:   0x[0-9a-f]+:( [0-9a-f][0-9a-f])+"));
  EXPECT_NE(outcome.err.find(" 5a", at), std::string::npos) << outcome;
}

TEST_F(FullReport, TheStackThatAllocatedASampledBlock) {
  if (!IsGuarded()) GTEST_SKIP() << "no misuse of a live block is noticed";
  const Outcome outcome = Run("sampled", {kFull, "HAKMEM_PROF=1", "HAKMEM_PROF_SAMPLE_KB=0"});
  EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
  EXPECT_NE(outcome.err.find("hakmem: the block, 40 bytes, was allocated by thread "), std::string::npos) << outcome;
  EXPECT_TRUE(Has(Offsets(Lines(outcome.err), "was allocated by"), outcome)) << outcome;
  EXPECT_FALSE(Has(Offsets(Lines(outcome.err), "the call:"), outcome)) << outcome;
}

TEST_F(FullReport, TheProgramsOwnHandlerAndAbortStay) {
  const Outcome own = Run("own");
  EXPECT_EQ(own.exit_code, 7) << own;
  EXPECT_EQ(Lines(own.err).size(), 2u) << own;
  const Outcome ended = Run("abort");
  EXPECT_EQ(ended.signal, SIGABRT) << ended;
  EXPECT_EQ(ended.err, "");
}

TEST_F(FullReport, EndsWhereNobodyReads) {
  const Outcome outcome = Run("full_pipe");
  EXPECT_FALSE(outcome.timed_out);
  EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 2 && strncmp(argv[1], "--child=", 8) == 0) return hak_test::Child(argv[1] + 8);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
