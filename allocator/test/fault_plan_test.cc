// SPDX-License-Identifier: Apache-2.0
//
// Every way of running out of memory: on short scripts the k-th memory call to the operating system fails, for each k
// there is, alone and with all that come after it. A request may then give NULL with ENOMEM, and nothing else may go
// wrong: what is live keeps its bytes, the heap verifies, and once calls succeed again so do requests.
//
// Each run is a forked process, so that it starts with an allocator nobody has used.
#include <errno.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/test/allocator_api.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr int kErrnoBefore = 4242;
constexpr uint64_t kForEver = UINT64_MAX;

// The calls of a script, checked. A violation is written to stderr and remembered.
class Checked {
 public:
  struct Held {
    unsigned char *p = nullptr;
    size_t size = 0;
    unsigned char tag = 0;
  };

  explicit Checked(const AllocatorApi &api) : api_(api) {}

  void Wrong(const char *what, size_t size) {
    dprintf(STDERR_FILENO, "%s (size %zu)\n", what, size);
    wrong_ = true;
  }
  bool wrong() const { return wrong_; }
  size_t nulls() const { return nulls_; }
  std::vector<Held> &held() { return held_; }

  void Malloc(size_t size) {
    errno = kErrnoBefore;
    void *p = api_.malloc(size);
    Take(p, size, errno);
  }
  void Calloc(size_t size) {
    errno = kErrnoBefore;
    auto *p = static_cast<unsigned char *>(api_.calloc(1, size));
    const int error = errno;
    if (p != nullptr && std::any_of(p, p + size, [](unsigned char c) { return c != 0; }))
      Wrong("calloc not zero", size);
    Take(p, size, error);
  }
  void Aligned(size_t alignment, size_t size) {
    errno = kErrnoBefore;
    void *p = api_.aligned_alloc(alignment, size);
    const int error = errno;
    if (reinterpret_cast<uintptr_t>(p) % alignment != 0) Wrong("not aligned", size);
    Take(p, size, error);
    void *out = this;
    errno = kErrnoBefore;
    const int code = api_.posix_memalign(&out, alignment, size);
    if (code != 0) {
      if (code != ENOMEM || errno != kErrnoBefore || out != this) Wrong("posix_memalign failed badly", size);
      out = nullptr;
    }
    Take(out, size, code == 0 ? kErrnoBefore : code);
  }
  void Realloc(size_t index, size_t size) {
    if (index >= held_.size()) return;
    Held &held = held_[index];
    Check(held);
    errno = kErrnoBefore;
    auto *p = static_cast<unsigned char *>(api_.realloc(held.p, size));
    const int error = errno;
    if (p == nullptr) {
      Null(size, error);
      // What holds the bytes already could have stayed as it is.
      if (size <= held.size) Wrong("realloc to a smaller size failed", size);
      Check(held);
      return;
    }
    if (error != kErrnoBefore) Wrong("realloc succeeded and set errno", size);
    held.p = p;
    held.size = std::min(held.size, size);
    Check(held);
    held.size = size;
    memset(held.p, held.tag, size);
  }
  void InPlace(size_t index, size_t size) {
    if (index >= held_.size()) return;
    Held &held = held_[index];
    errno = kErrnoBefore;
    const bool done = api_.realloc_in_place(held.p, size) != nullptr;
    if (errno != kErrnoBefore) Wrong("realloc_in_place set errno", size);
    if (done) held.size = std::min(held.size, size);
    Check(held);
    if (!done) return;
    held.size = size;
    memset(held.p, held.tag, size);
  }
  void FreeLast() {
    if (held_.empty()) return;
    Free(held_.back());
    held_.pop_back();
  }
  void FreeEvery(size_t step) {
    std::vector<Held> kept;
    for (size_t i = 0; i < held_.size(); ++i) {
      if (i % step == 0) {
        Free(held_[i]);
      } else {
        kept.push_back(held_[i]);
      }
    }
    held_ = kept;
  }
  void FlushAndTrim() {
    errno = kErrnoBefore;
    api_.thread_flush();
    api_.trim(0);
    if (errno != kErrnoBefore) Wrong("flush or trim set errno", 0);
  }
  void Verify() {
    if (!api_.heap_verify()) Wrong("heap_verify", 0);
  }

 private:
  void Null(size_t size, int error) {
    ++nulls_;
    if (error != ENOMEM) Wrong("NULL without ENOMEM", size);
    if (hak_fault_hits() == 0) Wrong("NULL though no call failed", size);
  }
  void Take(void *p, size_t size, int error) {
    if (p == nullptr) {
      Null(size, error);
      return;
    }
    if (error != kErrnoBefore) Wrong("success set errno", size);
    Held held = {static_cast<unsigned char *>(p), size, ++next_tag_};
    if (held.tag == 0) held.tag = ++next_tag_;
    memset(p, held.tag, size);
    held_.push_back(held);
  }
  void Check(const Held &held) {
    for (size_t i = 0; i < held.size; ++i) {
      if (held.p[i] == held.tag) continue;
      Wrong("a live block changed", held.size);
      return;
    }
  }
  void Free(const Held &held) {
    Check(held);
    errno = kErrnoBefore;
    api_.free(held.p);
    if (errno != kErrnoBefore) Wrong("free set errno", held.size);
  }

  AllocatorApi api_;
  std::vector<Held> held_;
  size_t nulls_ = 0;
  unsigned char next_tag_ = 0;
  bool wrong_ = false;
};

// ---- Scripts
// -----------------------------------------------------------------------------------------------------------

struct Script {
  const char *name;
  void (*run)(Checked *heap);
};

void FirstBlock(Checked *heap) { heap->Malloc(100); }

void SmallBlocks(Checked *heap) {
  for (size_t i = 0; i < 1500; ++i) heap->Malloc(16 + i * 37 % 3000);
  heap->FreeEvery(3);
  for (size_t i = 0; i < 300; ++i) heap->Malloc(16 + i * 11 % 500);
  heap->FreeEvery(1);
  heap->FlushAndTrim();
  for (size_t i = 0; i < 200; ++i) heap->Malloc(64);
}

void LargeBlocks(Checked *heap) {
  for (int round = 0; round < 2; ++round) {
    for (const unsigned kib : {64U, 300U, 900U, 1024U, 2048U, 3000U}) heap->Malloc(size_t{kib} * 1024 + 1);
    heap->FreeEvery(2);
    for (const unsigned kib : {40U, 128U, 2048U}) heap->Malloc(size_t{kib} * 1024);
    heap->FreeEvery(1);
    heap->FlushAndTrim();
  }
}

void GrowAndShrink(Checked *heap) {
  heap->Malloc(100);
  heap->Malloc(70000);
  heap->Malloc(3000000);
  for (const unsigned size : {1000U, 40000U, 200000U, 1500000U, 4000000U, 1100000U, 100000U, 10U}) {
    for (size_t i = 0; i < 3; ++i) heap->Realloc(i, size + i);
  }
}

// From a mapping to a span and to a small block, in a process that has neither yet.
void Shrink(Checked *heap) {
  heap->Malloc(3000000);
  heap->Malloc(3000000);
  heap->Realloc(0, 300000);
  heap->Realloc(1, 100);
  heap->Realloc(0, 100);
}

void InPlace(Checked *heap) {
  heap->Malloc(200000);
  heap->Malloc(4000000);
  for (const unsigned size : {150000U, 190000U, 900000U, 2500000U, 3900000U, 5000000U}) {
    for (size_t i = 0; i < 2; ++i) heap->InPlace(i, size);
  }
}

void Alignments(Checked *heap) {
  for (const unsigned shift : {6U, 12U, 16U, 20U, 21U, 23U}) {
    heap->Aligned(size_t{1} << shift, 100);
    heap->Aligned(size_t{1} << shift, 70000);
  }
  heap->FreeEvery(2);
  heap->FlushAndTrim();
}

// Memory that calloc takes for zero because it was given back: it is not, when giving back has failed.
void ZeroAfterGivingBack(Checked *heap) {
  for (int round = 0; round < 3; ++round) {
    for (const unsigned size : {5000U, 30000U, 70000U, 500000U, 1100000U, 3000000U}) heap->Malloc(size);
    for (size_t i = 0; i < 300; ++i) heap->Malloc(1000);
    heap->FreeEvery(1);
    heap->FlushAndTrim();
    for (const unsigned size : {5000U, 30000U, 70000U, 500000U, 1100000U, 3000000U}) heap->Calloc(size);
    for (size_t i = 0; i < 300; ++i) heap->Calloc(1000);
    heap->FreeEvery(1);
  }
}

// Threads get a heap, leave blocks and end; the blocks are freed by others.
void Threads(Checked *heap) {
  for (int t = 0; t < 3; ++t) {
    std::thread([heap] {
      for (size_t i = 0; i < 200; ++i) heap->Malloc(16 + i * 13 % 2000);
      heap->FreeEvery(2);
    }).join();
    for (size_t i = 0; i < 50; ++i) heap->Malloc(100);
    heap->FreeEvery(2);
  }
}

void FillAndEmpty(Checked *heap) {
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < 1600; ++i) heap->Malloc(4000);
    heap->FreeEvery(1);
    heap->FlushAndTrim();
  }
}

constexpr Script kScripts[] = {
    {"FirstBlock", FirstBlock},
    {"SmallBlocks", SmallBlocks},
    {"LargeBlocks", LargeBlocks},
    {"GrowAndShrink", GrowAndShrink},
    {"InPlace", InPlace},
    {"Alignments", Alignments},
    {"ZeroAfterGivingBack", ZeroAfterGivingBack},
    {"Threads", Threads},
    {"FillAndEmpty", FillAndEmpty},
    {"Shrink", Shrink},
};

// ---- One run
// -----------------------------------------------------------------------------------------------------------

struct Plan {
  uint32_t kinds;
  uint64_t nth;
  uint64_t count;
};

struct Result {
  bool good = false;
  bool hit = false;  // the plan made a call fail
  size_t nulls = 0;
  Outcome outcome;
};

Result RunPlan(const Script &script, const Plan &plan, const AllocatorApi &api) {
  Result result;
  result.outcome = RunForked(
      [&] {
        Checked heap(api);
        hak_fault_set(plan.kinds, plan.nth, plan.count);
        script.run(&heap);
        heap.Verify();
        const uint64_t hits = hak_fault_hits();
        const size_t nulls = heap.nulls();
        hak_fault_clear();
        // Calls succeed again, and so must requests: NULL is wrong now, and Null() says so since no call has failed.
        hak_fault_set(HAK_FAULT_ALL, UINT64_MAX, 1);
        for (const unsigned size : {100U, 5000U, 40000U, 300000U, 3000000U}) {
          heap.Malloc(size);
          heap.Calloc(size);
          heap.Realloc(heap.held().size() - 1, size_t{size} * 2);
        }
        hak_fault_clear();
        heap.FreeEvery(1);
        heap.Verify();
        heap.FlushAndTrim();
        heap.Verify();
        hak_stats stats = {};
        stats.version = HAK_STATS_VERSION;
        if (api.stats_get(&stats) != 0 || stats.live_blocks != 0 || stats.live_bytes != 0) {
          heap.Wrong("blocks live after all were freed", static_cast<size_t>(stats.live_blocks));
        }
        dprintf(STDOUT_FILENO, "%llu %zu\n", static_cast<unsigned long long>(hits), nulls);
        _exit(heap.wrong() ? 1 : 0);
        return 0;
      },
      30);
  result.good = result.outcome.exit_code == 0 && result.outcome.err.empty();
  unsigned long long hits = 0;
  if (sscanf(result.outcome.out.c_str(), "%llu %zu", &hits, &result.nulls) != 2) result.good = false;
  result.hit = hits > 0;
  return result;
}

// The most calls that any script makes before the test gives up on reaching its end.
constexpr uint64_t kMostCalls = 400;
// Every call is tried. ThreadSanitizer multiplies the time and has nothing to find in one thread: every fifth there.
constexpr uint64_t kStep = HAK_TEST_TSAN ? 5 : 1;

void PrintTo(const Script &script, std::ostream *out) { *out << script.name; }

class FaultPlan : public testing::TestWithParam<Script> {};

TEST_P(FaultPlan, WithoutFaults) {
  const Result result = RunPlan(GetParam(), {HAK_FAULT_ALL, UINT64_MAX, 1}, AllocatorApi{});
  EXPECT_TRUE(result.good) << result.outcome;
  EXPECT_FALSE(result.hit);
  EXPECT_EQ(result.nulls, 0U);
}

TEST_P(FaultPlan, EveryCallFailsOnce) {
  uint64_t nth = 1;
  for (; nth <= kMostCalls; nth += kStep) {
    const Result result = RunPlan(GetParam(), {HAK_FAULT_ALL, nth, 1}, AllocatorApi{});
    ASSERT_TRUE(result.good) << "call " << nth << " fails: " << result.outcome;
    if (!result.hit) break;
  }
  EXPECT_GT(nth, 1U) << "the script makes no call to the operating system";
  EXPECT_LE(nth, kMostCalls) << "the script makes too many calls to try each";
}

TEST_P(FaultPlan, AllCallsFailFromOneOn) {
  uint64_t nth = 1;
  size_t nulls = 0;
  for (; nth <= kMostCalls; nth += kStep) {
    const Result result = RunPlan(GetParam(), {HAK_FAULT_ALL, nth, kForEver}, AllocatorApi{});
    ASSERT_TRUE(result.good) << "calls fail from the " << nth << "th on: " << result.outcome;
    nulls += result.nulls;
    if (!result.hit) break;
  }
  EXPECT_LE(nth, kMostCalls) << "the script makes too many calls to try each";
  // With no memory from the first call on there is nothing a request could be met with.
  EXPECT_GT(nulls, 0U);
}

TEST_P(FaultPlan, OneKindFailsAlways) {
  for (const uint32_t kind : {HAK_FAULT_MAP, HAK_FAULT_COMMIT, HAK_FAULT_DECOMMIT, HAK_FAULT_UNMAP, HAK_FAULT_REMAP}) {
    const Result result = RunPlan(GetParam(), {kind, 1, kForEver}, AllocatorApi{});
    EXPECT_TRUE(result.good) << "all calls of kind " << kind << " fail: " << result.outcome;
    // Giving memory back cannot be the reason for a refusal.
    if (kind == HAK_FAULT_DECOMMIT || kind == HAK_FAULT_UNMAP || kind == HAK_FAULT_REMAP) {
      EXPECT_EQ(result.nulls, 0U) << "kind " << kind;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Scripts, FaultPlan, testing::ValuesIn(kScripts),
                         [](const testing::TestParamInfo<Script> &tested) { return std::string(tested.param.name); });

// The kinds that the scripts are about do occur; otherwise the runs above would have tried nothing.
TEST(FaultKinds, AreReached) {
  for (const uint32_t kind : {HAK_FAULT_MAP, HAK_FAULT_DECOMMIT, HAK_FAULT_UNMAP, HAK_FAULT_REMAP}) {
    bool hit = false;
    for (const Script &script : kScripts) {
      hit = hit || RunPlan(script, {kind, 1, kForEver}, AllocatorApi{}).hit;
    }
    EXPECT_TRUE(hit) << "no script makes a call of kind " << kind;
  }
}

// ---- Positive controls
// ---------------------------------------------------------------------------------------------------

// True from the moment a call to the operating system has failed.
bool Starved() { return hak_fault_hits() > 0; }

AllocatorApi WrongErrno() {
  AllocatorApi api;
  api.malloc = [](size_t size) {
    void *p = hak_malloc(size);
    if (p == nullptr) errno = EAGAIN;
    return p;
  };
  return api;
}

AllocatorApi FailedReallocTouches() {
  AllocatorApi api;
  api.realloc = [](void *old, size_t size) {
    void *p = hak_realloc(old, size);
    if (p == nullptr) static_cast<unsigned char *>(old)[0] ^= 1;
    return p;
  };
  return api;
}

AllocatorApi FreeSetsErrno() {
  AllocatorApi api;
  api.free = [](void *p) {
    hak_free(p);
    if (Starved()) errno = ENOMEM;
  };
  return api;
}

AllocatorApi DirtyCalloc() {
  AllocatorApi api;
  api.calloc = [](size_t count, size_t size) {
    void *p = hak_calloc(count, size);
    if (p != nullptr && Starved()) memset(p, 0xDB, 1);
    return p;
  };
  return api;
}

bool g_given_up;

AllocatorApi GivesUpForEver() {
  AllocatorApi api;
  api.malloc = [](size_t size) {
    void *p = g_given_up ? nullptr : hak_malloc(size);
    if (p == nullptr) {
      g_given_up = true;
      errno = ENOMEM;
    }
    return p;
  };
  return api;
}

AllocatorApi LosesBlocks() {
  AllocatorApi api;
  api.free = [](void *p) {
    if (!Starved()) hak_free(p);
  };
  return api;
}

AllocatorApi VerifyFails() {
  AllocatorApi api;
  api.heap_verify = [] { return !Starved() && hak_heap_verify(); };
  return api;
}

TEST(PlantedBug, IsFound) {
  const struct {
    const char *name;
    AllocatorApi api;
    const Script *script;
  } controls[] = {
      {"WrongErrno", WrongErrno(), &kScripts[2]},
      {"FailedReallocTouches", FailedReallocTouches(), &kScripts[3]},
      {"FreeSetsErrno", FreeSetsErrno(), &kScripts[2]},
      {"DirtyCalloc", DirtyCalloc(), &kScripts[6]},
      {"GivesUpForEver", GivesUpForEver(), &kScripts[2]},
      {"LosesBlocks", LosesBlocks(), &kScripts[2]},
      {"VerifyFails", VerifyFails(), &kScripts[0]},
  };
  for (const auto &control : controls) {
    bool found = false;
    for (uint64_t nth = 1; nth <= 40 && !found; ++nth) {
      for (const uint64_t count : {uint64_t{1}, kForEver}) {
        const Result result = RunPlan(*control.script, {HAK_FAULT_ALL, nth, count}, control.api);
        found = found || result.outcome.exit_code == 1;
      }
    }
    EXPECT_TRUE(found) << control.name << " was not noticed";
  }
}

}  // namespace
}  // namespace hak_test
