// SPDX-License-Identifier: Apache-2.0
//
// OBSERVE and HARDENED: an access to a guard page or to a freed block is one line that names the block, and the process
// ends by SIGSEGV as it would without the line. A fault that is not beside a block of ours ends it without a line.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr size_t kSize = 100000;
const size_t kPage = hak_os_page_size();

char *New(size_t size) { return static_cast<char *>(hak_malloc(size)); }
void Write(char *at) { *const_cast<volatile char *>(at) = 1; }
char Read(const char *at) { return *const_cast<const volatile char *>(at); }

// The first inaccessible byte behind a block that begins with its pages.
char *GuardOf(char *block, size_t size) { return block + (size + kPage - 1) / kPage * kPage; }

std::string Hex(const void *pointer) {
  char text[32];
  snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(pointer)));
  return text;
}

// What the emulator, in which aarch64 tests run, adds.
constexpr char kEmulator[] = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped\n";

std::string Words(const Outcome &outcome) {
  std::string text = outcome.err;
  const size_t at = text.find(kEmulator);
  if (at != std::string::npos) text.erase(at, sizeof kEmulator - 1);
  return text;
}

// Expects one line about the address, and the end by SIGSEGV.
void ExpectLine(const Outcome &outcome, const std::string &what, const char *address, const std::string &where) {
  EXPECT_EQ(outcome.signal, SIGSEGV) << outcome;
  EXPECT_THAT(Words(outcome), testing::MatchesRegex("hakmem: " + what + ": " + Hex(address) + " \\(" + where +
                                                    "\\) in [^\n]+\\[[0-9]+\\](, thread [0-9]+)?\n"))
      << outcome;
}

void ExpectNoLine(const Outcome &outcome) {
  EXPECT_EQ(outcome.signal, SIGSEGV) << outcome;
  EXPECT_EQ(Words(outcome), "") << outcome;
}

Outcome WriteTo(char *at) {
  return RunForked([at] {
    Write(at);
    return 0;
  });
}

Outcome ReadFrom(const char *at) {
  return RunForked([at] { return Read(at) == 1 ? 1 : 0; });
}

std::string Block(size_t size, const char *block) { return std::to_string(size) + "-byte block at " + Hex(block); }

// ---- Large blocks -------------------------------------------------------------------------------

TEST(GuardReport, OverflowsAndUnderflows) {
  for (const size_t size : {kSize, 16 * kPage, 16 * kPage + 1}) {
    char *const block = New(size);
    char *const guard = GuardOf(block, size);
    const size_t behind = static_cast<size_t>(guard - block) - size + 1;
    const std::string bytes = behind == 1 ? "1 byte" : std::to_string(behind) + " bytes";
    ExpectLine(WriteTo(guard), "overflow", guard, bytes + " behind a " + Block(size, block));
    ExpectLine(ReadFrom(guard), "overflow", guard, bytes + " behind a " + Block(size, block));
    ExpectLine(WriteTo(guard + 2), "overflow", guard + 2,
               std::to_string(behind + 2) + " bytes behind a " + Block(size, block));
    ExpectLine(ReadFrom(block - 1), "underflow", block - 1, "1 byte before a " + Block(size, block));
    ExpectLine(WriteTo(block - 100), "underflow", block - 100, "100 bytes before a " + Block(size, block));
    hak_free(block);
  }
}

TEST(GuardReport, TheSizeIsThatOfTheLastRealloc) {
  char *const block = New(16 * kPage);
  ASSERT_EQ(hak_realloc_in_place(block, 16 * kPage - 7), block);
  char *const guard = block + 16 * kPage;
  ExpectLine(WriteTo(guard), "overflow", guard, "8 bytes behind a " + Block(16 * kPage - 7, block));
  hak_free(block);
}

TEST(GuardReport, UseAfterFree) {
  char *const block = New(kSize);
  char *const guard = GuardOf(block, kSize);
  hak_free(block);
  const std::string freed = "a freed " + Block(kSize, block);
  ExpectLine(WriteTo(block), "use after free", block, "0 bytes into " + freed);
  ExpectLine(ReadFrom(block + 1), "use after free", block + 1, "1 byte into " + freed);
  ExpectLine(ReadFrom(block + kSize - 1), "use after free", block + kSize - 1,
             std::to_string(kSize - 1) + " bytes into " + freed);
  ExpectLine(WriteTo(block - 3), "use after free", block - 3, "3 bytes before " + freed);
  ExpectLine(WriteTo(guard), "use after free", guard,
             std::to_string(static_cast<size_t>(guard - block) - kSize + 1) + " bytes behind " + freed);
  hak_trim(0);
  ExpectNoLine(ReadFrom(block));  // Its addresses are nobody's.
}

// The quarantine has 128 blocks; then their ranges wait to be used again.
TEST(GuardReport, UseAfterTheQuarantine) {
  const size_t size = 12 * kPage;
  std::vector<char *> blocks;
  for (int i = 0; i < 200; ++i) blocks.push_back(New(size));
  for (char *block : blocks) hak_free(block);
  char *const first = blocks.front();
  ExpectLine(ReadFrom(first + 9), "use after free", first + 9, "9 bytes into a freed " + Block(size, first));
  hak_trim(0);
}

TEST(GuardReport, TheBlockIsTheNearOne) {
  std::vector<char *> blocks;
  for (size_t i = 0; i < 300; ++i) blocks.push_back(New(kSize + i));
  for (const size_t i : {size_t{0}, size_t{100}, size_t{299}}) {
    char *const guard = GuardOf(blocks[i], kSize + i);
    ExpectLine(WriteTo(guard), "overflow", guard,
               std::to_string(static_cast<size_t>(guard - blocks[i]) - kSize - i + 1) + " bytes behind a " +
                   Block(kSize + i, blocks[i]));
  }
  for (char *block : blocks) hak_free(block);
}

// ---- Small blocks in HARDENED -------------------------------------------------------------------

class HardenedGuardReport : public testing::Test {
 protected:
  void SetUp() override {
    if (strstr(hak_version(), " hardened ") == nullptr) GTEST_SKIP() << "small blocks have no guards";
  }
};

TEST_F(HardenedGuardReport, SampledBlocksEndAtAGuard) {
  ASSERT_EQ(hak_config_set("HAKMEM_GUARD_SAMPLE", "2"), 0);
  char *sampled = nullptr;
  std::vector<char *> blocks;
  for (int i = 0; i < 4000000 && sampled == nullptr; ++i) {
    char *const block = New(40);
    blocks.push_back(block);
    const uintptr_t end = reinterpret_cast<uintptr_t>(block + 48);
    const bool ends_slab = end % 0x10000 == 0xf000;
    if (end % kPage == 0 && !ends_slab && !hak_unit::IsReadable(block + 48)) sampled = block;
    if (blocks.size() >= 100 && sampled == nullptr) {
      for (char *one : blocks) hak_free(one);
      blocks.clear();
    }
  }
  ASSERT_NE(sampled, nullptr);
  ExpectLine(ReadFrom(sampled + 48), "overflow", sampled + 48, "9 bytes behind a " + Block(40, sampled));
  ExpectLine(WriteTo(sampled + 50), "overflow", sampled + 50, "11 bytes behind a " + Block(40, sampled));
  hak_free(sampled);
  ExpectLine(WriteTo(sampled + 8), "use after free", sampled + 8, "8 bytes into a freed " + Block(40, sampled));
  ASSERT_EQ(hak_config_set("HAKMEM_GUARD_SAMPLE", "2000"), 0);
}

TEST_F(HardenedGuardReport, BlocksOfSizeZero) {
  char *const block = New(0);
  ExpectLine(WriteTo(block), "overflow", block, "1 byte behind a " + Block(0, block));
  ExpectLine(ReadFrom(block + 15), "overflow", block + 15, "16 bytes behind a " + Block(0, block));
  hak_free(block);
  ExpectLine(WriteTo(block + 2), "use after free", block + 2, "3 bytes behind a freed " + Block(0, block));
}

TEST_F(HardenedGuardReport, GuardsOfSlabs) {
  if (kPage > 4096) return;  // There are none.
  // No block has guards of its own. The next one that was to get some is drawn already.
  ASSERT_EQ(hak_config_set("HAKMEM_GUARD_SAMPLE", "0"), 0);
  for (int i = 0; i < 10000; ++i) hak_free(New(500));
  char *const block = New(500);
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  char *const last = block + (0xffff - address % 0x10000);
  ExpectLine(WriteTo(last), "overflow", last, "a guard page behind [0-9]+-byte blocks");
  char *const page = last - 4095;
  ExpectLine(ReadFrom(page), "overflow", page, "a guard page behind [0-9]+-byte blocks");
  // The first slab of the superslab, if it has blocks, is behind a guard.
  std::vector<char *> blocks;
  for (int i = 0; i < 40000; ++i) blocks.push_back(New(500));
  bool found = false;
  for (char *one : blocks) {
    if (reinterpret_cast<uintptr_t>(one) % 0x200000 >= 0x10000) continue;
    char *const head = one - reinterpret_cast<uintptr_t>(one) % 0x200000;
    if (hak_unit::IsReadable(head)) continue;
    ExpectLine(ReadFrom(head + 5), "underflow", head + 5, "a guard page in front of [0-9]+-byte blocks");
    found = true;
    break;
  }
  EXPECT_TRUE(found);
  ASSERT_EQ(hak_config_set("HAKMEM_GUARD_SAMPLE", "2000"), 0);
  for (char *one : blocks) hak_free(one);
  hak_free(block);
}

// ---- What is not ours ---------------------------------------------------------------------------

TEST(GuardReport, OtherFaultsEndAsBefore) {
  ExpectNoLine(WriteTo(reinterpret_cast<char *>(8)));
  ExpectNoLine(ReadFrom(reinterpret_cast<char *>(uintptr_t{1} << 62)));
  void *const closed = mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ExpectNoLine(ReadFrom(static_cast<char *>(closed)));
  munmap(closed, kPage);
  // A block whose pages the program itself has closed.
  char *const block = New(kSize);
  char *const inside = reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(block) + kPage) / kPage * kPage);
  ExpectNoLine(RunForked([inside] {
    mprotect(inside, kPage, PROT_NONE);
    Write(inside);
    return 0;
  }));
  hak_free(block);
}

TEST(GuardReport, ASignalThatWasSentEndsAsBefore) {
  ExpectNoLine(RunForked([] { return raise(SIGSEGV); }));
  ExpectNoLine(RunForked([] {
    kill(getpid(), SIGSEGV);
    return 0;
  }));
  ExpectNoLine(RunForked([] {
    const pthread_t main = pthread_self();
    std::thread([main] { pthread_kill(main, SIGSEGV); }).join();
    return 0;
  }));
}

// NOLINTNEXTLINE(misc-no-recursion): it must not end.
int Deeper(volatile char *above) {
  volatile char room[1000];
  room[0] = *above;
  return room[0] == 1 ? Deeper(room) + room[0] : 0;
}

TEST(GuardReport, AStackOverflowEndsAsBefore) {
  for (const bool alternate : {false, true}) {
    ExpectNoLine(RunForked([alternate] {
      static char room[65536];
      stack_t stack = {};
      stack.ss_sp = room;
      stack.ss_size = sizeof room;
      if (alternate) sigaltstack(&stack, nullptr);
      char first = 1;
      return Deeper(&first);
    }));
  }
}

// ---- Handlers of the program --------------------------------------------------------------------

void Own(int) {
  if (write(STDERR_FILENO, "own\n", 4) == 4) _exit(7);
}

TEST(GuardReport, AHandlerThatTheProgramSetsReplacesIt) {
  char *const block = New(kSize);
  const Outcome outcome = RunForked([block] {
    signal(SIGSEGV, Own);
    Write(block - 1);
    return 0;
  });
  EXPECT_EQ(outcome.exit_code, 7) << outcome;
  EXPECT_EQ(outcome.err, "own\n");
  ExpectNoLine(RunForked([block] {
    signal(SIGSEGV, SIG_DFL);
    Write(block - 1);
    return 0;
  }));
  hak_free(block);
}

TEST(GuardReport, AnActionFromBeforeTheStartStays) {
  if (!CanRunSelf()) GTEST_SKIP() << "this emulator cannot start itself";
  const Outcome own = RunSelf({"--child=before"}, {});
  EXPECT_EQ(own.exit_code, 7) << own;
  EXPECT_EQ(own.err, "own\n");
  struct sigaction ours = {};
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  ASSERT_EQ(sigaction(SIGSEGV, &ignore, &ours), 0);
  const Outcome inherited = RunSelf({"--child=underflow"}, {});
  ASSERT_EQ(sigaction(SIGSEGV, &ours, nullptr), 0);
  ExpectNoLine(inherited);
}

TEST(GuardReport, TheSettingSwitchesItOff) {
  if (!CanRunSelf()) GTEST_SKIP() << "this emulator cannot start itself";
  ExpectNoLine(RunSelf({"--child=underflow"}, {"HAKMEM_GUARD_REPORT=0"}));
  EXPECT_EQ(RunSelf({"--child=action"}, {"HAKMEM_GUARD_REPORT=0"}).exit_code, 0);
  EXPECT_EQ(RunSelf({"--child=action"}, {"HAKMEM_GUARD_REPORT=1"}).exit_code, 1);
  EXPECT_THAT(Words(RunSelf({"--child=underflow"}, {"HAKMEM_GUARD_REPORT=1"})),
              testing::StartsWith("hakmem: underflow"));
}

// ---- Where the fault happens --------------------------------------------------------------------

char *handler_writes_to;

TEST(GuardReport, InAHandlerOfASignalAndOnAnAlternateStack) {
  char *const block = New(kSize);
  handler_writes_to = block - 1;
  for (const bool alternate : {false, true}) {
    ExpectLine(RunForked([alternate] {
                 static char room[32768];
                 stack_t stack = {};
                 stack.ss_sp = room;
                 stack.ss_size = sizeof room;
                 struct sigaction action = {};
                 action.sa_handler = [](int) { Write(handler_writes_to); };
                 action.sa_flags = alternate ? SA_ONSTACK : 0;
                 if (alternate) sigaltstack(&stack, nullptr);
                 sigaction(SIGUSR1, &action, nullptr);
                 return raise(SIGUSR1);
               }),
               "underflow", block - 1, "1 byte before a " + Block(kSize, block));
  }
  hak_free(block);
}

// The signal's frame does not fit the thread's stack.
// NOLINTNEXTLINE(misc-no-recursion): until the stack is nearly full.
int WriteNearTheEnd(uintptr_t end) {
  volatile char room[64] = {};
  if (reinterpret_cast<uintptr_t>(room) - end < 600) {
    Write(handler_writes_to);
    return 0;
  }
  return WriteNearTheEnd(end) + room[0];
}

TEST(GuardReport, WhereOnlyTheAlternateStackHasRoom) {
  char *const block = New(kSize);
  handler_writes_to = block - 1;
  const Outcome outcome = RunForked([] {
    constexpr size_t kBytes = size_t{256} * 1024;
    static char *stack;
    stack = static_cast<char *>(mmap(nullptr, kPage + kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) + kPage;
    mprotect(stack, kBytes, PROT_READ | PROT_WRITE);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, kBytes);
    const auto run = [](void *) -> void * {
      static char room[32768];
      stack_t alternate = {};
      alternate.ss_sp = room;
      alternate.ss_size = sizeof room;
      sigaltstack(&alternate, nullptr);
      WriteNearTheEnd(reinterpret_cast<uintptr_t>(stack));
      return nullptr;
    };
    pthread_t thread;
    if (pthread_create(&thread, &attributes, run, nullptr) != 0) return 3;
    return pthread_join(thread, nullptr);
  });
  ExpectLine(outcome, "underflow", block - 1, "1 byte before a " + Block(kSize, block));
  hak_free(block);
}

TEST(GuardReport, InAnotherThreadItNamesTheThread) {
  char *const block = New(kSize);
  const Outcome outcome = RunForked([block] {
    std::thread([block] { Write(block - 1); }).join();
    return 0;
  });
  ExpectLine(outcome, "underflow", block - 1, "1 byte before a " + Block(kSize, block));
  EXPECT_NE(outcome.err.find("], thread "), std::string::npos) << outcome;
  hak_free(block);
}

// Makes stderr a full pipe, so that whoever writes waits. A child empties it some time later, and passes on what was
// written after that.
bool DelayStderr() {
  int ends[2];
  if (pipe(ends) != 0) return false;
  char part[4096] = {};
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  while (write(ends[1], part, sizeof part) > 0) {
  }
  fcntl(ends[1], F_SETFL, 0);
  const pid_t reader = fork();
  if (reader == 0) {
    close(ends[1]);
    usleep(100000);
    std::string text;
    static char all[1 << 20];  // At once: all who wait may write then.
    for (ssize_t n; (n = read(ends[0], all, sizeof all)) > 0;) text.append(all, static_cast<size_t>(n));
    text.erase(0, text.find_first_not_of('\0'));
    _exit(write(STDERR_FILENO, text.data(), text.size()) < 0 ? 1 : 0);
  }
  close(ends[0]);
  return reader > 0 && dup2(ends[1], STDERR_FILENO) == STDERR_FILENO && close(ends[1]) == 0;
}

TEST(GuardReport, ManyThreadsAtOnceWriteOneLine) {
  char *const block = New(kSize);
  for (int round = 0; round < 10; ++round) {
    const bool delayed = round % 2 == 0;
    const auto run = [block, delayed] {
      return RunForked([block, delayed] {
        if (delayed && !DelayStderr()) return 3;
        std::vector<std::thread> threads;
        for (int t = 0; t < 8; ++t) threads.emplace_back([block] { Write(block - 1); });
        for (std::thread &thread : threads) thread.join();
        return 0;
      });
    };
    Outcome outcome = run();
    // The line waits a second for who reads it. A machine that stops the reader for so long loses it.
    for (int more = 4; delayed && outcome.err.empty() && more > 0; --more) outcome = run();
    ExpectLine(outcome, "underflow", block - 1, "1 byte before a " + Block(kSize, block));
  }
  hak_free(block);
}

TEST(GuardReport, InChildrenOfFork) {
  char *const block = New(kSize);
  ExpectLine(RunForked([block] {
               const pid_t child = fork();
               if (child == 0) Write(block - 1);
               int status = 0;
               waitpid(child, &status, 0);
               raise(WTERMSIG(status));
               return 0;
             }),
             "underflow", block - 1, "1 byte before a " + Block(kSize, block));
  hak_free(block);
}

// A stderr that nobody reads does not keep the process, and nor does one whose reader is gone.
TEST(GuardReport, WithoutAReader) {
  char *const block = New(kSize);
  for (const bool gone : {false, true}) {
    ExpectNoLine(RunForked([block, gone] {
      int ends[2];
      if (pipe(ends) != 0 || dup2(ends[1], STDERR_FILENO) < 0) return 3;
      if (gone) {
        close(ends[0]);
      } else {
        std::thread([] {
          const std::string text(1 << 20, 'x');
          if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
        }).detach();
        usleep(200000);
      }
      Write(block - 1);
      return 0;
    }));
  }
  hak_free(block);
}

// While other threads take, free and unmap such blocks, the records change all the time.
TEST(GuardReport, WhileOtherThreadsUseTheRecords) {
  char *const block = New(kSize);
  const Outcome outcome = RunForked([block] {
    for (int t = 0; t < 3; ++t) {
      std::thread([] {
        for (;;) {
          char *blocks[20];
          for (char *&one : blocks) one = New(50000);
          for (char *one : blocks) hak_free(one);
          hak_trim(0);
        }
      }).detach();
    }
    usleep(20000);
    Write(block - 1);
    return 0;
  });
  ExpectLine(outcome, "underflow", block - 1, "1 byte before a " + Block(kSize, block));
  hak_free(block);
}

// ---- In fork, where the thread holds all locks --------------------------------------------------

// Called by fork after hakmem's handler, because it is registered before it.
void (*in_fork)();

TEST(GuardReport, WaitsForAThreadThatHasTheLock) {
  char *const block = New(kSize);
  const Outcome outcome = RunForked([block] {
    static std::atomic<bool> holds{false};
    in_fork = [] {
      holds = true;
      usleep(50000);
    };
    std::thread([] {
      if (fork() == 0) _exit(0);
      pause();
    }).detach();
    while (!holds) std::this_thread::yield();
    Write(block - 1);
    return 0;
  });
  ExpectLine(outcome, "underflow", block - 1, "1 byte before a " + Block(kSize, block));
  hak_free(block);
}

TEST(GuardReport, DoesNotWaitForALockForEver) {
  char *const block = New(kSize);
  // By the thread itself, and by another one.
  handler_writes_to = block - 1;
  ExpectNoLine(RunForked([] {
    in_fork = [] { Write(handler_writes_to); };
    std::thread(pause).detach();
    return fork() < 0 ? 1 : 0;
  }));
  ExpectNoLine(RunForked([block] {
    static std::atomic<bool> holds{false};
    in_fork = [] {
      holds = true;
      pause();
    };
    std::thread([] { _exit(fork() < 0 ? 1 : 0); }).detach();
    while (!holds) std::this_thread::yield();
    Write(block - 1);
    return 0;
  }));
  hak_free(block);
}

// ---- Children that run this program -------------------------------------------------------------

int Child(const std::string &what) {
  if (what == "action") {
    struct sigaction now = {};
    sigaction(SIGSEGV, nullptr, &now);
    return now.sa_handler == SIG_DFL ? 0 : 1;
  }
  Write(New(kSize) - 1);
  return 0;
}

// Runs before the constructors of all libraries.
void First(int argc, char **argv, char **) {
  pthread_atfork(
      [] {
        if (in_fork != nullptr) in_fork();
      },
      nullptr, nullptr);
  if (argc == 2 && strcmp(argv[1], "--child=before") == 0) signal(SIGSEGV, Own);
}
__attribute__((section(".preinit_array"), used)) void (*const first)(int, char **, char **) = First;

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 2 && strncmp(argv[1], "--child=", 8) == 0) return hak_test::Child(argv[1] + 8);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
