// SPDX-License-Identifier: Apache-2.0
//
// Empties the caches of threads that are not idle at all. The oracle knows who holds each block. A run ends if a block
// is handed out that another thread holds, or if no one has a block in the end. Positive controls: the same run with a
// thief that omits a step of the protocol must be caught.
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "allocator/block/unit_test.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/test_owner.h"
#include "allocator/heap/test_pause.h"
#include "allocator/heap/test_thief.h"
#include "allocator/os/barrier.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_pool_stats.h"

namespace {

using hak_unit::Owner;
using hak_unit::Random;
using hak_unit::Thief;
using hak_unit::ThiefCopy;

constexpr uint32_t kClasses[] = {1, 4, 9};
constexpr size_t kOwners = 3;
constexpr size_t kShared = 64;
constexpr size_t kMostHeld = 3000;
constexpr int kSteps = 100000;
constexpr int kSlowSteps = 3000;  // where owners and thieves pause

// Exit codes of a run.
enum Code { kGood = 0, kTwice = 10, kNotHeld = 11, kOverwritten = 12, kLost = 13, kNoMemory = 14, kIdle = 15 };
constexpr unsigned kAlarmSeconds = 100;

// ---- Oracle -------------------------------------------------------------------------------------

// Who holds each block: 0 means nobody, otherwise the number of an owner. All relaxed: the oracle must not order
// anything, so that ThreadSanitizer sees only the allocator's own ordering.
class Holders {
 public:
  void Take(void *block, uint32_t who) {
    if (Of(block).exchange(who, std::memory_order_relaxed) != 0) _exit(kTwice);
    hak_unit::BeginUse(block, hak_slab_map_find(block));
    memcpy(block, &who, sizeof who);
  }
  void Give(void *block, uint32_t who) {
    uint32_t there;
    memcpy(&there, block, sizeof there);
    if (there != who) _exit(kOverwritten);
    memset(block, 0xEE, 8);
    hak_unit::EndUse(block, hak_slab_map_find(block));
    if (Of(block).exchange(0, std::memory_order_relaxed) != who) _exit(kNotHeld);
  }
  // Passes the block from one holder to another. Called by the holder.
  void Pass(void *block, uint32_t from, uint32_t to) {
    if (Of(block).exchange(to, std::memory_order_relaxed) != from) _exit(kNotHeld);
    memcpy(block, &to, sizeof to);
  }

 private:
  struct Region {
    std::atomic<uintptr_t> base;
    std::atomic<uint32_t> *holders;
  };
  static constexpr size_t kRegions = 256;
  static constexpr size_t kSlots = HAK_SUPERSLAB_SIZE / HAK_MIN_ALIGN;

  std::atomic<uint32_t> &Of(void *block) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(block);
    const uintptr_t base = address & ~(HAK_SUPERSLAB_SIZE - 1);
    return Find(base)->holders[(address - base) / HAK_MIN_ALIGN];
  }
  Region *Find(uintptr_t base) {
    for (Region &region : regions_) {
      const uintptr_t there = region.base.load(std::memory_order_acquire);
      if (there == base) return &region;
      if (there == 0) break;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Region &region : regions_) {
      const uintptr_t there = region.base.load(std::memory_order_acquire);
      if (there == base) return &region;
      if (there != 0) continue;
      region.holders = new std::atomic<uint32_t>[kSlots]();
      region.base.store(base, std::memory_order_release);
      return &region;
    }
    abort();
  }

  std::mutex mutex_;
  Region regions_[kRegions] = {};
};

// ---- Owners -------------------------------------------------------------------------------------

struct Shared {
  Holders holders;
  std::atomic<void *> exchange[kShared] = {};  // held by kInExchange
  std::atomic<bool> stop{false};
  std::atomic<uint32_t> running{0};
};
constexpr uint32_t kInExchange = 1000;

// Behaves like a program that is sometimes busy and sometimes not: bursts of one class, the top up and down over the
// same slots, blocks to and from other threads, pauses of every length.
class Program {
 public:
  // A slow one may be delayed in the middle of any operation.
  Program(Shared *shared, uint32_t who, bool slow) : shared_(shared), who_(who), slow_(slow), random_(who) { Begin(); }

  void Run(int steps) {
    for (int step = 0; step < steps && !shared_->stop; step++) Step();
    while (!held_.empty()) FreeLast();
  }

 private:
  void Begin() {
    owner_.reset();
    owner_ = std::make_unique<Owner>();
    if (slow_) owner_->PauseWith(hak_test_pause_seldom);
  }
  void Malloc(uint32_t class_id) {
    void *block = owner_->Malloc(class_id);
    if (block == nullptr) _exit(kNoMemory);
    shared_->holders.Take(block, who_);
    held_.push_back(block);
  }
  void Free(void *block) {
    shared_->holders.Give(block, who_);
    owner_->Free(block);
  }
  void FreeLast() {
    Free(held_.back());
    held_.pop_back();
  }
  // At full speed: the oracle checks only in the middle.
  void Swing(uint32_t class_id, uint32_t swing) {
    void *blocks[12];
    for (uint32_t i = 0; i < swing; i++) {
      blocks[i] = owner_->Malloc(class_id);
      if (blocks[i] == nullptr) _exit(kNoMemory);
    }
    for (uint32_t i = 0; i < swing; i++) shared_->holders.Take(blocks[i], who_);
    for (uint32_t i = 0; i < swing; i++) shared_->holders.Give(blocks[i], who_);
    for (uint32_t i = 0; i < swing; i++) owner_->Free(blocks[i]);
  }
  void Exchange() {
    if (held_.empty()) return;
    void *mine = held_.back();
    held_.pop_back();
    shared_->holders.Pass(mine, who_, kInExchange);
    void *theirs = shared_->exchange[random_.Below(kShared)].exchange(mine, std::memory_order_acq_rel);
    if (theirs == nullptr) return;
    shared_->holders.Pass(theirs, kInExchange, who_);
    Free(theirs);
  }
  void Step() {
    const uint32_t class_id = kClasses[random_.Below(std::size(kClasses))];
    const uint32_t depth = 1 + random_.Below(random_.OneIn(4) ? 400 : 40);
    // A slow one stays near the few slots that it has.
    switch (slow_ && !random_.OneIn(8) ? 4 : random_.Below(10)) {
      case 0:
      case 1:
        for (uint32_t i = 0; i < depth && held_.size() < kMostHeld; i++) Malloc(class_id);
        break;
      case 2:
      case 3:
        for (uint32_t i = 0; i < depth && !held_.empty(); i++) FreeLast();
        break;
      case 4:
        for (uint32_t turn = random_.Below(60); turn > 0; turn--) Swing(class_id, 1 + random_.Below(12));
        break;
      case 5:
        for (uint32_t turn = random_.Below(60); turn > 0; turn--) {
          const uint32_t swing = 1 + random_.Below(6);
          for (uint32_t i = 0; i < swing; i++) Malloc(class_id);
          for (uint32_t i = 0; i < swing; i++) FreeLast();
        }
        break;
      case 6:
        for (uint32_t i = 0; i < depth; i++) Exchange();
        break;
      case 7:
        hak_test_spin(random_.Below(20000));
        break;
      case 8:
        std::this_thread::yield();
        break;
      default:
        if (random_.OneIn(200)) {  // The thread ends and another one begins; it keeps the blocks that it holds.
          Begin();
        } else if (random_.OneIn(4)) {
          usleep(random_.Below(300));
        }
    }
  }

  Shared *const shared_;
  const uint32_t who_;
  const bool slow_;
  Random random_;
  std::unique_ptr<Owner> owner_;
  std::vector<void *> held_;
};

// ---- Thieves ------------------------------------------------------------------------------------

struct Visit {
  explicit Visit(Thief k) : kind(k), copy(k) {}
  Thief kind;
  ThiefCopy copy;
  Random random{7};
  uint64_t taken = 0;
};

uint32_t Steal(Visit *visit, hak_heap *heap) {
  if (visit->kind == Thief::kReal) return hak_idle_cache_steal(heap, 1, 0);
  return visit->kind == Thief::kSlowReal ? hak_test_slow_steal(heap, 1, 0) : visit->copy.Steal(heap);
}

// Visits heaps like the reclaim work (reclaim.c).
void VisitHeap(hak_heap *heap, void *context) {
  auto *visit = static_cast<Visit *>(context);
  visit->taken += Steal(visit, heap);
  if (visit->random.OneIn(8)) hak_idle_cache_trip(heap);
  if (visit->random.OneIn(4)) hak_remote_drain(heap);
  if (visit->random.OneIn(4)) hak_heap_release_empty(heap);
}

// ---- Runs ---------------------------------------------------------------------------------------

// The process ends with a code other than kGood when the oracle catches something.
Code Run(Visit *visit) {
  const bool slow = visit->kind != Thief::kReal;
  const int steps = hak_unit::Operations(slow ? kSlowSteps : kSteps);
  hak_config.thread_cache_bytes = slow ? 0 : size_t{4} << 20;
  auto shared = std::make_unique<Shared>();
  std::vector<std::thread> threads;
  shared->running = kOwners;
  for (uint32_t i = 0; i < kOwners; i++) {
    threads.emplace_back([&shared, i, slow, steps] {
      // One of them always runs at full speed.
      Program(shared.get(), i + 1, slow && i != 0).Run(steps);
      shared->running.fetch_sub(1);
    });
  }
  while (shared->running != 0) {
    if (!hak_heap_visit_next(VisitHeap, visit) || visit->random.OneIn(8)) std::this_thread::yield();
  }
  for (std::thread &thread : threads) thread.join();
  for (std::atomic<void *> &slot : shared->exchange) {
    void *block = slot.exchange(nullptr);
    if (block == nullptr) continue;
    shared->holders.Give(block, kInExchange);
    hak_give_back(nullptr, &block, 1);
  }
  if (hak_pool_totals().tiny_blocks != 0) return kLost;
  if (hak_heap_check(&hak_orphanage) != nullptr || hak_pool_verify() != nullptr) return kLost;
  return kGood;
}

// Runs until the thief has met all states that it should meet, or is caught.
[[noreturn]] void Child(Thief kind, int runs) {
  alarm(kAlarmSeconds);
  hak_slab_map_init(HAK_SLAB_MAP_AUTO);
  hak_os_barrier_init();
  hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
  Visit visit(kind);
  for (int run = 0; run < runs; run++) {
    const Code code = Run(&visit);
    if (code != kGood) _exit(code);
    const bool real = kind == Thief::kReal || kind == Thief::kSlowReal;
    const bool met = real ? visit.taken != 0 : kind == Thief::kCopy && visit.copy.MetAll();
    if (met) _exit(kGood);
  }
  _exit(kIdle);
}

class IdleCacheRace : public testing::Test {
 protected:
  void SetUp() override {
    hak_os_barrier_init();
    if (!hak_os_barrier()) GTEST_SKIP() << "this kernel has no membarrier: nothing is ever taken";
    // Each run is its own process. ThreadSanitizer allows no threads in a process that was only forked.
    testing::FLAGS_gtest_death_test_style = HAK_SLOT_STORE_ORDER == __ATOMIC_RELEASE ? "threadsafe" : "fast";
  }
};

TEST_F(IdleCacheRace, NoBlockIsLostOrHandedOutTwice) {
  EXPECT_EXIT(Child(Thief::kReal, 20), testing::ExitedWithCode(kGood), "");
}

TEST_F(IdleCacheRace, NorByAThiefThatTakesItsTime) {
  EXPECT_EXIT(Child(Thief::kSlowReal, 20), testing::ExitedWithCode(kGood), "");
}

// This shows that the pauses reach every state of an owner that the protocol distinguishes.
TEST_F(IdleCacheRace, NorByACopyThatMeetsEveryState) {
  EXPECT_EXIT(Child(Thief::kCopy, 20), testing::ExitedWithCode(kGood), "");
}

// Caught by the oracle, by the allocator's own checks or by the sanitizer: anything except a good end, a run in
// which the thief met too little, or a hang.
bool Caught(int status) {
  if (WIFSIGNALED(status)) return WTERMSIG(status) != SIGALRM;
  return WEXITSTATUS(status) != kGood && WEXITSTATUS(status) != kIdle;
}

TEST_F(IdleCacheRace, WithoutJudgingItIsCaught) { EXPECT_EXIT(Child(Thief::kDoesNotJudge, 20), Caught, ""); }

TEST_F(IdleCacheRace, KeepingTheTopIsCaught) { EXPECT_EXIT(Child(Thief::kKeepsTop, 20), Caught, ""); }

TEST_F(IdleCacheRace, KeepingWhatWasReplacedIsCaught) { EXPECT_EXIT(Child(Thief::kKeepsRefilled, 20), Caught, ""); }

TEST_F(IdleCacheRace, WithoutPuttingBackItIsCaught) { EXPECT_EXIT(Child(Thief::kPutsNoneBack, 20), Caught, ""); }

}  // namespace
