// SPDX-License-Identifier: Apache-2.0
//
// HAKMEM_STATS_PAGE: the page of a process, of its children, and of threads that write it at once.
#include "allocator/observe/stats_page.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

std::string PathOf(pid_t process) { return "/dev/shm/hakmem-stats-" + std::to_string(process); }

bool Exists(const std::string &path) {
  struct stat about;
  return lstat(path.c_str(), &about) == 0;
}

// What is in a page now, read as hakmem-top reads it.
struct Text {
  uint64_t process = 0;
  uint64_t sequence = 0;
  std::string text;
};

bool ReadAt(int file, void *to, size_t size, uint64_t at) {
  return pread(file, to, size, static_cast<off_t>(at)) == static_cast<ssize_t>(size);
}

// False: there is no such file, it is no page, or it is not the user's only.
bool ReadPage(const std::string &path, Text *out) {
  const int file = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (file < 0) return false;
  struct stat about;
  bool good = fstat(file, &about) == 0 && S_ISREG(about.st_mode) && (about.st_mode & 07777) == 0600 &&
              about.st_uid == geteuid() && about.st_size == HAK_STATS_PAGE_BYTES;
  struct {
    char magic[8];
    uint32_t version;
    uint32_t slot_bytes;
    uint64_t process;
    uint64_t made_ns;
    uint64_t sequence;
  } head;
  for (int attempt = 0; good && attempt < 1000; attempt++) {
    good = ReadAt(file, &head, sizeof head, 0) && memcmp(head.magic, "hakmemSP", 8) == 0 &&
           head.version == HAK_STATS_PAGE_VERSION && head.slot_bytes == HAK_STATS_PAGE_SLOT;
    const uint64_t at = HAK_STATS_PAGE_HEAD + (head.sequence & 1) * uint64_t{HAK_STATS_PAGE_SLOT};
    uint64_t slot[2];
    good = good && ReadAt(file, slot, sizeof slot, at);
    std::string text(slot[1] < HAK_STATS_TEXT_BYTES ? slot[1] : 0, '\0');
    good = good && ReadAt(file, text.data(), text.size(), at + sizeof slot);
    uint64_t again = 0;
    good = good && ReadAt(file, &again, sizeof again, offsetof(hak_stats_page, sequence));
    if (!good || again != head.sequence) continue;
    out->process = head.process;
    out->sequence = head.sequence;
    out->text = text;
    break;
  }
  close(file);
  return good;
}

uint64_t Member(const std::string &text, const std::string &name) {
  const size_t at = text.find("\"" + name + "\":");
  return at == std::string::npos ? UINT64_MAX : strtoull(text.c_str() + at + name.size() + 3, nullptr, 10);
}

// Makes slow calls until the page has a later text than `sequence`. False: it has none.
bool MoreThan(uint64_t sequence, Text *out) {
  return WaitUntil([&] {
    std::vector<void *> blocks;
    for (int i = 0; i < 2000; i++) blocks.push_back(hak_malloc(5000));
    for (void *block : blocks) hak_free(block);
    return ReadPage(PathOf(getpid()), out) && out->sequence > sequence;
  });
}

void Print(const char *name, uint64_t value) { printf("%s=%llu\n", name, static_cast<unsigned long long>(value)); }

// ---- In the child -------------------------------------------------------------------------------

int One() {
  Text first;
  Print("at_once", ReadPage(PathOf(getpid()), &first));
  Print("process", static_cast<uint64_t>(getpid()));
  Print("is_mine", first.process == static_cast<uint64_t>(getpid()));
  std::vector<void *> held;
  for (int i = 0; i < 1000; i++) held.push_back(hak_malloc(40000));
  Text later;
  errno = 77;
  Print("again", MoreThan(first.sequence, &later));
  Print("live", Member(later.text, "large_bytes"));
  Print("whole", later.text.substr(0, 12) == "{\"version\":1" && later.text.substr(later.text.size() - 2) == "}\n");
  for (void *block : held) hak_free(block);
  return 0;
}

int None() {
  for (int i = 0; i < 1000; i++) hak_free(hak_malloc(40000));
  Print("exists", Exists(PathOf(getpid())));
  return 0;
}

// In a child of a fork: what somebody put in the place of its page is not followed.
int InFork(const char *target) {
  Print("inherited", Exists(PathOf(getpid())));
  if (symlink(target, PathOf(getpid()).c_str()) != 0) return 1;
  close(STDIN_FILENO);  // The page's file gets the number 0.
  Text text;
  Print("own", MoreThan(0, &text) && text.process == static_cast<uint64_t>(getpid()));
  fflush(stdout);
  return 0;
}

int Fork() {
  char target[] = "/dev/shm/hakmem-test-XXXXXX";
  const int file = mkstemp(target);
  if (file < 0 || write(file, "untouched", 9) != 9) return 1;
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) hak_free(hak_malloc(40000));
  });
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) exit(InFork(target));
  int status = 0;
  waitpid(pid, &status, 0);
  stop = true;
  other.join();
  char bytes[20] = {};
  Print("target", pread(file, bytes, sizeof bytes, 0) == 9 && strcmp(bytes, "untouched") == 0);
  close(file);
  unlink(target);
  Print("child_left", Exists(PathOf(pid)));
  Text text;
  Print("parent", ReadPage(PathOf(getpid()), &text) && text.process == static_cast<uint64_t>(getpid()));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

// Threads write as often as they can, with a clock of their own, while another reads.
int Threads() {
  std::atomic<uint64_t> clock{hak_os_now_ms()};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; t++) {
    threads.emplace_back([&] {
      while (!stop) hak_stats_page_update(clock += 100000);
    });
  }
  uint64_t wrong = 0;
  uint64_t last = 0;
  uint64_t changes = 0;
  for (int i = 0; i < 300 || changes < 20; i++) {
    Text text;
    if (!ReadPage(PathOf(getpid()), &text) || text.text.size() < 1000) {
      wrong++;
      continue;
    }
    wrong += text.text.substr(0, 12) != "{\"version\":1" ||
             text.text.find('}', text.text.size() - 2) == std::string::npos ||
             text.text.find('\0') != std::string::npos || text.sequence < last;
    changes += text.sequence != last;
    last = text.sequence;
  }
  stop = true;
  for (std::thread &thread : threads) thread.join();
  Print("wrong", wrong);
  return 0;
}

// The system refuses one of the calls after another. The child of a fork makes a page of its own.
int Refused() {
  for (uint64_t nth = 1; nth <= 3; nth++) {
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
      hak_fault_set(HAK_FAULT_ASK, nth, 1);
      hak_stats_page_update(hak_os_now_ms() + 1000000);
      const bool failed = hak_fault_hits() != 0;
      hak_fault_clear();
      _exit(failed && !Exists(PathOf(getpid())) ? 0 : 1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (status != 0) return static_cast<int>(nth);
  }
  return 0;
}

// ---- In the test --------------------------------------------------------------------------------

// Tests that run beside this one may have processes of their own numbers, which are not seen here.
constexpr time_t kLongestTestSeconds = 1800;

// Processes that were killed leave their pages, and a child of this test may get the number of one of them.
void RemovePagesOfTheDead() {
  DIR *const folder = opendir("/dev/shm");
  if (folder == nullptr) return;
  while (const dirent *const entry = readdir(folder)) {
    int process = 0;
    if (sscanf(entry->d_name, "hakmem-stats-%d", &process) != 1 || process <= 0) continue;
    struct stat page = {};
    if (kill(process, 0) == 0 || errno != ESRCH || stat(PathOf(process).c_str(), &page) != 0) continue;
    if (time(nullptr) - page.st_ctime > kLongestTestSeconds) unlink(PathOf(process).c_str());
  }
  closedir(folder);
}

Outcome RunChild(const char *which, const char *setting = "HAKMEM_STATS_PAGE=1") {
  Outcome outcome = RunSelf({which}, {setting}, 120);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  return outcome;
}

TEST(StatsPage, IsThereFromTheStartAndGoneAtTheEnd) {
  const Outcome outcome = RunChild("--child=one");
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(NumberOf(outcome.out, "at_once"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "is_mine"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "again"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "whole"), 1U) << outcome;
  EXPECT_GE(NumberOf(outcome.out, "live"), 40000U * 1000) << outcome;
  EXPECT_FALSE(Exists(PathOf(static_cast<pid_t>(NumberOf(outcome.out, "process"))))) << outcome;
}

TEST(StatsPage, IsNoneUnlessAsked) {
  EXPECT_EQ(NumberOf(RunChild("--child=none", "HAKMEM_STATS_PAGE=0").out, "exists"), 0U);
}

TEST(StatsPage, AChildHasItsOwn) {
  const Outcome outcome = RunChild("--child=fork");
  EXPECT_EQ(NumberOf(outcome.out, "inherited"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "own"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "target"), 1U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "child_left"), 0U) << outcome;
  EXPECT_EQ(NumberOf(outcome.out, "parent"), 1U) << outcome;
}

TEST(StatsPage, IsWholeWheneverItIsRead) { EXPECT_EQ(NumberOf(RunChild("--child=threads").out, "wrong"), 0U); }

TEST(StatsPage, WhereThereCanBeNone) {
  const Outcome outcome = RunChild("--child=refused");
  const std::string line = "hakmem: HAKMEM_STATS_PAGE=1, but there can be no page in /dev/shm: error ";
  EXPECT_EQ(outcome.err, line + "12\n" + line + "28\n" + line + "12\n");
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  const std::string child = argc == 2 ? argv[1] : "";
  if (child == "--child=one") return hak_test::One();
  if (child == "--child=none") return hak_test::None();
  if (child == "--child=fork") return hak_test::Fork();
  if (child == "--child=threads") return hak_test::Threads();
  if (child == "--child=refused") return hak_test::Refused();
  testing::InitGoogleTest(&argc, argv);
  hak_test::RemovePagesOfTheDead();
  return RUN_ALL_TESTS();
}
