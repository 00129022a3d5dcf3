// SPDX-License-Identifier: Apache-2.0
#include "allocator/test/fault_scripts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <thread>

namespace hak_test {
namespace {

constexpr int kErrnoBefore = 4242;

}  // namespace

void Checked::Wrong(const char *what, size_t size) {
  dprintf(STDERR_FILENO, "%s (size %zu)\n", what, size);
  wrong_ = true;
}

void Checked::Malloc(size_t size) {
  errno = kErrnoBefore;
  void *p = api_.malloc(size);
  Take(p, size, errno);
}

void Checked::Calloc(size_t size) {
  errno = kErrnoBefore;
  auto *p = static_cast<unsigned char *>(api_.calloc(1, size));
  const int error = errno;
  if (p != nullptr && std::any_of(p, p + size, [](unsigned char c) { return c != 0; })) Wrong("calloc not zero", size);
  Take(p, size, error);
}

void Checked::Aligned(size_t alignment, size_t size) {
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

void Checked::Realloc(size_t index, size_t size) {
  if (index >= held_.size()) return;
  Held &held = held_[index];
  Check(held);
  errno = kErrnoBefore;
  auto *p = static_cast<unsigned char *>(api_.realloc(held.p, size));
  const int error = errno;
  if (p == nullptr) {
    Null(size, error);
    // A block that holds these bytes could have stayed in place.
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

void Checked::InPlace(size_t index, size_t size) {
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

void Checked::FreeLast() {
  if (held_.empty()) return;
  Free(held_.back());
  held_.pop_back();
}

void Checked::FreeEvery(size_t step) {
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

void Checked::FreeAllBut(size_t step) {
  std::vector<Held> kept;
  for (size_t i = 0; i < held_.size(); ++i) {
    if (i % step == 0) {
      kept.push_back(held_[i]);
    } else {
      Free(held_[i]);
    }
  }
  held_ = kept;
}

void Checked::FlushAndTrim() {
  errno = kErrnoBefore;
  api_.thread_flush();
  api_.trim(0);
  if (errno != kErrnoBefore) Wrong("flush or trim set errno", 0);
}

void Checked::Verify() {
  if (!api_.heap_verify()) Wrong("heap_verify", 0);
}

void Checked::Null(size_t size, int error) {
  ++nulls_;
  if (error != ENOMEM) Wrong("NULL without ENOMEM", size);
  if (hits_() == 0) Wrong("NULL though no call failed", size);
}

void Checked::Take(void *p, size_t size, int error) {
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

void Checked::Check(const Held &held) {
  for (size_t i = 0; i < held.size; ++i) {
    if (held.p[i] == held.tag) continue;
    Wrong("a live block changed", held.size);
    return;
  }
}

void Checked::Free(const Held &held) {
  Check(held);
  errno = kErrnoBefore;
  api_.free(held.p);
  if (errno != kErrnoBefore) Wrong("free set errno", held.size);
}

// ---- Scripts ------------------------------------------------------------------------------------

namespace {

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

// Blocks that cannot grow where they are, with no free memory to copy them to: the kernel moves their pages.
void Move(Checked *heap) {
  for (int i = 0; i < 3; ++i) heap->Malloc(4000000);
  heap->Realloc(0, 9000000);
  heap->Realloc(1, 11000000);
}

// Shrinks a large block to a medium one and to a small one, in a process that has neither yet.
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

// Memory that calloc considers zero because it was returned. If returning it failed, it is not zero.
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

// Threads get heaps, leave blocks, and end; other threads free the blocks.
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
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < 1100; ++i) heap->Malloc(4000);
    heap->FreeEvery(1);
    heap->FlushAndTrim();
  }
}

// The heap grows where the kernel has put nothing yet: in another 4 GiB, whose records do not exist.
void FarApart(Checked *heap) {
  constexpr size_t kApart = size_t{5} << 30;
  for (const size_t size : {4000U, 2000000U}) {
    for (size_t filled = 0; filled < 4400000; filled += size) heap->Malloc(size);
    // It may fail like all other calls, and so may its end. Then there is no distance.
    void *const between = mmap(nullptr, kApart, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t filled = 0; filled < 4400000; filled += size) heap->Malloc(size);
    if (between != MAP_FAILED) munmap(between, kApart);
    heap->FreeEvery(1);
    heap->FlushAndTrim();
  }
}

// Threads adopt slabs of ended threads with live blocks, and leave them to the next thread.
void Adoption(Checked *heap) {
  for (int t = 0; t < 4; ++t) {
    std::thread([heap] {
      for (size_t i = 0; i < 120; ++i) heap->Malloc(500);
      heap->FreeEvery(3);
      for (size_t i = 0; i < 60; ++i) heap->Malloc(500 + i);
      heap->FreeEvery(2);
    }).join();
  }
  heap->FlushAndTrim();
}

// Slabs that keep one block each: their free pages are returned while they stay in use.
void FreePages(Checked *heap) {
  for (size_t i = 0; i < 1200; ++i) heap->Malloc(1000);
  heap->FreeAllBut(60);
  heap->FlushAndTrim();
  for (size_t i = 0; i < 200; ++i) heap->Calloc(1000);
}

// Two large blocks that are freed and taken again, from free runs and from the thread's cache.
void TakenAgain(Checked *heap) {
  for (int round = 0; round < 3; ++round) {
    heap->Malloc(2000000);
    heap->Malloc(500000);
    heap->FreeEvery(1);
  }
  heap->Calloc(2000000);
  heap->Calloc(500000);
}

// Another thread has freed blocks in its cache, and a trim takes them.
void IdleThread(Checked *heap) {
  std::promise<void> filled;
  std::promise<void> trimmed;
  std::thread other([&] {
    for (size_t i = 0; i < 500; ++i) heap->Malloc(100);
    heap->FreeEvery(1);
    filled.set_value();
    trimmed.get_future().wait();
    for (size_t i = 0; i < 50; ++i) heap->Malloc(100);
  });
  filled.get_future().wait();
  heap->FlushAndTrim();
  for (size_t i = 0; i < 50; ++i) heap->Malloc(100);
  trimmed.set_value();
  other.join();
}

}  // namespace

const std::vector<Script> &Scripts() {
  static const std::vector<Script> *const scripts = new std::vector<Script>{
      {"FirstBlock", FirstBlock},
      {"SmallBlocks", SmallBlocks},
      {"LargeBlocks", LargeBlocks},
      {"GrowAndShrink", GrowAndShrink},
      {"Move", Move},
      {"Shrink", Shrink},
      {"InPlace", InPlace},
      {"Alignments", Alignments},
      {"ZeroAfterGivingBack", ZeroAfterGivingBack},
      {"Threads", Threads, true},
      {"FillAndEmpty", FillAndEmpty},
      {"FarApart", FarApart},
      {"Adoption", Adoption, true},
      {"FreePages", FreePages},
      {"TakenAgain", TakenAgain},
      {"IdleThread", IdleThread, true},
  };
  return *scripts;
}

const Script &ScriptNamed(const std::string &name) {
  for (const std::vector<Script> *scripts : {&Scripts(), &ProcessScripts()}) {
    for (const Script &script : *scripts) {
      if (name == script.name) return script;
    }
  }
  fprintf(stderr, "no script has the name %s\n", name.c_str());
  abort();
}

// ---- One run ------------------------------------------------------------------------------------

namespace {

Accounts AccountsNow(const AllocatorApi &api) {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  if (api.stats_get(&stats) != 0) abort();
  Accounts now;
  now.live_blocks = stats.live_blocks;
  now.live_bytes = stats.live_bytes;
  now.large_blocks = stats.large_blocks;
  now.cached_blocks = stats.cached_blocks;
  now.slabs_used = stats.slabs_used;
  now.superslabs = stats.superslabs;
  now.committed = stats.committed_bytes;
  now.mapped = stats.mapped_bytes;
  now.metadata = stats.metadata_bytes;
  return now;
}

}  // namespace

std::string Text(const Accounts &a) {
  char text[400];
  snprintf(
      text, sizeof text,
      "live %llu of %llu bytes, large %llu, cached %llu, slabs %llu, superslabs %llu, committed %llu, mapped %llu, "
      "metadata %llu",
      a.live_blocks, a.live_bytes, a.large_blocks, a.cached_blocks, a.slabs_used, a.superslabs, a.committed, a.mapped,
      a.metadata);
  return text;
}

std::string Difference(const Accounts &faulty, const Accounts &usual) {
  // Which pages of records are free at the end depends on the order in which records were taken and freed.
  const auto pages = std::max<unsigned long long>(131072, 4 * static_cast<unsigned long long>(sysconf(_SC_PAGESIZE)));
  Accounts same = faulty;
  if (same.committed <= usual.committed + pages && usual.committed <= same.committed + pages) {
    same.committed = usual.committed;
  }
  return Text(same) == Text(usual) ? "" : Text(faulty) + "; without faults " + Text(usual);
}

int RunScript(const Script &script, const Faults &faults, const AllocatorApi &api) {
  Checked heap(api, faults.hits);
  faults.begin();
  script.run(&heap);
  heap.Verify();
  const uint64_t hits = faults.hits();
  const size_t nulls = heap.nulls();
  // System calls succeed again, so requests must succeed too: Null() reports a NULL now, because no call has failed.
  faults.end();
  for (const unsigned size : {100U, 5000U, 40000U, 300000U, 3000000U}) {
    heap.Malloc(size);
    heap.Calloc(size);
    heap.Realloc(heap.held().size() - 1, size_t{size} * 2);
  }
  heap.FreeEvery(1);
  heap.Verify();
  heap.FlushAndTrim();
  heap.Verify();
  const Accounts now = AccountsNow(api);
  if (now.live_blocks != 0 || now.live_bytes != 0) heap.Wrong("blocks live after all were freed", now.live_blocks);
  dprintf(STDOUT_FILENO, "hits %llu nulls %zu: %s\n", static_cast<unsigned long long>(hits), nulls, Text(now).c_str());
  return heap.wrong() ? 1 : 0;
}

int RunScript(const Script &script, const Plan &plan, const Plan &second, const AllocatorApi &api) {
  const Faults faults = {[&] {
                           if (plan.kinds != 0) hak_fault_set(plan.kinds, plan.nth, plan.count);
                           if (second.kinds != 0) hak_fault_also(second.kinds, second.nth, second.count);
                         },
                         [] { hak_fault_set(HAK_FAULT_ALL, UINT64_MAX, 1); }, hak_fault_hits};
  return RunScript(script, faults, api);
}

// HARDENED says this of a plan that refuses a guard page.
constexpr const char *kNoGuards =
    "hakmem: the kernel has refused a guard page: from now on blocks may go without them\n";

// The same in the program and in its children.
static bool SaysNothingElse(std::string text) {
  const std::string line = kNoGuards;
  while (text.rfind(line, 0) == 0) text.erase(0, line.size());
  return text.empty();
}

Result ResultOf(const Outcome &outcome) {
  Result result;
  result.outcome = outcome;
  unsigned long long hits = 0;
  Accounts &a = result.accounts;
  const int read = sscanf(outcome.out.c_str(),
                          "hits %llu nulls %zu: live %llu of %llu bytes, large %llu, cached %llu, slabs %llu, "
                          "superslabs %llu, committed %llu, mapped %llu, metadata %llu",
                          &hits, &result.nulls, &a.live_blocks, &a.live_bytes, &a.large_blocks, &a.cached_blocks,
                          &a.slabs_used, &a.superslabs, &a.committed, &a.mapped, &a.metadata);
  result.good = read == 11 && outcome.exit_code == 0 && SaysNothingElse(outcome.err);
  result.hits = hits;
  return result;
}

Result RunPlan(const Script &script, const Plan &plan, const AllocatorApi &api, const Plan &second) {
  return ResultOf(RunForked(
      [&] {
        _exit(RunScript(script, plan, second, api));
        return 0;
      },
      30));
}

}  // namespace hak_test
