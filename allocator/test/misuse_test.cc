// SPDX-License-Identifier: Apache-2.0
//
// Misuse ends the process by SIGABRT with one exact line on stderr, at the moment that the build profile promises:
//   OBSERVE   at once
//   STANDARD  at once, or for a double free that the thread's latest frees do not show: at the flush, at the end of the
//             thread, at the end of the process
//   FAST      at the flush
// Each case is a process of its own. It prints the pointer that the message has to name, and "survived" when the misuse
// was not noticed.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <functional>
#include <ostream>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

enum class Profile { kFast, kStandard, kObserve };

// Called in a child, so that the parent never uses the allocator, and every child starts with an unused one.
Profile TheProfile() {
  static const Profile profile = [] {
    const std::string version = RunForked([] {
                                  dprintf(STDOUT_FILENO, "%s", hak_version());
                                  return 0;
                                }).out;
    if (version.find(" fast ") != std::string::npos) return Profile::kFast;
    if (version.find(" observe ") != std::string::npos) return Profile::kObserve;
    if (version.find(" hardened ") != std::string::npos) return Profile::kObserve;  // it notices as much, as early
    EXPECT_NE(version.find(" standard "), std::string::npos) << "unknown profile in \"" << version << "\"";
    return Profile::kStandard;
  }();
  return profile;
}

// The event by which the allocator must have noticed the misuse.
enum class Last { kNothing, kFlush, kThreadEnd, kProcessEnd };

using Text = std::vector<std::string>;
const Text kInvalidFree = {"invalid free"};
const Text kDoubleFree = {"double free"};
// A freed large block may be unmapped by now. Then its pointer is an invalid pointer like any other.
const Text kLargeDoubleFree = {"double free", "invalid free"};
const Text kInvalidPointer = {"invalid pointer"};
const Text kWrongSize = {"free with a wrong size"};
const Text kWrongAlignment = {"free with a wrong alignment"};
const Text kOverflow = {"overflow"};
const Text kCorruptedHeader = {"corrupted header"};
const Text kWriteAfterFree = {"write after free"};

// Prints the pointer that is about to be misused, and hides its origin from the compiler.
template <typename T>
T *Misused(T *p) {
  dprintf(STDOUT_FILENO, "0x%zx\n", reinterpret_cast<size_t>(p));
  T *volatile hidden = p;
  return hidden;
}

unsigned char *Bytes(size_t size) {
  auto *p = static_cast<unsigned char *>(hak_malloc(size));
  if (p == nullptr) _exit(3);
  memset(p, 0x5A, size);
  return p;
}

void Free(void *p) { hak_free(p); }

Outcome RunCase(const std::function<void()> &misuse, Last last) {
  return RunForked([&] {
    if (last == Last::kThreadEnd) {
      std::thread(misuse).join();
    } else {
      misuse();
      if (last == Last::kFlush) hak_thread_flush();
      if (last == Last::kProcessEnd) exit(0);
    }
    dprintf(STDOUT_FILENO, "survived\n");
    _exit(0);
    return 0;
  });
}

void ExpectAbort(const Outcome &outcome, const Text &whats) {
  EXPECT_FALSE(outcome.timed_out) << outcome;
  EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
  bool matches = false;
  // The pointer that the process printed ends its line there. In hakmem's line the size of the block follows, and the
  // process.
  const std::string pointer = outcome.out.substr(0, outcome.out.find('\n'));
  static const std::regex rest("( \\([0-9]+-byte block\\))? in misuse_test[a-z_]*\\[[0-9]+\\](, thread [0-9]+)?\n");
  for (const std::string &what : whats) {
    const std::string begin = "hakmem: " + what + ": " + pointer;
    matches = matches || (outcome.out == pointer + "\n" && outcome.err.compare(0, begin.size(), begin) == 0 &&
                          std::regex_match(outcome.err.substr(begin.size()), rest));
  }
  EXPECT_TRUE(matches) << "wanted \"hakmem: " << whats[0] << ": " << outcome.out << "\" and nothing else\n" << outcome;
}

// Expects that the misuse is noticed at once, in FAST at the flush.
void AtOnce(const std::function<void()> &misuse, const Text &whats) {
  ExpectAbort(RunCase(misuse, TheProfile() == Profile::kFast ? Last::kFlush : Last::kNothing), whats);
}

// ---- Pointers that are no blocks ----------------------------------------------------------------

long g_global[64];

TEST(InvalidFree, Stack) {
  AtOnce(
      [] {
        long local[16] = {};
        Free(Misused(&local[2]));
      },
      kInvalidFree);
}

TEST(InvalidFree, Global) {
  AtOnce([] { Free(Misused(&g_global[8])); }, kInvalidFree);
}

TEST(InvalidFree, AfterTheHeapIsInUse) {
  AtOnce(
      [] {
        for (size_t i = 0; i < 1000; ++i) Bytes(16 + i);
        Free(Misused(&g_global[8]));
      },
      kInvalidFree);
}

TEST(InvalidFree, ForeignMapping) {
  for (const size_t size : {size_t{4096}, size_t{8} << 20}) {
    AtOnce(
        [size] {
          Bytes(100);
          void *p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          Free(Misused(p));
        },
        kInvalidFree);
  }
}

// aarch64 leaves the top byte of an address to programs, and newer x86-64 leaves some bits on request. A block is known
// by the address that malloc returned; the same address with a tag is not a block, and nothing there is touched.
TEST(InvalidFree, TaggedPointer) {
  for (const size_t size : {size_t{100}, size_t{300} << 10, size_t{8} << 20}) {
    AtOnce(
        [size] {
          const uintptr_t tagged = reinterpret_cast<uintptr_t>(Bytes(size)) | uintptr_t{0x5A} << 56;
          Free(Misused(reinterpret_cast<void *>(tagged)));
        },
        kInvalidFree);
  }
}

TEST(InvalidFree, Unmapped) {
  AtOnce(
      [] {
        Bytes(100);
        void *p = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(p, 1 << 20);
        Free(Misused(p));
      },
      kInvalidFree);
}

// For addresses that no mapping can have, the lookup must stay within its tables.
TEST(InvalidFree, WildAddresses) {
  for (const uintptr_t address :
       {uintptr_t{1}, uintptr_t{16}, uintptr_t{65536}, (uintptr_t{1} << 47) - 65536, uintptr_t{1} << 47,
        uintptr_t{1} << 48, (uintptr_t{1} << 56) + 16, uintptr_t{1} << 62, uintptr_t{1} << 63, UINTPTR_MAX - 15}) {
    SCOPED_TRACE(address);
    AtOnce([address] { Free(Misused(reinterpret_cast<void *>(address))); }, kInvalidFree);
    AtOnce(
        [address] {
          Bytes(100);
          Free(Misused(reinterpret_cast<void *>(address)));
        },
        kInvalidFree);
  }
}

TEST(InvalidFree, InteriorOfASmallBlock) {
  for (const size_t size : {size_t{48}, size_t{200}, size_t{1000}, size_t{4096}, size_t{30000}}) {
    for (const size_t offset : {size_t{1}, size_t{8}, size_t{16}, size_t{40}}) {
      SCOPED_TRACE(testing::Message() << size << "+" << offset);
      AtOnce([=] { Free(Misused(Bytes(size) + offset)); }, kInvalidFree);
    }
  }
}

TEST(InvalidFree, InteriorOfALargeBlock) {
  for (const size_t size : {size_t{65536} * 3, size_t{1} << 20, size_t{5} << 20}) {
    for (const size_t offset : {size_t{1}, size_t{16}, size_t{4096}, size_t{65536}, size - 4096}) {
      SCOPED_TRACE(testing::Message() << size << "+" << offset);
      AtOnce([=] { Free(Misused(Bytes(size) + offset)); }, kInvalidFree);
    }
  }
}

TEST(InvalidFree, PlaceInASlabThatWasNeverGivenOut) {
  // The address of a block that was never handed out: noticed when it is returned to its slab.
  const auto misuse = [] {
    unsigned char *p = Bytes(1000);
    const size_t stride = (hak_usable_size(p) + 15) / 16 * 16;
    uintptr_t address = reinterpret_cast<uintptr_t>(p);
    while ((address + stride) % 65536 > address % 65536) address += stride;
    Free(Misused(reinterpret_cast<void *>(address - stride)));
  };
  ExpectAbort(RunCase(misuse, TheProfile() == Profile::kObserve ? Last::kNothing : Last::kFlush),
              {"invalid free", "double free", "corrupted header"});
}

// ---- Double frees -------------------------------------------------------------------------------

constexpr size_t kSmallSizes[] = {16, 64, 1000, 4096, 32768 - 16};
constexpr size_t kLargeSizes[] = {65536, 262144, 2097152, 5000000};

void FreedTwice(size_t size, const Text &whats) {
  AtOnce(
      [size] {
        unsigned char *p = Bytes(size);
        Free(p);
        Free(Misused(p));
      },
      whats);
}

TEST(DoubleFree, ImmediateSmall) {
  for (const size_t size : kSmallSizes) {
    SCOPED_TRACE(size);
    FreedTwice(size, kDoubleFree);
  }
}

// A request of 40 bytes gets a block of 48, with a header and without, and of 64 with a canary behind it.
TEST(DoubleFree, TheLineNamesTheBlock) {
  const Outcome outcome = RunCase(
      [] {
        Bytes(40);  // Its slab stays in use.
        unsigned char *block = Bytes(40);
        Free(block);
        Free(Misused(block));
      },
      TheProfile() == Profile::kFast ? Last::kFlush : Last::kNothing);
  ExpectAbort(outcome, kDoubleFree);
  const bool has_canary = TheProfile() == Profile::kObserve;
  const std::string block = has_canary ? " (64-byte block)" : " (48-byte block)";
  EXPECT_NE(outcome.err.find(block + " in misuse_test"), std::string::npos) << outcome;
}

TEST(DoubleFree, ImmediateLarge) {
  for (const size_t size : kLargeSizes) {
    SCOPED_TRACE(size);
    FreedTwice(size, kLargeDoubleFree);
  }
}

TEST(DoubleFree, OneOtherInBetween) {
  for (const size_t size : kSmallSizes) {
    SCOPED_TRACE(size);
    AtOnce(
        [size] {
          unsigned char *a = Bytes(size);
          unsigned char *b = Bytes(size);
          Free(a);
          Free(b);
          Free(Misused(a));
        },
        kDoubleFree);
  }
}

// With so many frees between that only the slab's own records show it.
void DelayedDoubleFree(size_t size) {
  std::vector<unsigned char *> others;
  for (int i = 0; i < 12; ++i) others.push_back(Bytes(size));
  unsigned char *p = others[0];
  for (unsigned char *other : others) Free(other);
  Free(Misused(p));
}

void ExpectDelayed(Last last) {
  for (const size_t size : {size_t{16}, size_t{64}, size_t{1000}}) {
    SCOPED_TRACE(size);
    const Last chance = TheProfile() == Profile::kObserve ? Last::kNothing : last;
    ExpectAbort(RunCase([size] { DelayedDoubleFree(size); }, chance), kDoubleFree);
  }
}

TEST(DoubleFree, DelayedIsSeenByTheFlush) { ExpectDelayed(Last::kFlush); }
TEST(DoubleFree, DelayedIsSeenAtThreadEnd) { ExpectDelayed(Last::kThreadEnd); }

TEST(DoubleFree, DelayedIsSeenAtProcessEnd) {
  if (TheProfile() == Profile::kFast) GTEST_SKIP() << "FAST promises a check at flushes only, not at the process's end";
  ExpectDelayed(Last::kProcessEnd);
}

TEST(DoubleFree, SecondFreeByAnotherThread) {
  const auto misuse = [] {
    unsigned char *p = Bytes(200);
    Bytes(200);  // stays, and with it the slab
    Free(p);
    hak_thread_flush();
    std::thread([p] { Free(Misused(p)); }).join();
    hak_thread_flush();
  };
  ExpectAbort(RunCase(misuse, Last::kFlush), kDoubleFree);
}

// Remote frees wait for the block's owner, who may make no further call before the process ends, or may still run then.
TEST(DoubleFree, SecondFreeByAnotherThreadIsSeenAtProcessEnd) {
  if (TheProfile() == Profile::kFast) GTEST_SKIP() << "FAST promises a check at flushes only, not at the process's end";
  const auto by_owner = [] {
    unsigned char *p = Bytes(200);
    Bytes(200);  // stays, and with it the slab
    std::thread([p] { Free(p); }).join();
    std::thread([p] { Free(Misused(p)); }).join();
  };
  const auto by_other = [] {
    static unsigned char *volatile given = nullptr;
    static pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, nullptr, 2);
    std::thread([] {
      given = Bytes(200);
      Bytes(200);
      pthread_barrier_wait(&barrier);
      for (;;) pause();
    }).detach();
    pthread_barrier_wait(&barrier);
    unsigned char *p = given;
    std::thread([p] { Free(p); }).join();
    std::thread([p] { Free(Misused(p)); }).join();
  };
  ExpectAbort(RunCase(by_owner, Last::kProcessEnd), kDoubleFree);
  ExpectAbort(RunCase(by_other, Last::kProcessEnd), kDoubleFree);
}

TEST(DoubleFree, OfAnAlignedBlock) {
  AtOnce(
      [] {
        void *p = hak_aligned_alloc(256, 256);
        Free(p);
        Free(Misused(p));
      },
      kDoubleFree);
}

TEST(DoubleFree, AfterAGoodRun) {
  // The report also works after caches, slabs and large blocks were in use. The seed is drawn here, because the child
  // must print nothing but its report.
  const uint64_t seed = TestSeed(1);
  AtOnce(
      [seed] {
        Random random(seed);
        void *blocks[500] = {};
        for (int op = 0; op < 20000; ++op) {
          void *&p = blocks[random.Index(500)];
          Free(p);
          p = op % 2 == 0 ? Bytes(1 + random.Index(3000)) : nullptr;
        }
        unsigned char *p = Bytes(333);
        Free(p);
        Free(Misused(p));
      },
      kDoubleFree);
}

// ---- Calls other than free ----------------------------------------------------------------------

TEST(InvalidPointer, ReallocAndUsableSizeOfNoBlock) {
  if (TheProfile() == Profile::kFast) GTEST_SKIP() << "FAST promises checks at flushes only";
  AtOnce([] { static_cast<void>(!hak_realloc(Misused(&g_global[4]), 100)); }, kInvalidPointer);
  AtOnce([] { static_cast<void>(hak_usable_size(Misused(&g_global[4]))); }, kInvalidPointer);
  AtOnce([] { static_cast<void>(!hak_realloc(Misused(Bytes(100) + 16), 50)); }, kInvalidPointer);
  AtOnce([] { static_cast<void>(hak_usable_size(Misused(Bytes(100) + 16))); }, kInvalidPointer);
  AtOnce([] { static_cast<void>(hak_usable_size(Misused(Bytes(300000) + 4096))); }, kInvalidPointer);
  AtOnce([] { static_cast<void>(hak_realloc_in_place(Misused(&g_global[4]), 8)); }, kInvalidPointer);
}

TEST(InvalidPointer, ReallocAndUsableSizeOfAFreedLargeBlock) {
  if (TheProfile() == Profile::kFast) GTEST_SKIP() << "FAST promises checks at flushes only";
  for (const size_t size : kLargeSizes) {
    SCOPED_TRACE(size);
    const auto freed = [size] {
      unsigned char *p = Bytes(size);
      Free(p);
      return Misused(p);
    };
    AtOnce([&] { static_cast<void>(!hak_realloc(freed(), 100)); }, kInvalidPointer);
    AtOnce([&] { static_cast<void>(hak_usable_size(freed())); }, kInvalidPointer);
  }
}

TEST(InvalidPointer, ReallocAndUsableSizeOfAFreedSmallBlock) {
  if (TheProfile() == Profile::kFast) GTEST_SKIP() << "FAST promises checks at flushes only";
  const auto freed = [] {
    unsigned char *p = Bytes(200);
    Free(p);
    return Misused(p);
  };
  for (const size_t size : {size_t{100}, size_t{150}, size_t{200}, size_t{2000}}) {
    AtOnce([&] { static_cast<void>(!hak_realloc(freed(), size)); }, kInvalidPointer);
  }
  AtOnce([&] { static_cast<void>(hak_usable_size(freed())); }, kInvalidPointer);
}

// ---- OBSERVE only -------------------------------------------------------------------------------

TEST(Observe, WrongSizeInASizedFree) {
  if (TheProfile() != Profile::kObserve) GTEST_SKIP() << "only OBSERVE checks the sizes of sized frees";
  AtOnce([] { hak_free_sized(Misused(Bytes(100)), 5000); }, kWrongSize);
  AtOnce([] { hak_free_sized(Misused(Bytes(300000)), 400000); }, kWrongSize);
  const auto aligned = [] { return Misused(static_cast<unsigned char *>(hak_aligned_alloc(64, 64))); };
  AtOnce([&] { hak_free_aligned_sized(aligned(), 64, 8000); }, kWrongSize);
  AtOnce([&] { hak_free_aligned_sized(aligned(), size_t{1} << 24, 64); }, kWrongAlignment);
}

TEST(Observe, WriteOfOneByteTooMany) {
  if (TheProfile() != Profile::kObserve) GTEST_SKIP() << "only OBSERVE has something behind a block and before it";
  for (const size_t size : {size_t{1}, size_t{16}, size_t{100}, size_t{4000}}) {
    const auto beside = [size](ptrdiff_t at) {
      std::vector<unsigned char *> blocks;
      for (int i = 0; i < 64; ++i) blocks.push_back(Bytes(size));
      blocks[20][at] ^= 0xFF;
      return blocks[20];
    };
    AtOnce([&] { Free(Misused(beside(static_cast<ptrdiff_t>(size)))); }, kOverflow);
    AtOnce([&] { Free(Misused(beside(-1))); }, kCorruptedHeader);
  }
}

TEST(Observe, WriteAfterFree) {
  if (TheProfile() != Profile::kObserve) GTEST_SKIP() << "only OBSERVE poisons freed blocks";
  for (const size_t at : {size_t{0}, size_t{20}, size_t{90}}) {
    SCOPED_TRACE(at);
    AtOnce(
        [at] {
          unsigned char *p = Bytes(100);
          Free(p);
          Misused(p)[at] ^= 1;
          for (int i = 0; i < 5000; ++i) Free(Bytes(100));
        },
        kWriteAfterFree);
  }
}

// ---- The report itself --------------------------------------------------------------------------

TEST(Report, NeedsNoMemory) {
#if HAK_TEST_ASAN || HAK_TEST_TSAN
  GTEST_SKIP() << "a sanitizer's runtime needs address space of its own";
#endif
  const auto exhaust = [] {
    const rlimit none = {0, 0};
    if (setrlimit(RLIMIT_AS, &none) != 0) _exit(4);
  };
  AtOnce(
      [&] {
        unsigned char *p = Bytes(100);
        exhaust();
        Free(p);
        Free(Misused(p));
      },
      kDoubleFree);
  AtOnce(
      [&] {
        unsigned char *p = Bytes(3000000);
        exhaust();
        Free(Misused(p + 4096));
      },
      kInvalidFree);
  AtOnce(
      [&] {
        exhaust();
        Free(Misused(&g_global[8]));
      },
      kInvalidFree);
}

// A correct program with the same three endings writes nothing. Otherwise the cases above could pass by accident.
TEST(Report, CorrectProgramIsSilent) {
  for (const Last last : {Last::kNothing, Last::kFlush, Last::kThreadEnd, Last::kProcessEnd}) {
    const Outcome outcome = RunCase(
        [] {
          for (const size_t size :
               {size_t{0}, size_t{16}, size_t{1000}, size_t{32768}, size_t{100000}, size_t{3000000}}) {
            void *again = hak_realloc(Bytes(size), size * 2 + 1);
            Free(again);
            Free(hak_aligned_alloc(4096, size));
          }
        },
        last);
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    EXPECT_EQ(outcome.err, "") << outcome;
    EXPECT_EQ(outcome.out, last == Last::kProcessEnd ? "" : "survived\n") << outcome;
  }
}

// ---- The environment ----------------------------------------------------------------------------

int EnvironmentChild() {
  for (size_t i = 0; i < 1000; ++i) Free(Bytes(1 + 37 * i));
  dprintf(STDOUT_FILENO, "ran on\n");
  return 0;
}

TEST(Environment, AnUnknownPresetIsNamedAndTheProgramRunsOn) {
  if (!CanRunSelf()) GTEST_SKIP() << "the emulator cannot start the program again";
  for (const char *value : {"bogus", "speed ", "lean,speed"}) {
    SCOPED_TRACE(value);
    const Outcome outcome = RunSelf({"--child=environment"}, {std::string("HAKMEM_PROFILE=") + value});
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    EXPECT_EQ(outcome.out, "ran on\n") << outcome;
    if (TheProfile() == Profile::kFast) {
      // The settings are constants there, and the environment is not read.
      EXPECT_EQ(outcome.err, "") << outcome;
      continue;
    }
    ASSERT_FALSE(outcome.err.empty()) << outcome;
    EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome;
    EXPECT_EQ(outcome.err.rfind("hakmem: ", 0), 0U) << outcome;
    for (const char *word : {"HAKMEM_PROFILE", value, "balanced", "speed", "lean"}) {
      EXPECT_NE(outcome.err.find(word), std::string::npos) << word << " is not named in " << outcome;
    }
  }
}

TEST(Environment, KnownPresetsAreTakenInSilence) {
  if (!CanRunSelf()) GTEST_SKIP() << "the emulator cannot start the program again";
  for (const char *value : {"balanced", "speed", "lean", "MIXED_TINYV3_C7_BALANCED", "MIXED_TINYV3_C7_SAFE"}) {
    const Outcome outcome = RunSelf({"--child=environment"}, {std::string("HAKMEM_PROFILE=") + value});
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    EXPECT_EQ(outcome.err, "") << outcome;
  }
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--child=environment") == 0) return hak_test::EnvironmentChild();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
