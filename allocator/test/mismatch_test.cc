// SPDX-License-Identifier: Apache-2.0
//
// Which call may release a block of which other call. OBSERVE and HARDENED notice all others, FAST and STANDARD none.
// Run as it is, and with HAKMEM_GUARD_SAMPLE=1, where small blocks have guard pages.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <functional>
#include <new>
#include <set>
#include <string>
#include <vector>

#include "allocator/test/compiler_names.h"
#include "allocator/test/subprocess.h"

extern "C" {
// Sized nothrow delete: not in any standard, and not declared by any header.
void _ZdlPvmRKSt9nothrow_t(void *ptr, size_t size, const std::nothrow_t &tag);
void _ZdaPvmRKSt9nothrow_t(void *ptr, size_t size, const std::nothrow_t &tag);
// Not declared by every C library.
void free_sized(void *ptr, size_t size) noexcept;
void free_aligned_sized(void *ptr, size_t alignment, size_t size) noexcept;
}

namespace hak_test {
namespace {

enum Kind { kMalloc, kNew, kNewArray, kAlignedNew, kAlignedNewArray };
constexpr const char *kKindNames[] = {"malloc", "new", "new[]", "aligned new", "aligned new[]"};
constexpr const char *kReleaseNames[] = {"free", "delete", "delete[]", "aligned delete", "aligned delete[]"};

// Of blocks and calls alike, so that a mismatch is the only fault.
constexpr std::align_val_t kAlign{16};

struct Allocation {
  const char *name;
  Kind kind;
  void *(*call)(size_t size);
};
struct Release {
  const char *name;
  Kind kind;
  void (*call)(void *block, size_t size);
};

void *Posix(size_t size) {
  void *block = nullptr;
  return posix_memalign(&block, 16, size) == 0 ? block : nullptr;
}

const Allocation kAllocations[] = {
    {"malloc", kMalloc, [](size_t size) { return malloc(size); }},
    {"calloc", kMalloc, [](size_t size) { return calloc(1, size); }},
    {"realloc", kMalloc, [](size_t size) { return realloc(nullptr, size); }},
    {"reallocarray", kMalloc, [](size_t size) { return reallocarray(nullptr, 1, size); }},
    {"aligned_alloc", kMalloc, [](size_t size) { return aligned_alloc(16, size); }},
    {"memalign", kMalloc, [](size_t size) { return memalign(16, size); }},
    {"posix_memalign", kMalloc, Posix},
    {"strdup", kMalloc, [](size_t size) -> void * { return strdup(std::string(size, 'x').c_str()); }},
    {"hak_malloc", kMalloc, [](size_t size) { return hak_malloc(size); }},
    {"hak_zalloc", kMalloc, [](size_t size) { return hak_zalloc(size); }},
    {"hak_malloc_nocache", kMalloc, [](size_t size) { return hak_malloc_nocache(size); }},
    {"hak_aligned_alloc", kMalloc, [](size_t size) { return hak_aligned_alloc(64, size); }},
    {"hak_aligned_calloc", kMalloc, [](size_t size) { return hak_aligned_calloc(64, 1, size); }},
    {"hak_aligned_realloc", kMalloc, [](size_t size) { return hak_aligned_realloc(nullptr, 64, size); }},
    {"new", kNew, [](size_t size) { return ::operator new(size); }},
    {"new nothrow", kNew, [](size_t size) { return ::operator new(size, std::nothrow); }},
    {"new hot_cold", kNew, [](size_t size) { return _Znwm12__hot_cold_t(size, HotCold::kCold); }},
    {"new with a size", kNew, [](size_t size) { return __size_returning_new(size).ptr; }},
    {"new with a size nothrow", kNew,
     [](size_t size) { return tcmalloc_size_returning_operator_new_nothrow(size).ptr; }},
    {"new[]", kNewArray, [](size_t size) { return ::operator new[](size); }},
    {"new[] nothrow", kNewArray, [](size_t size) { return ::operator new[](size, std::nothrow); }},
    {"new[] with a token", kNewArray, [](size_t size) { return __alloc_token__Znam(size, 1); }},
    {"aligned new", kAlignedNew, [](size_t size) { return ::operator new(size, kAlign); }},
    {"aligned new nothrow", kAlignedNew, [](size_t size) { return ::operator new(size, kAlign, std::nothrow); }},
    {"aligned new of 64", kAlignedNew, [](size_t size) { return ::operator new(size, std::align_val_t{64}); }},
    {"aligned new with a size", kAlignedNew,
     [](size_t size) { return __size_returning_new_aligned(size, kAlign).ptr; }},
    {"aligned new[]", kAlignedNewArray, [](size_t size) { return ::operator new[](size, kAlign); }},
    {"aligned new[] nothrow", kAlignedNewArray,
     [](size_t size) { return ::operator new[](size, kAlign, std::nothrow); }},
};

const Release kReleases[] = {
    {"free", kMalloc, [](void *block, size_t) { free(block); }},
    {"free_sized", kMalloc, [](void *block, size_t size) { free_sized(block, size); }},
    {"free_aligned_sized", kMalloc, [](void *block, size_t size) { free_aligned_sized(block, 16, size); }},
    {"realloc to 0", kMalloc, [](void *block, size_t) { (void)!hak_realloc(block, 0); }},
    {"hak_free", kMalloc, [](void *block, size_t) { hak_free(block); }},
    {"hak_free_sized", kMalloc, [](void *block, size_t size) { hak_free_sized(block, size); }},
    {"hak_free_nocache", kMalloc, [](void *block, size_t) { hak_free_nocache(block); }},
    {"delete", kNew, [](void *block, size_t) { ::operator delete(block); }},
    {"delete with a size", kNew, [](void *block, size_t size) { ::operator delete(block, size); }},
    {"delete nothrow", kNew, [](void *block, size_t) { ::operator delete(block, std::nothrow); }},
    {"delete with a size nothrow", kNew,
     [](void *block, size_t size) { _ZdlPvmRKSt9nothrow_t(block, size, std::nothrow); }},
    {"delete[]", kNewArray, [](void *block, size_t) { ::operator delete[](block); }},
    {"delete[] with a size", kNewArray, [](void *block, size_t size) { ::operator delete[](block, size); }},
    {"delete[] nothrow", kNewArray, [](void *block, size_t) { ::operator delete[](block, std::nothrow); }},
    {"delete[] with a size nothrow", kNewArray,
     [](void *block, size_t size) { _ZdaPvmRKSt9nothrow_t(block, size, std::nothrow); }},
    {"aligned delete", kAlignedNew, [](void *block, size_t) { ::operator delete(block, kAlign); }},
    {"aligned delete with a size", kAlignedNew,
     [](void *block, size_t size) { ::operator delete(block, size, kAlign); }},
    {"aligned delete nothrow", kAlignedNew,
     [](void *block, size_t) { ::operator delete(block, kAlign, std::nothrow); }},
    {"aligned delete[]", kAlignedNewArray, [](void *block, size_t) { ::operator delete[](block, kAlign); }},
    {"aligned delete[] with a size", kAlignedNewArray,
     [](void *block, size_t size) { ::operator delete[](block, size, kAlign); }},
    {"aligned delete[] nothrow", kAlignedNewArray,
     [](void *block, size_t) { ::operator delete[](block, kAlign, std::nothrow); }},
};

// Small, large, and of size 0.
constexpr size_t kSizes[] = {48, 100000, 0};

// strdup takes a byte more than its text.
size_t Requested(const Allocation &allocation, size_t size) {
  return strcmp(allocation.name, "strdup") == 0 ? size + 1 : size;
}

bool InProfile(const char *name) { return strstr(hak_version(), name) != nullptr; }
bool IsGuarded() { return InProfile(" observe ") || InProfile(" hardened "); }

void Choose(const char *value) {
  if (IsGuarded() && hak_config_set("HAKMEM_MISMATCH", value) != 0) _exit(3);
}

// Runs `misuse` with the setting in a process of its own.
Outcome Try(const char *setting, const std::function<void()> &misuse) {
  return RunForked([&] {
    Choose(setting);
    misuse();
    return 0;
  });
}

// The line begins with `what` and has the block's size, and the process ends.
void ExpectFatal(const Outcome &outcome, const std::string &what, size_t bytes) {
  EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
  EXPECT_EQ(outcome.err.rfind("hakmem: " + what + ": 0x", 0), 0u) << what << "\n" << outcome;
  const std::string size = " (" + std::to_string(bytes) + "-byte block) in ";
  EXPECT_EQ(outcome.err.find(size) != std::string::npos, bytes != 0) << bytes << "\n" << outcome;
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << "more than one line\n" << outcome;
}

void ExpectNothing(const Outcome &outcome) {
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.err, "");
}

// Each call that allocates with each call that releases.
TEST(Mismatch, EveryPairOfCalls) {
  for (const Allocation &allocation : kAllocations) {
    for (const Release &release : kReleases) {
      for (const size_t size : kSizes) {
        // Of the larger and the smaller, each call of the one side with one call of each kind of the other.
        if (size != kSizes[0] && strpbrk(allocation.name, " _") != nullptr && strpbrk(release.name, " _") != nullptr)
          continue;
        SCOPED_TRACE(std::string(allocation.name) + ", " + release.name + ", " + std::to_string(size));
        const size_t bytes = Requested(allocation, size);
        const Outcome outcome = Try("fatal", [&] {
          void *block = allocation.call(size);
          if (block == nullptr) _exit(4);
          release.call(block, bytes);
        });
        if (allocation.kind == release.kind || !IsGuarded()) {
          ExpectNothing(outcome);
        } else {
          ExpectFatal(outcome,
                      std::string(kKindNames[allocation.kind]) + " block freed by " + kReleaseNames[release.kind],
                      bytes);
        }
      }
    }
  }
}

TEST(Mismatch, ReallocTakesBlocksOfMallocOnly) {
  for (const Allocation &allocation : kAllocations) {
    for (const size_t size : kSizes) {
      for (const size_t wanted : {size_t{40}, size_t{5000}, size_t{99000}, size_t{300000}}) {
        SCOPED_TRACE(std::string(allocation.name) + ", " + std::to_string(size) + ", " + std::to_string(wanted));
        const Outcome outcome = Try("fatal", [&] {
          void *block = realloc(allocation.call(size), wanted);
          free(block);
        });
        if (allocation.kind == kMalloc || !IsGuarded()) {
          ExpectNothing(outcome);
        } else {
          ExpectFatal(outcome, std::string(kKindNames[allocation.kind]) + " block passed to realloc", size);
        }
      }
    }
  }
}

// Asking and resizing in place release nothing, and the block stays what it was.
TEST(Mismatch, ABlockKeepsItsKind) {
  for (const Allocation &allocation : kAllocations) {
    for (const Release &release : kReleases) {
      if (allocation.kind != release.kind) continue;
      for (const size_t size : kSizes) {
        SCOPED_TRACE(std::string(allocation.name) + ", " + release.name + ", " + std::to_string(size));
        ExpectNothing(Try("fatal", [&] {
          size_t now = Requested(allocation, size);
          void *block = allocation.call(size);
          if (malloc_usable_size(block) < now || !hak_owns(block)) _exit(4);
          const size_t smaller = now / 8 * 7;
          if (hak_realloc_in_place(block, smaller) != nullptr && IsGuarded()) now = smaller;
          release.call(block, now);
        }));
      }
    }
  }
}

// What a block was does not stay with its memory.
TEST(Mismatch, MemoryThatIsUsedAgainHasNoKind) {
  for (const size_t size : kSizes) {
    SCOPED_TRACE(size);
    ExpectNothing(Try("fatal", [&] {
      for (int round = 0; round < 3000; round++) {
        ::operator delete[](::operator new[](size, std::align_val_t{64}), std::align_val_t{64});
        free(malloc(size));
        ::operator delete(::operator new(size));
      }
    }));
  }
}

// ---- Sizes ----------------------------------------------------------------------------------------

TEST(Mismatch, ASizedDeleteMustHaveTheSize) {
  for (const Release &release : kReleases) {
    if (strstr(release.name, "size") == nullptr) continue;
    for (const Allocation &allocation : kAllocations) {
      if (allocation.kind != release.kind || strcmp(allocation.name, kKindNames[allocation.kind]) != 0) continue;
      for (const size_t size : kSizes) {
        for (const size_t wrong : {size + 1, size / 2, size * 2, size_t{8}}) {
          if (wrong == size) continue;
          SCOPED_TRACE(std::string(release.name) + ", " + std::to_string(size) + ", " + std::to_string(wrong));
          // Whatever the setting: this is no question of kinds.
          const Outcome outcome = Try("off", [&] {
            void *block = allocation.call(size);
            release.call(block, wrong);
          });
          if (IsGuarded()) {
            ExpectFatal(outcome, "free with a wrong size", size);
          } else {
            ExpectNothing(outcome);
          }
        }
      }
    }
  }
}

struct Base {
  int number = 1;
};
struct Derived : Base {
  int more[20] = {};
};

// The usual way to a wrong size: no virtual destructor.
TEST(Mismatch, ADeleteByTheBaseHasTheWrongSize) {
  const Outcome outcome = Try("fatal", [] {
    Base *volatile block = new Derived;
    Base *const base = block;
    base->number = 2;
    ::operator delete(base, sizeof *base);
  });
  if (IsGuarded()) {
    ExpectFatal(outcome, "free with a wrong size", sizeof(Derived));
  } else {
    ExpectNothing(outcome);
  }
}

// ---- The setting ----------------------------------------------------------------------------------

// One call of each kind, each way to release, twice.
void MixAll() {
  for (int round = 0; round < 2; round++) {
    for (const Allocation &allocation : kAllocations) {
      if (strcmp(allocation.name, kKindNames[allocation.kind]) != 0) continue;
      for (const size_t size : kSizes) {
        for (const Release &release : kReleases) {
          if (strcmp(release.name, kReleaseNames[release.kind]) == 0) release.call(allocation.call(size), size);
        }
        char *block = static_cast<char *>(allocation.call(size));
        if (size != 0) block[size - 1] = 'x';
        block = static_cast<char *>(realloc(block, size + 1000));
        if (size != 0 && block[size - 1] != 'x') _exit(4);
        free(block);
      }
    }
  }
}

TEST(Mismatch, AWarningIsOneLineForEachPair) {
  const Outcome outcome = Try("warn", MixAll);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  std::vector<std::string> wanted;
  for (int kind = kMalloc; IsGuarded() && kind <= kAlignedNewArray; kind++) {
    for (int release = kMalloc; release <= kAlignedNewArray; release++) {
      if (kind != release)
        wanted.push_back(std::string(kKindNames[kind]) + " block freed by " + kReleaseNames[release] + ": 0x");
    }
    if (kind != kMalloc) wanted.push_back(std::string(kKindNames[kind]) + " block passed to realloc: 0x");
  }
  size_t lines = 0;
  for (const char c : outcome.err) lines += c == '\n';
  EXPECT_EQ(lines, wanted.size()) << outcome;
  for (const std::string &line : wanted) {
    const size_t at = outcome.err.find("hakmem: " + line);
    ASSERT_NE(at, std::string::npos) << line << "\n" << outcome;
    const std::string found = outcome.err.substr(at, outcome.err.find('\n', at) - at);
    EXPECT_NE(found.find(" (48-byte block) in mismatch"), std::string::npos) << found;
    EXPECT_NE(found.find("]; not told again (HAKMEM_MISMATCH)"), std::string::npos) << found;
  }
}

TEST(Mismatch, OffSaysNothing) { ExpectNothing(Try("off", MixAll)); }

// OBSERVE looks for bugs. HARDENED protects programs that may have mixed the calls for years.
TEST(Mismatch, TheDefaultIsFatalInObserveAndAWarningInHardened) {
  const Outcome outcome = Try("auto", [] {
    void *block = ::operator new(48);
    kReleases[0].call(block, 48);
  });
  if (InProfile(" observe ")) {
    ExpectFatal(outcome, "new block freed by free", 48);
  } else {
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    EXPECT_EQ(outcome.err.rfind("hakmem: new block freed by free: 0x", 0) == 0, IsGuarded()) << outcome;
  }
}

// ---- The new handler ------------------------------------------------------------------------------

int g_handled;
void LiftTheLimit() {
  g_handled++;
  if (hak_config_set("HAKMEM_MEMORY_LIMIT_MB", "0") != 0) _exit(5);
}

// A block that there was no memory for until the handler had run.
void *AfterTheHandler(const Allocation &allocation) {
  std::set_new_handler(LiftTheLimit);
  if (hak_config_set("HAKMEM_MEMORY_LIMIT_MB", "64") != 0) _exit(6);
  void *block = allocation.call(size_t{256} << 20);
  if (block == nullptr || g_handled != 1) _exit(7);
  return block;
}

TEST(Mismatch, ABlockThatTheHandlerMadeRoomFor) {
  for (const Allocation &allocation : kAllocations) {
    if (allocation.kind == kMalloc) continue;
    for (const Release &release : kReleases) {
      if (strcmp(release.name, kReleaseNames[release.kind]) != 0) continue;
      SCOPED_TRACE(std::string(allocation.name) + ", " + release.name);
      const Outcome outcome = Try("fatal", [&] {
        void *block = AfterTheHandler(allocation);
        release.call(block, size_t{256} << 20);
      });
      if (allocation.kind == release.kind || !IsGuarded()) {
        ExpectNothing(outcome);
      } else {
        ExpectFatal(outcome,
                    std::string(kKindNames[allocation.kind]) + " block freed by " + kReleaseNames[release.kind],
                    size_t{256} << 20);
      }
    }
  }
}

// Freed pages of large blocks serve again, for a block of another kind.
TEST(Mismatch, PagesThatServeAgainForgetTheKind) {
  ASSERT_EQ(hak_config_set("HAKMEM_MISMATCH", "fatal"), 0);
  std::set<const void *> seen;
  size_t again = 0;
  for (int round = 0; round < 1000; round++) {
    void *const of_new = operator new(50000);
    seen.insert(of_new);
    operator delete(of_new);
    void *const block = malloc(50000);
    ASSERT_NE(block, nullptr);
    again += seen.count(block);
    free(block);
  }
  EXPECT_GT(again, 0U);
}

}  // namespace
}  // namespace hak_test
