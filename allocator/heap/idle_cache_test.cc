// SPDX-License-Identifier: Apache-2.0
//
// Empties a heap's cache step by step, in one thread that plays both parts. idle_cache_race_test.cc uses threads.
#include "allocator/heap/idle_cache.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "allocator/heap/bin.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/test_owner.h"
#include "allocator/heap/test_pause.h"
#include "allocator/observe/verify.h"
#include "allocator/os/barrier.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_pool_stats.h"

namespace {

using hak_unit::Owner;
using hak_unit::Random;

constexpr uint32_t kClass = 4;
constexpr uint32_t kOther = 9;
// The smallest class, some classes in between, and the largest, whose blocks are carved singly.
constexpr uint32_t kClasses[] = {1, kClass, kOther, 33, HAK_CLASS_COUNT - 1};
constexpr uint64_t kNow = 1000000;

uint32_t Steal(const Owner &owner, uint64_t now = kNow, uint64_t idle_ms = 0) {
  hak_heap_enter(owner.heap());
  const uint32_t count = hak_idle_cache_steal(owner.heap(), now, idle_ms);
  hak_heap_leave(owner.heap());
  return count;
}

void Trip(const Owner &owner) {
  hak_heap_enter(owner.heap());
  hak_idle_cache_trip(owner.heap());
  hak_heap_leave(owner.heap());
}

void FlushAll(const Owner &owner) {
  hak_heap_enter(owner.heap());
  hak_thread_cache_flush_all(owner.heap());
  hak_heap_leave(owner.heap());
}

void Drain(const Owner &owner) {
  hak_heap_enter(owner.heap());
  hak_remote_drain(owner.heap());
  hak_heap_leave(owner.heap());
}

// The slots of the bin up to its top, without the sentinels.
std::vector<void *> Slots(const Owner &owner, uint32_t class_id) {
  if (owner.Base(class_id) == nullptr) return {};
  return std::vector<void *>(owner.Base(class_id) + 2, owner.Top(class_id) + 1);
}

uint32_t Stolen(const Owner &owner, uint32_t class_id) {
  return atomic_load_explicit(&owner.heap()->classes[class_id].idle.stolen, memory_order_relaxed);
}

class IdleCache : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    hak_os_barrier_init();
  }
  void SetUp() override {
    if (!hak_os_barrier()) GTEST_SKIP() << "this kernel has no membarrier: nothing is ever taken";
    hak_config.decommit_deadline_ms = uint64_t{3600} * 1000;
    hak_config.thread_cache_bytes = size_t{64} << 20;
    hak_config.borrow = true;
    for (int i = 0; i < 3; i++) owners_.push_back(std::make_unique<Owner>());
  }
  void TearDown() override {
    for (void *block : live_) hak_give_back(nullptr, &block, 1);
    owners_.clear();
    EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u) << "lost";
    EXPECT_STREQ(hak_verify(nullptr), nullptr);
  }

  void *Malloc(size_t owner, uint32_t class_id) {
    void *block = owners_[owner]->Malloc(class_id);
    if (block == nullptr) {
      ADD_FAILURE() << "out of memory";
    } else if (!live_.insert(block).second) {
      ADD_FAILURE() << "handed out twice: " << block;
    }
    return block;
  }
  void Free(size_t owner, void *block) {
    live_.erase(block);
    owners_[owner]->Free(block);
  }
  std::vector<void *> MallocMany(size_t owner, uint32_t class_id, size_t count) {
    std::vector<void *> blocks;
    for (size_t i = 0; i < count; i++) blocks.push_back(Malloc(owner, class_id));
    return blocks;
  }
  void FreeMany(size_t owner, const std::vector<void *> &blocks) {
    for (void *block : blocks) Free(owner, block);
  }
  // Leaves blocks in the class's bin that the program had.
  void Fill(size_t owner, uint32_t class_id, size_t count) { FreeMany(owner, MallocMany(owner, class_id, count)); }

  // Every block is in exactly one place: with the program, in one slot of one cache, on a remote chain or the rest of
  // one, or free in its slab.
  void ExpectSound() {
    std::set<void *> seen = live_;
    uint64_t cached = 0;
    for (const std::unique_ptr<Owner> &owner : owners_) {
      const char *fault = hak_heap_check(owner->heap());
      ASSERT_EQ(fault, nullptr) << fault;
      for (uint32_t id = 1; id < HAK_CLASS_COUNT; id++) {
        const std::vector<void *> slots = Slots(*owner, id);
        const auto gaps = std::count(slots.begin(), slots.end(), nullptr);
        ASSERT_EQ(gaps, Stolen(*owner, id));
        cached += slots.size() - static_cast<size_t>(gaps);
        for (void *block : slots) {
          if (block == nullptr) continue;
          ASSERT_EQ(hak_slab_map_find(block), id);
          ASSERT_TRUE(seen.insert(block).second) << "in two places: " << block;
        }
      }
    }
    const struct hak_heap_totals heaps = hak_heap_totals();
    ASSERT_EQ(heaps.cached_blocks, cached);
    const struct hak_pool_totals pool = hak_pool_totals();
    ASSERT_EQ(pool.tiny_blocks, live_.size() + cached + pool.remote_blocks + heaps.rest_blocks);
    uint64_t live_bytes = 0;
    for (void *block : live_) live_bytes += hak_class_usable(hak_slab_map_find(block));
    ASSERT_EQ(pool.tiny_bytes, live_bytes + heaps.cached_bytes + pool.remote_bytes + heaps.rest_bytes);
  }
  void ExpectVerifies() {
    for (const std::unique_ptr<Owner> &owner : owners_) {
      const char *fault = hak_verify(owner->heap());
      ASSERT_EQ(fault, nullptr) << fault;
    }
    ExpectSound();
  }

  std::vector<std::unique_ptr<Owner>> owners_;
  std::set<void *> live_;
};

TEST_F(IdleCache, AllButTheLatestOfEachBinGo) {
  std::vector<void *> latest;
  uint64_t expected = 0;
  for (const uint32_t id : kClasses) {
    Fill(0, id, 300);
    ASSERT_GE(Slots(*owners_[0], id).size(), 2u);
    expected += Slots(*owners_[0], id).size() - 1;
    latest.push_back(*owners_[0]->Top(id));
  }
  const uint64_t cached = hak_heap_totals().cached_blocks;
  const uint64_t held = hak_pool_totals().tiny_blocks;
  const uint64_t before = atomic_load_explicit(&hak_stolen_blocks, memory_order_relaxed);
  EXPECT_EQ(Steal(*owners_[0]), expected);
  EXPECT_EQ(atomic_load_explicit(&hak_stolen_blocks, memory_order_relaxed) - before, expected);
  EXPECT_EQ(hak_heap_totals().cached_blocks, cached - expected);
  EXPECT_EQ(hak_pool_totals().tiny_blocks, held - expected) << "they are in their slabs again";
  for (size_t i = 0; i < std::size(kClasses); i++) {
    const std::vector<void *> slots = Slots(*owners_[0], kClasses[i]);
    EXPECT_EQ(slots.back(), latest[i]);
    EXPECT_EQ(std::count(slots.begin(), slots.end(), nullptr), static_cast<ptrdiff_t>(slots.size()) - 1);
    EXPECT_EQ(Malloc(0, kClasses[i]), latest[i]);
  }
  ExpectSound();
  EXPECT_EQ(Steal(*owners_[0]), 0u);
  ExpectVerifies();
}

TEST_F(IdleCache, EmptyHeapsAndSingleBlocksAreLeftAlone) {
  EXPECT_EQ(Steal(*owners_[1]), 0u);
  void *block = Malloc(1, HAK_CLASS_COUNT - 1);  // carved singly: nothing else is cached
  EXPECT_EQ(Steal(*owners_[1]), 0u);
  Free(1, block);
  EXPECT_EQ(Steal(*owners_[1]), 0u);
  EXPECT_EQ(Malloc(1, HAK_CLASS_COUNT - 1), block);
  ExpectVerifies();
}

TEST_F(IdleCache, OnlyWhatDidNotChangeForLongEnough) {
  constexpr uint64_t kIdle = 100;
  Fill(0, kClass, 50);
  Fill(0, kOther, 50);
  const uint32_t others = static_cast<uint32_t>(Slots(*owners_[0], kOther).size());
  const uint32_t mine = static_cast<uint32_t>(Slots(*owners_[0], kClass).size());
  EXPECT_EQ(Steal(*owners_[0], kNow, kIdle), 0u) << "the first pass";
  EXPECT_EQ(Steal(*owners_[0], kNow - 5000, kIdle), 0u) << "a clock that goes back";
  EXPECT_EQ(Steal(*owners_[0], kNow - 5000, 0), 0u);
  EXPECT_EQ(Steal(*owners_[0], kNow + kIdle - 1, kIdle), 0u);
  Malloc(0, kClass);
  EXPECT_EQ(Steal(*owners_[0], kNow + kIdle, kIdle), others - 1);
  EXPECT_EQ(Slots(*owners_[0], kClass).size(), mine - 1);
  EXPECT_EQ(Stolen(*owners_[0], kClass), 0u);
  ExpectSound();
  EXPECT_EQ(Steal(*owners_[0], kNow + 2 * kIdle - 1, kIdle), 0u);
  EXPECT_EQ(Steal(*owners_[0], kNow + 2 * kIdle, kIdle), mine - 2);
  ExpectVerifies();
}

TEST_F(IdleCache, EventsOfTheOwnerAreSeen) {
  const auto no_event = [this](uint64_t now) {
    hak_heap_enter(owners_[0]->heap());
    const bool none = hak_idle_cache_is_quiet(owners_[0]->heap(), now, 100);
    hak_heap_leave(owners_[0]->heap());
    return none;
  };
  Fill(0, kClass, 50);
  EXPECT_FALSE(no_event(kNow));
  EXPECT_FALSE(no_event(kNow + 99));
  EXPECT_TRUE(no_event(kNow + 100));
  EXPECT_FALSE(no_event(kNow - 1));
  Malloc(0, kOther);  // a miss
  EXPECT_FALSE(no_event(kNow + 300));
  EXPECT_TRUE(no_event(kNow + 400));
  Free(0, Malloc(0, kOther));  // none
  EXPECT_TRUE(no_event(kNow + 401));
}

TEST_F(IdleCache, BlocksOfOthersGoToTheirOwners) {
  const std::vector<void *> theirs = MallocMany(1, kClass, 60);
  std::vector<void *> orphans;
  {
    owners_.push_back(std::make_unique<Owner>());
    orphans = MallocMany(3, kClass, 60);
    owners_.pop_back();
  }
  FreeMany(0, orphans);
  FreeMany(0, theirs);
  const uint64_t free_before = hak_pool_totals().tiny_blocks;
  const uint32_t taken = Steal(*owners_[0]);
  EXPECT_GT(taken, 100u);
  const struct hak_pool_totals pool = hak_pool_totals();
  EXPECT_GE(pool.remote_blocks, 30u) << "on their way to owner 1";
  EXPECT_EQ(pool.tiny_blocks - pool.remote_blocks, free_before - taken);
  EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
  ExpectSound();
  Drain(*owners_[1]);
  EXPECT_EQ(hak_pool_totals().remote_blocks, 0u);
  ExpectVerifies();
}

// ---- What the owner does next -------------------------------------------------------------------

TEST_F(IdleCache, AMissClosesTheGapsFirst) {
  Fill(0, kClass, 100);
  ASSERT_GT(Steal(*owners_[0]), 50u);
  Malloc(0, kClass);  // the one that was left
  EXPECT_EQ(*owners_[0]->Top(kClass), nullptr);
  EXPECT_GT(Stolen(*owners_[0], kClass), 50u);
  ExpectSound();
  Malloc(0, kClass);
  EXPECT_EQ(Stolen(*owners_[0], kClass), 0u);
  ExpectVerifies();
  MallocMany(0, kClass, 500);
  ExpectVerifies();
}

TEST_F(IdleCache, BlocksAboveAndBelowAGapAreFound) {
  const std::vector<void *> blocks = MallocMany(0, kClass, 40);
  Fill(0, kClass, 20);
  ASSERT_GT(Steal(*owners_[0]), 0u);
  FreeMany(0, std::vector<void *>(blocks.begin(), blocks.begin() + 5));
  ASSERT_GT(Steal(*owners_[0]), 0u);  // only some of these; the slots below are counted once
  ExpectSound();
  std::set<void *> again;
  for (size_t i = 0; i < 60; i++) again.insert(Malloc(0, kClass));
  EXPECT_EQ(again.size(), 60u);
  ExpectVerifies();
}

TEST_F(IdleCache, AnOverflowClosesThem) {
  const std::vector<void *> blocks = MallocMany(0, kClass, 5000);
  FreeMany(0, std::vector<void *>(blocks.begin(), blocks.begin() + 100));
  ASSERT_GT(Steal(*owners_[0]), 50u);
  size_t freed = 100;
  while (Stolen(*owners_[0], kClass) != 0 && freed < blocks.size()) {
    Free(0, blocks[freed++]);
    if (freed % 100 == 0) ExpectSound();
  }
  EXPECT_EQ(Stolen(*owners_[0], kClass), 0u);
  EXPECT_LT(freed, blocks.size());
  ExpectVerifies();
}

TEST_F(IdleCache, FlushAllGivesBackWhatIsLeft) {
  for (const uint32_t id : kClasses) Fill(0, id, 100);
  ASSERT_GT(Steal(*owners_[0]), 50u);
  for (const uint32_t id : kClasses) Fill(0, id, 1);
  FlushAll(*owners_[0]);
  EXPECT_EQ(hak_heap_totals().cached_blocks, 0u);
  ExpectVerifies();
}

TEST_F(IdleCache, DecayFindsTheGaps) {
  Fill(0, kClass, 2000);
  const size_t room = static_cast<size_t>(hak_bin_limit(owners_[0]->Bin(kClass)) - owners_[0]->Base(kClass));
  ASSERT_GT(Steal(*owners_[0]), 50u);
  // Slow events of another class, until each class was checked three times: at the first check the misses still count.
  std::vector<void *> others;
  for (uint32_t i = 0; i < 3 * 32 * HAK_CLASS_COUNT; i++) {
    hak_heap_enter(owners_[0]->heap());
    void *block = hak_thread_cache_miss(owners_[0]->heap(), kOther, nullptr);
    hak_heap_leave(owners_[0]->heap());
    ASSERT_TRUE(live_.insert(block).second);
    others.push_back(block);
  }
  EXPECT_EQ(Stolen(*owners_[0], kClass), 0u);
  EXPECT_LT(static_cast<size_t>(hak_bin_limit(owners_[0]->Bin(kClass)) - owners_[0]->Base(kClass)), room);
  ExpectVerifies();
}

TEST_F(IdleCache, WhatTheNeighbourLendsIsThereOnce) {
  for (uint32_t id = 1; id + 1 < HAK_CLASS_COUNT; id++) {
    if (hak_class_stride(id + 1) - hak_class_stride(id) > hak_class_stride(id) / 8) continue;
    Fill(0, id + 1, 100);
    Steal(*owners_[0]);
    Fill(0, id + 1, 8);  // some above the gaps
    for (int i = 0; i < 30; i++) Malloc(0, id);
    ExpectSound();
    if (id % 8 == 0) ExpectVerifies();
  }
}

// ---- Closed bins --------------------------------------------------------------------------------

TEST_F(IdleCache, TheNextFreeOpensAClosedBin) {
  const std::vector<void *> blocks = MallocMany(0, kClass, 40);
  FreeMany(0, std::vector<void *>(blocks.begin(), blocks.begin() + 4));
  void **const limit = hak_bin_limit(owners_[0]->Bin(kClass));
  const uint64_t bytes = owners_[0]->heap()->upkeep.cache_bytes;
  Trip(*owners_[0]);
  Trip(*owners_[0]);
  EXPECT_GE(owners_[0]->Top(kClass), hak_bin_limit(owners_[0]->Bin(kClass)));
  EXPECT_EQ(Malloc(0, kClass), blocks[3]) << "taking goes on as before";
  ExpectSound();
  const uint64_t events = owners_[0]->heap()->upkeep.slow_calls;
  Free(0, blocks[3]);
  EXPECT_EQ(owners_[0]->heap()->upkeep.slow_calls, events + 1);
  EXPECT_EQ(hak_bin_limit(owners_[0]->Bin(kClass)), limit);
  EXPECT_EQ(owners_[0]->heap()->upkeep.cache_bytes, bytes);
  Free(0, blocks[5]);
  EXPECT_EQ(owners_[0]->heap()->upkeep.slow_calls, events + 1);
  ExpectVerifies();
}

TEST_F(IdleCache, ABinWithoutBlocksIsClosedToo) {
  void *block = Malloc(0, kClass);
  while (!Slots(*owners_[0], kClass).empty()) block = Malloc(0, kClass);
  Trip(*owners_[0]);
  const uint64_t events = owners_[0]->heap()->upkeep.slow_calls;
  Free(0, block);
  EXPECT_EQ(owners_[0]->heap()->upkeep.slow_calls, events + 1);
  ExpectVerifies();
}

TEST_F(IdleCache, AClosedBinSurvivesEverythingElse) {
  for (const uint32_t id : kClasses) Fill(0, id, 100);
  Trip(*owners_[0]);
  ExpectSound();
  EXPECT_GT(Steal(*owners_[0]), 50u);
  Trip(*owners_[0]);
  for (const uint32_t id : kClasses) MallocMany(0, id, 3);
  ExpectVerifies();
  Trip(*owners_[0]);
  FlushAll(*owners_[0]);
  ExpectVerifies();
  Fill(0, kClass, 50);
  Steal(*owners_[0]);
  Trip(*owners_[0]);
  owners_.erase(owners_.begin());  // closed with its bins
  ExpectVerifies();
}

// ---- Barriers that fail -------------------------------------------------------------------------

#if defined(__x86_64__)
constexpr long kLetThrough = 0x5EED;  // as membarrier's unused third argument
volatile int g_barriers_left;

// Stands in for the kernel, which has refused the call: makes the call as long as some are left.
void OnSigsys(int, siginfo_t *, void *context) {
  greg_t *registers = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
  const bool allowed = g_barriers_left > 0;
  if (allowed) g_barriers_left = g_barriers_left - 1;
  const long result = allowed ? syscall(SYS_membarrier, registers[REG_RDI], registers[REG_RSI], kLetThrough) : -EPERM;
  registers[REG_RAX] = result;
}

// From now on `count` barriers succeed, and no more. False: this kernel does not allow the test.
bool BarriersEndAfter(int count) {
  struct sigaction action = {};
  action.sa_sigaction = OnSigsys;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGSYS, &action, nullptr) != 0) return false;
  g_barriers_left = count;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kLetThrough, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {static_cast<unsigned short>(std::size(filter)), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// The kernel may refuse a barrier for lack of memory, and a program may forbid the call while it runs.
TEST_F(IdleCache, WithoutBarriersNothingIsTaken) {
  for (int barriers = 0; barriers < 8; barriers++) {
    HAK_EXPECT_PASSES_IN_CHILD({
      if (!BarriersEndAfter(barriers)) _exit(0);
      for (const uint32_t id : kClasses) Fill(0, id, 300);
      const auto slots = [this] {
        std::vector<void *> all;
        for (const uint32_t id : kClasses) {
          const std::vector<void *> some = Slots(*owners_[0], id);
          all.insert(all.end(), some.begin(), some.end());
        }
        return all;
      };
      const std::vector<void *> before = slots();
      const uint32_t taken = Steal(*owners_[0]);
      // The first barrier only asks; each round of up to 128 blocks takes two.
      EXPECT_LE(taken, static_cast<uint32_t>((barriers - 1) / 2) * 128);
      if (barriers < 3) {
        EXPECT_EQ(slots(), before);
      }
      ExpectVerifies();
    });
  }
}
#endif

// ---- All of it ----------------------------------------------------------------------------------

TEST_F(IdleCache, RandomOperationsAgreeWithTheModel) {
  Random random(5);
  uint64_t now = kNow;
  for (int op = 0; op < hak_unit::Operations(4000); op++) {
    const size_t owner = random.Below(owners_.size());
    const uint32_t id = random.OneIn(10) ? 1 + random.Below(HAK_CLASS_COUNT - 1) : kClasses[random.Below(3)];
    now += random.Below(40);
    switch (random.Below(10)) {
      case 0:
      case 1:
      case 2:
        for (uint32_t i = random.Below(60); i > 0 && live_.size() < 4000; i--) Malloc(owner, id);
        break;
      case 3:
      case 4:
      case 5:
        for (uint32_t i = random.Below(60); i > 0 && !live_.empty(); i--) {
          Free(owner, *std::next(live_.begin(), random.Below(std::min<size_t>(live_.size(), 300))));
        }
        break;
      case 6:
      case 7:
        Steal(*owners_[owner], now, random.OneIn(2) ? 0 : 50);
        break;
      case 8:
        Trip(*owners_[owner]);
        break;
      default:
        if (random.OneIn(4)) FlushAll(*owners_[owner]);
        if (random.OneIn(2)) Drain(*owners_[owner]);
        if (random.OneIn(20)) {
          owners_[owner].reset();  // The blocks that its thread still held become an orphan's.
          owners_[owner] = std::make_unique<Owner>();
        }
        if (random.OneIn(4)) ExpectVerifies();
    }
    if (op % 4 == 0) ExpectSound();
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(atomic_load_explicit(&hak_stolen_blocks, memory_order_relaxed), 1000u);
}

// ---- What the barriers are for ------------------------------------------------------------------
//
// An owner whose stores arrive late, as late as the thief's barriers allow. The test delays them, because a processor
// does so too seldom for a test. The thief's first barrier is the one that asks whether barriers work.

std::vector<std::function<void()>> g_arrivals;  // what arrives at each barrier
size_t g_barriers;

void ArriveAtBarrier() {
  if (g_barriers < g_arrivals.size()) g_arrivals[g_barriers]();
  g_barriers++;
}

// Stores that are still delayed when the thief has finished arrive then.
void StealWith(const Owner &owner, const std::vector<std::function<void()>> &arrivals) {
  g_arrivals = arrivals;
  g_barriers = 0;
  hak_heap_enter(owner.heap());
  hak_test_at_barrier = ArriveAtBarrier;
  hak_test_slow_steal(owner.heap(), kNow, 0);
  hak_test_at_barrier = nullptr;
  hak_heap_leave(owner.heap());
  while (g_barriers < g_arrivals.size()) ArriveAtBarrier();
}

TEST_F(IdleCache, WhatTheOwnerPoppedBeforeIsSeenByTheFirstBarrier) {
  Fill(0, kClass, 12);
  hak_bin *bin = owners_[0]->Bin(kClass);
  void **const top = owners_[0]->Top(kClass);
  ASSERT_GE(top - owners_[0]->Base(kClass), 8);
  // The program has three blocks; the decrease of the top is not visible yet.
  for (int i = 0; i < 3; i++) live_.insert(top[-i]);
  StealWith(*owners_[0], {[] {}, [&] { atomic_store_explicit(&bin->top, top - 3, memory_order_relaxed); }});
  EXPECT_GT(Stolen(*owners_[0], kClass), 0u);
  ExpectSound();
}

TEST_F(IdleCache, WhatTheOwnerPushedBeforeIsSeenByTheSecondBarrier) {
  Fill(0, kClass, 12);
  void *const held = Malloc(0, kClass);
  hak_bin *bin = owners_[0]->Bin(kClass);
  void **const top = owners_[0]->Top(kClass);
  ASSERT_GE(top - owners_[0]->Base(kClass), 8);
  // The program pops three blocks and pushes two, into the places of the third and the second. The top at the second
  // place becomes visible before the slots.
  void *const first = top[0];
  live_.insert(top[-1]);
  live_.insert(top[-2]);
  live_.erase(held);
  StealWith(*owners_[0], {[] {}, [&] { atomic_store_explicit(&bin->top, top - 1, memory_order_relaxed); },
                          [&] {
                            hak_slot_store(top - 2, first);
                            hak_slot_store(top - 1, held);
                          }});
  EXPECT_GT(Stolen(*owners_[0], kClass), 0u);
  ExpectSound();
}

}  // namespace
