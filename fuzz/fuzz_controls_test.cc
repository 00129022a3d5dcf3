// SPDX-License-Identifier: Apache-2.0
//
// For each check of heap_ops_fuzzer and heap_threads_fuzzer, an allocator with a planted bug that they must notice; and
// tests of what inputs mean.
#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "allocator/test/heap_model.h"
#include "allocator/test/planted_bugs.h"
#include "allocator/test/test_random.h"
#include "fuzz/aligned_realloc_engine.h"
#include "fuzz/heap_engine.h"
#include "fuzz/op_mutator.h"
#include "fuzz/record.h"
#include "fuzz/threads_engine.h"

namespace hak_fuzz {
namespace {

using hak_test::AllocatorApi;
using hak_test::Bug;
using hak_test::HeapModel;
using hak_test::Oracle;
using hak_test::PlantBug;
using hak_test::Random;
using hak_test::Violation;
using Bytes = std::vector<uint8_t>;

// As many inputs as a fuzzer runs in well under a second.
constexpr uint64_t kInputs = 150;

Bytes RandomInput(uint64_t seed, size_t records) {
  Random random(seed);
  Bytes input(records * kRecord);
  for (uint8_t &byte : input) byte = static_cast<uint8_t>(random.Next());
  return input;
}

std::string Describe(const std::vector<Violation> &violations) {
  std::string text;
  for (const Violation &violation : violations) {
    text += std::string("[") + OracleName(violation.oracle) + "] " + violation.what + "\n";
  }
  return text;
}

// What the engine reports first; nothing after kInputs inputs.
std::vector<Violation> FindOnHeap(Bug bug) {
  for (uint64_t seed = 0; seed < kInputs; ++seed) {
    HeapEngine engine(PlantBug(bug));
    const Bytes input = RandomInput(seed, kHeapOpsMax);
    std::vector<Violation> found = engine.Run(input.data(), input.size());
    if (!found.empty()) return found;
  }
  return {};
}

struct Control {
  const char *name;
  Bug bug;
  Oracle oracle;
};

void PrintTo(const Control &control, std::ostream *out) { *out << control.name; }

class PlantedBug : public testing::TestWithParam<Control> {};

TEST_P(PlantedBug, IsFoundOnHeap) {
  const Control &control = GetParam();
  const std::vector<Violation> found = FindOnHeap(control.bug);
  ASSERT_FALSE(found.empty()) << control.name << " was not noticed";
  EXPECT_EQ(OracleName(found[0].oracle), std::string(OracleName(control.oracle))) << Describe(found);
}

INSTANTIATE_TEST_SUITE_P(EachOracle, PlantedBug,
                         testing::Values(Control{"Scribble", Bug::kScribble, Oracle::kContents},
                                         Control{"FailedReallocTouches", Bug::kFailedReallocTouches, Oracle::kContents},
                                         Control{"Overlap", Bug::kOverlap, Oracle::kOverlap},
                                         Control{"Duplicate", Bug::kDuplicate, Oracle::kOverlap},
                                         Control{"Misaligned", Bug::kMisaligned, Oracle::kAlignment},
                                         Control{"MisalignedAligned", Bug::kMisalignedAligned, Oracle::kAlignment},
                                         Control{"UsableTooSmall", Bug::kUsableTooSmall, Oracle::kUsable},
                                         Control{"UsableUnstable", Bug::kUsableUnstable, Oracle::kUsable},
                                         Control{"GoodSizeWrong", Bug::kGoodSizeWrong, Oracle::kUsable},
                                         Control{"ReallocLoses", Bug::kReallocLoses, Oracle::kRealloc},
                                         Control{"ReallocZeroKeeps", Bug::kReallocZeroKeeps, Oracle::kRealloc},
                                         Control{"InPlaceMoves", Bug::kInPlaceMoves, Oracle::kRealloc},
                                         Control{"DirtyCalloc", Bug::kDirtyCalloc, Oracle::kZero},
                                         Control{"MallocSetsErrno", Bug::kMallocSetsErrno, Oracle::kErrno},
                                         Control{"FreeSetsErrno", Bug::kFreeSetsErrno, Oracle::kErrno},
                                         Control{"WrongErrno", Bug::kWrongErrno, Oracle::kErrno},
                                         Control{"PosixWritesOut", Bug::kPosixWritesOut, Oracle::kErrno},
                                         Control{"PosixSetsErrno", Bug::kPosixSetsErrno, Oracle::kErrno},
                                         Control{"HugeSucceeds", Bug::kHugeSucceeds, Oracle::kOverflow},
                                         Control{"CallocWraps", Bug::kCallocWraps, Oracle::kOverflow},
                                         Control{"ReallocArrayWraps", Bug::kReallocArrayWraps, Oracle::kOverflow},
                                         Control{"TopAlignment", Bug::kTopAlignment, Oracle::kOverflow},
                                         Control{"OddAlignment", Bug::kOddAlignment, Oracle::kOverflow},
                                         Control{"StatsBlocks", Bug::kStatsBlocks, Oracle::kStatistics},
                                         Control{"StatsBytes", Bug::kStatsBytes, Oracle::kStatistics},
                                         Control{"LostFree", Bug::kLostFree, Oracle::kStatistics},
                                         Control{"VerifyFails", Bug::kVerifyFails, Oracle::kVerify},
                                         Control{"FailsAtRandom", Bug::kFailsAtRandom, Oracle::kAvailability},
                                         Control{"DirtyAligned", Bug::kDirtyAligned, Oracle::kZero},
                                         Control{"ReallocMisaligns", Bug::kReallocMisaligns, Oracle::kAlignment},
                                         Control{"AlignedReallocLoses", Bug::kAlignedReallocLoses, Oracle::kRealloc},
                                         Control{"VisitMisses", Bug::kVisitMisses, Oracle::kVisit},
                                         Control{"VisitFreed", Bug::kVisitFreed, Oracle::kVisit},
                                         Control{"VisitTwice", Bug::kVisitTwice, Oracle::kVisit},
                                         Control{"VisitSize", Bug::kVisitSize, Oracle::kVisit},
                                         Control{"MoveCounts", Bug::kMoveCounts, Oracle::kMove},
                                         Control{"MoveAll", Bug::kMoveAll, Oracle::kMove},
                                         Control{"NoCacheLoses", Bug::kNoCacheLoses, Oracle::kStatistics},
                                         Control{"OwnsDenies", Bug::kOwnsDenies, Oracle::kOwns},
                                         Control{"OwnsInside", Bug::kOwnsInside, Oracle::kOwns},
                                         Control{"OwnsFreed", Bug::kOwnsFreed, Oracle::kOwns}),
                         [](const testing::TestParamInfo<Control> &control) { return control.param.name; });

// Records that differ only in the slot, which counts up.
Bytes Row(HeapOp op, size_t kind, uint16_t size, uint8_t count, size_t records) {
  Bytes input;
  for (size_t i = 0; i < records; ++i) {
    const uint8_t record[kRecord] = {EncodeHeapOp(op),
                                     static_cast<uint8_t>(i % kHeapSlots),
                                     static_cast<uint8_t>(kind),
                                     1,
                                     static_cast<uint8_t>(size),
                                     static_cast<uint8_t>(size >> 8),
                                     0,
                                     count};
    input.insert(input.end(), record, record + kRecord);
  }
  return input;
}

// All memory is returned at the end: a trim that returns nothing.
TEST(PlantedBugOfRelease, TrimDoesNothing) {
  AllocatorApi api;
  api.trim = [](size_t) -> size_t { return 0; };
  HeapEngine engine(api);
  // As many blocks of a little more than 256 KiB as the budget allows.
  const Bytes input = Row(HeapOp::kMalloc, 216, 28700, 0, 24);
  const std::vector<Violation> found = engine.Run(input.data(), input.size());
  ASSERT_FALSE(found.empty());
  EXPECT_NE(found[0].what.find("mapped memory went from"), std::string::npos) << Describe(found);
  hak_trim(0);
}

// The caches are empty after a flush: one that does nothing.
TEST(PlantedBugOfRelease, FlushDoesNothing) {
  AllocatorApi api;
  api.thread_flush = [] {};
  HeapEngine engine(api);
  const Bytes input = Row(HeapOp::kMalloc, 88, 40, 0, 24);
  const std::vector<Violation> found = engine.Run(input.data(), input.size());
  ASSERT_FALSE(found.empty());
  EXPECT_NE(found[0].what.find("cached after thread_flush"), std::string::npos) << Describe(found);
}

// Some blocks, a record that makes the next eight mapping calls fail, and a call that needs a mapping: between guards,
// without guards, and both once more after all free memory was returned.
Bytes RefusedInput(HeapOp op) {
  Bytes input = Row(HeapOp::kMalloc, 88, 100, 0, 4);
  const uint8_t refuse[kRecord] = {EncodeHeapOp(HeapOp::kFault), 0, 1, 2, 0, 1, 4, 3};
  input.insert(input.end(), refuse, refuse + kRecord);
  // Over 1 MiB, so that new addresses are mapped.
  const Bytes calls = Row(op, 226, 30000, 1, 2);
  input.insert(input.end(), calls.begin(), calls.end());
  return input;
}

bool g_was_refused;

// What a failed memory call may cause.
TEST(PlantedBugOfRefusal, WrongCode) {
  AllocatorApi api;
  api.malloc = [](size_t size) {
    void *p = hak_malloc(size);
    if (p == nullptr && size < size_t{1} << 40) errno = EAGAIN;
    return p;
  };
  HeapEngine engine(api);
  const Bytes input = RefusedInput(HeapOp::kMalloc);
  const std::vector<Violation> found = engine.Run(input.data(), input.size());
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].oracle, Oracle::kFault) << Describe(found);
}

TEST(PlantedBugOfRefusal, FailedReallocChangesTheBlock) {
  AllocatorApi api;
  api.realloc = [](void *old, size_t size) {
    void *p = hak_realloc(old, size);
    if (p == nullptr && old != nullptr && size != 0 && size < size_t{1} << 40) *static_cast<unsigned char *>(old) ^= 1;
    return p;
  };
  HeapEngine engine(api);
  const Bytes input = RefusedInput(HeapOp::kRealloc);
  const std::vector<Violation> found = engine.Run(input.data(), input.size());
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].oracle, Oracle::kContents) << Describe(found);
}

TEST(PlantedBugOfRefusal, NoneIsFoundWithoutOne) {
  AllocatorApi api;
  g_was_refused = false;
  api.realloc = [](void *old, size_t size) {
    void *p = hak_realloc(old, size);
    if (p == nullptr) g_was_refused = true;
    return p;
  };
  HeapEngine engine(api);
  const Bytes input = RefusedInput(HeapOp::kRealloc);
  const std::vector<Violation> found = engine.Run(input.data(), input.size());
  EXPECT_TRUE(found.empty()) << Describe(found);
  EXPECT_TRUE(g_was_refused) << "no call was refused, so nothing was tested";
}

// The same calls have the same results: an allocator that depends on something else.
TEST(PlantedBugOfSameAgain, CountsCalls) {
  AllocatorApi api;
  api.zalloc = [](size_t size) {
    static unsigned calls = 0;
    return hak_zalloc(++calls % 7 == 0 ? size + 512 : size);
  };
  HeapEngine engine(api);
  const Bytes input = Row(HeapOp::kZalloc, 88, 100, 0, 24);
  const std::vector<Violation> found = engine.Run(input.data(), input.size());
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].oracle, Oracle::kSameAgain) << Describe(found);
}

// With AddressSanitizer a call that was not passed a live block may not touch any of its bytes, not even those behind
// the requested ones.
TEST(PlantedBugOfClosedBlocks, WritesIntoSlack) {
  if (HAK_TEST_ASAN == 0) GTEST_SKIP() << "only with AddressSanitizer";
  AllocatorApi api;
  api.malloc = [](size_t size) {
    static unsigned char *last;
    if (last != nullptr) {
      volatile unsigned char *slack = last + hak_usable_size(last) - 1;
      *slack = *slack;  // Unchanged, so that no other check could notice the write.
    }
    last = static_cast<unsigned char *>(hak_malloc(size));
    return static_cast<void *>(last);
  };
  HeapEngine engine(api);
  engine.CloseLiveBlocks();
  const Bytes input = Row(HeapOp::kMalloc, 88, 40, 0, 24);
  EXPECT_DEATH(engine.Run(input.data(), input.size()), "use-after-poison");
}

TEST(NoBug, NothingIsFound) {
  for (uint64_t seed = 0; seed < kInputs; ++seed) {
    HeapEngine engine(PlantBug(Bug::kNone));
    const Bytes input = RandomInput(seed, kHeapOpsMax);
    const std::vector<Violation> found = engine.Run(input.data(), input.size());
    ASSERT_TRUE(found.empty()) << "seed " << seed << "\n" << Describe(found);
  }
}

std::vector<Violation> FindOnThreads(Bug bug) {
  for (uint64_t seed = 0; seed < kInputs; ++seed) {
    HeapModel model(PlantBug(bug));
    const Bytes input = RandomInput(seed, kThreadsOpsMax);
    RunThreadsInput(&model, input.data(), input.size());
    if (!model.ok()) return model.violations();
  }
  return {};
}

TEST(Threads, PlantedBugsAreFound) {
  const std::vector<Violation> lost = FindOnThreads(Bug::kLostRemoteFree);
  ASSERT_FALSE(lost.empty());
  EXPECT_EQ(lost[0].oracle, Oracle::kStatistics) << Describe(lost);
  const std::vector<Violation> duplicate = FindOnThreads(Bug::kDuplicate);
  ASSERT_FALSE(duplicate.empty());
  // A block that was handed out before may be larger than this request's blocks, which is reported first.
  const auto is_overlap = [](const Violation &violation) { return violation.oracle == Oracle::kOverlap; };
  EXPECT_TRUE(std::any_of(duplicate.begin(), duplicate.end(), is_overlap)) << Describe(duplicate);
  const std::vector<Violation> scribble = FindOnThreads(Bug::kScribble);
  ASSERT_FALSE(scribble.empty());
  EXPECT_EQ(scribble[0].oracle, Oracle::kContents) << Describe(scribble);
}

// What aligned_realloc_fuzzer reports first on a variant of the allocator; "" for nothing.
std::string FindAligned(const AllocatorApi &api) {
  for (uint64_t seed = 0; seed < kInputs; ++seed) {
    const Bytes input = RandomInput(seed, 60);
    const std::vector<Violation> found = RunAlignedReallocInput(api, input.data(), input.size());
    if (!found.empty()) return OracleName(found[0].oracle);
  }
  return "";
}

TEST(AlignedRealloc, NothingPlanted) { EXPECT_EQ(FindAligned({}), ""); }

TEST(AlignedRealloc, LessAligned) {
  AllocatorApi api;
  api.memalign = [](size_t alignment, size_t size) { return hak_memalign(alignment > 4096 ? 4096 : alignment, size); };
  EXPECT_EQ(FindAligned(api), "alignment");
}

TEST(AlignedRealloc, ShrinkLosesTheLastByte) {
  AllocatorApi api;
  api.realloc = [](void *old, size_t size) {
    auto *p = static_cast<unsigned char *>(hak_realloc(old, size));
    if (p != nullptr && size > 0 && size < 100) p[size - 1] ^= 1;
    return static_cast<void *>(p);
  };
  EXPECT_EQ(FindAligned(api), "realloc");
}

TEST(AlignedRealloc, InPlaceSaysYesWithoutRoom) {
  AllocatorApi api;
  api.realloc_in_place = [](void *p, size_t) { return p; };
  EXPECT_EQ(FindAligned(api), "usable size");
}

TEST(AlignedRealloc, KeepsTheOldAlignment) {
  AllocatorApi api;
  api.aligned_realloc = [](void *old, size_t, size_t size) { return hak_realloc(old, size); };
  EXPECT_EQ(FindAligned(api), "alignment");
}

TEST(AlignedRealloc, CallocOfUsedMemory) {
  AllocatorApi api;
  api.aligned_calloc = [](size_t alignment, size_t count, size_t size) {
    auto *p = static_cast<unsigned char *>(hak_aligned_alloc(alignment, count * size));
    if (p != nullptr && count * size > 0) p[0] = 1;
    return static_cast<void *>(p);
  };
  EXPECT_EQ(FindAligned(api), "zero");
}

TEST(AlignedRealloc, ReallocSetsErrno) {
  AllocatorApi api;
  api.realloc = [](void *old, size_t size) {
    void *p = hak_realloc(old, size);
    errno = EAGAIN;
    return p;
  };
  EXPECT_EQ(FindAligned(api), "errno");
}

TEST(HeapInput, EveryCallHasItsBytes) {
  std::set<HeapOp> seen;
  for (int byte = 0; byte < 256; ++byte) seen.insert(DecodeHeapOp(static_cast<uint8_t>(byte)));
  EXPECT_EQ(seen.size(), static_cast<size_t>(HeapOp::kCount));
  for (size_t op = 0; op < static_cast<size_t>(HeapOp::kCount); ++op) {
    EXPECT_EQ(DecodeHeapOp(EncodeHeapOp(static_cast<HeapOp>(op))), static_cast<HeapOp>(op));
  }
}

TEST(HeapInput, SizesAreBiasedToEdges) {
  size_t at_edge = 0;
  size_t over_page = 0;
  std::set<size_t> sizes;
  constexpr size_t kRecords = 20000;
  const Bytes input = RandomInput(7, kRecords);
  for (size_t i = 0; i < kRecords; ++i) {
    const size_t size = DecodeSize(input.data() + i * kRecord);
    ASSERT_LE(size, size_t{4} << 20);
    sizes.insert(size);
    const size_t good = size == 0 ? 0 : hak_good_size(size);
    if (good == size || hak_good_size(size + 1) == size + 1 || (size > 0 && hak_good_size(size - 1) == size - 1)) {
      ++at_edge;
    }
    if (size > 4096) ++over_page;
  }
  EXPECT_GT(at_edge, kRecords / 2);
  EXPECT_GT(over_page, kRecords / 8);
  for (const size_t edge : {size_t{32} << 10, size_t{64} << 10, size_t{1} << 20, size_t{2} << 20}) {
    for (const size_t size : {edge - 1, edge, edge + 1}) EXPECT_EQ(sizes.count(size), 1U) << size;
  }
}

size_t Unchanged(uint8_t *, size_t size, size_t) { return size; }

TEST(Mutator, RecordsStayWhole) {
  constexpr size_t kMax = 50 * kRecord + 3;
  size_t all_strange = 0;
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    Random random(seed);
    Bytes input = RandomInput(seed, random.Index(51));
    const Bytes before = input;
    const size_t old_size = input.size();
    input.resize(kMax, 0xEE);
    const size_t size = MutateRecords(input.data(), old_size, kMax, seed, Unchanged);
    ASSERT_EQ(size % kRecord, 0U);
    ASSERT_GT(size, 0U);
    ASSERT_LE(size, kMax);
    input.resize(size);
    ASSERT_NE(input, before);

    const Bytes other = RandomInput(seed + 1, random.Index(51));
    Bytes out(kMax + 1, 0xEE);
    const size_t crossed =
        CrossRecords(before.data(), before.size(), other.data(), other.size(), out.data(), kMax, seed);
    ASSERT_EQ(crossed % kRecord, 0U);
    ASSERT_LE(crossed, kMax);
    ASSERT_EQ(out[kMax], 0xEE);
    out.resize(crossed);
    ASSERT_TRUE(before.empty() || other.empty() || (out != before && out != other));
    // The result has only records of the two inputs, and differs from both.
    std::set<Bytes> records;
    for (const Bytes *parent : {&before, &other}) {
      for (auto at = parent->begin(); at != parent->end(); at += kRecord) records.emplace(at, at + kRecord);
    }
    size_t strange = 0;
    for (size_t at = 0; at < crossed; at += kRecord) {
      const auto from = out.begin() + static_cast<ptrdiff_t>(at);
      if (records.count(Bytes(from, from + kRecord)) == 0) ++strange;
    }
    ASSERT_LE(strange, 1U);
    all_strange += strange;
  }
  EXPECT_LT(all_strange, 100U);
}

TEST(Mutator, ASingleRecordBecomesAnother) {
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    const Bytes a = RandomInput(seed, 1);
    const Bytes b = RandomInput(seed + 1, 1);
    Bytes input = a;
    ASSERT_EQ(MutateRecords(input.data(), kRecord, kRecord, seed, Unchanged), kRecord);
    ASSERT_NE(input, a);
    ASSERT_EQ(CrossRecords(a.data(), kRecord, b.data(), kRecord, input.data(), kRecord, seed), kRecord);
    ASSERT_TRUE(input != a && input != b);
  }
}

TEST(OneIn, ChoosesByTheBytesAndNotTwiceInARow) {
  OneIn always(1);
  OneIn seldom(16);
  OneIn other(16);
  size_t chosen = 0;
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    const Bytes input = RandomInput(seed, 2);
    EXPECT_TRUE(always.Chooses(input.data(), input.size()));
    const bool is = seldom.Chooses(input.data(), input.size());
    if (is) {
      ++chosen;
      EXPECT_FALSE(seldom.Chooses(input.data(), input.size()));
    }
    // A process that has not seen the input chooses the same.
    EXPECT_EQ(other.Chooses(input.data(), input.size()), is);
  }
  EXPECT_GT(chosen, 150U);
  EXPECT_LT(chosen, 350U);
}

TEST(Mutator, FitsIntoNoRoom) {
  uint8_t byte = 1;
  EXPECT_EQ(MutateRecords(&byte, 1, 1, 5, Unchanged), 0U);
  EXPECT_EQ(CrossRecords(&byte, 1, &byte, 1, &byte, 1, 5), 0U);
}

}  // namespace
}  // namespace hak_fuzz
