// SPDX-License-Identifier: Apache-2.0
//
// calloc on kernels where advice to return memory reports success and does nothing, as in some emulators and sandboxes.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <string.h>
#include <sys/mman.h>

#include <vector>

#include "allocator/os/fault.h"
#include "allocator/test/kernel/filter.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"

namespace {

using hak_test::Outcome;
using hak_test::RunForked;

constexpr int kCannot = 77;

// Whether MADV_DONTNEED reports success and leaves the page unchanged.
bool AdviceIsVoid() {
  void *page = mmap(nullptr, 4096 * 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *static_cast<char *>(page) = 1;
  const bool said = madvise(page, 4096 * 16, MADV_DONTNEED) == 0;
  return said && *static_cast<char *>(page) == 1;
}

bool MakeAdviceVoid() { return hak_test::SetFilter({SYS_madvise}, SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW); }

bool IsZero(const char *block, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (block[i] != 0) return false;
  }
  return true;
}

// Fills blocks, frees all but each `keep`th, trims, and allocates zeroed blocks. Returns how many are not zero.
int CountDirty(size_t size, size_t count, size_t keep) {
  std::vector<char *> blocks(count);
  for (char *&block : blocks) {
    block = static_cast<char *>(hak_malloc(size));
    memset(block, 0xAA, size);
  }
  for (size_t i = 0; i < count; i++) {
    if (i % keep == 0) continue;
    hak_free(blocks[i]);
    blocks[i] = nullptr;
  }
  hak_trim(0);
  int dirty = 0;
  for (char *&block : blocks) {
    if (block != nullptr) continue;
    block = static_cast<char *>(hak_calloc(1, size));
    dirty += !IsZero(block, size);
  }
  for (char *block : blocks) hak_free(block);
  return dirty;
}

// A kind of memory. There are more large blocks than the quarantine of OBSERVE and HARDENED holds, unless their ranges
// are too large to be reused.
struct Kind {
  size_t size;
  size_t count;
  size_t keep;
};
int CountDirty(const Kind &kind) { return CountDirty(kind.size, kind.count, kind.keep); }

// Slabs of small and large classes, medium blocks, and larger blocks.
constexpr Kind kKinds[] = {{48, 40000, 20000}, {3000, 3000, 300}, {16000, 1000, 50}, {60000, 300, 30},
                           {200000, 200, 20},  {900000, 20, 2},   {3000000, 8, 4}};

int CountDirtyOfAllKinds() {
  int dirty = 0;
  for (const Kind &kind : kKinds) dirty += CountDirty(kind);
  return dirty;
}

TEST(Zero, SoItIsWhereAdviceWorks) {
  const Outcome outcome = RunForked([] { return CountDirtyOfAllKinds() == 0 ? 0 : 1; });
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

TEST(Zero, WhereAdviceDoesNothing) {
  const Outcome outcome = RunForked([] {
    hak_free(hak_malloc(5000));
    if (!MakeAdviceVoid() || !AdviceIsVoid()) return kCannot;
    // Twice, because the result of the first time is kept.
    return CountDirtyOfAllKinds() + CountDirtyOfAllKinds() == 0 ? 0 : 1;
  });
  if (outcome.exit_code == kCannot) GTEST_SKIP() << "no filter can be set here";
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

// Memory was returned and read as zero before the advice stopped working.
TEST(Zero, WhereAdviceStopsWorking) {
  const Outcome outcome = RunForked([] {
    if (CountDirtyOfAllKinds() != 0) return 1;
    if (!MakeAdviceVoid() || !AdviceIsVoid()) return kCannot;
    return CountDirtyOfAllKinds() == 0 ? 0 : 1;
  });
  if (outcome.exit_code == kCannot) GTEST_SKIP() << "no filter can be set here";
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

// The same for each kind alone: no other kind has noticed it before. Nothing is unmapped, so that all of it is reused.
TEST(Zero, WhereAdviceStopsWorkingForOneKind) {
  for (const Kind &kind : kKinds) {
    const Outcome outcome = RunForked([kind] {
      hak_fault_set(HAK_FAULT_UNMAP, 1, UINT64_MAX);
      if (CountDirty(kind) != 0) return 1;
      if (!MakeAdviceVoid() || !AdviceIsVoid()) return kCannot;
      return CountDirty(kind) + CountDirty(kind) == 0 ? 0 : 1;
    });
    if (outcome.exit_code == kCannot) GTEST_SKIP() << "no filter can be set here";
    EXPECT_EQ(outcome.exit_code, 0) << kind.size << ": " << outcome;
  }
}

// A run that the kernel refuses to unmap stays, and is reused.
TEST(Zero, WhereNothingIsUnmappedEither) {
  const Outcome outcome = RunForked([] {
    hak_free(hak_malloc(5000));
    if (!MakeAdviceVoid() || !AdviceIsVoid()) return kCannot;
    hak_fault_set(HAK_FAULT_UNMAP, 1, UINT64_MAX);
    return CountDirtyOfAllKinds() == 0 ? 0 : 1;
  });
  if (outcome.exit_code == kCannot) GTEST_SKIP() << "no filter can be set here";
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

// The kernel refuses to take locked memory back.
TEST(Zero, WhereMemoryIsLocked) {
  const Outcome outcome = RunForked([] {
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) return kCannot;
    return CountDirty(16000, 1000, 50) + CountDirty(200000, 80, 8) == 0 ? 0 : 1;
  });
  if (outcome.exit_code == kCannot) GTEST_SKIP() << "memory cannot be locked here";
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
}

}  // namespace
