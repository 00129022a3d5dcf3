// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/heap_records.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "allocator/heap/give_back.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/remote.h"
#include "allocator/heap/thread_cache.h"
#include "allocator/meta/meta.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool_stats.h"

namespace {

using hak_unit::FaultPlan;

constexpr uint32_t kClass = 8;  // 128 bytes
constexpr uint64_t kDeadline = uint64_t{3600} * 1000;
constexpr size_t kHeaps = 3 * HAK_HEAP_RECORDS_WARM;

// Several heaps may belong to one thread as long as it is the only thread.
class HeapRecords : public testing::Test {
 protected:
  static void SetUpTestSuite() { hak_slab_map_init(HAK_SLAB_MAP_AUTO); }
  void SetUp() override {
    hak_config.decommit_deadline_ms = kDeadline;
    hak_config.keep_superslabs = 1;
    hak_config.thread_cache_bytes = size_t{4} << 20;
    if (!hak_meta_can_rest(sizeof(hak_heap))) GTEST_SKIP() << "records are smaller than pages here";
    for (size_t i = 0; i < kHeaps; i++) heaps_.push_back(hak_heap_open());
    CloseAll();
  }
  ~HeapRecords() override {
    EXPECT_EQ(hak_heap_totals().threads, 0u);
    EXPECT_EQ(hak_pool_totals().tiny_blocks, 0u);
    EXPECT_EQ(hak_heap_check(&hak_orphanage), nullptr);
  }
  void CloseAll() {
    for (hak_heap *heap : heaps_) hak_heap_close(heap);
  }
  // A resting record reads as zero.
  static bool HasMemory(const hak_heap *heap) { return heap->lock.rank != 0; }
  size_t WithMemory() const {
    size_t count = 0;
    for (const hak_heap *heap : heaps_) count += HasMemory(heap);
    return count;
  }
  // Checks that all records are there, each once, and work.
  static bool AllServe(const std::vector<hak_heap *> &heaps) {
    std::set<hak_heap *> wanted(heaps.begin(), heaps.end());
    std::set<hak_heap *> got;
    bool good = true;
    for (size_t i = 0; i < heaps.size(); i++) {
      hak_heap *heap = hak_heap_open();
      got.insert(heap);
      void *block = hak_thread_cache_miss(heap, kClass, nullptr);
      good = good && block != nullptr && atomic_load_explicit(&hak_slab_of(block)->owner, memory_order_relaxed) == heap;
      hak_thread_cache_overflow(heap, kClass, block);
      good = good && hak_heap_check(heap) == nullptr;
    }
    good = good && got == wanted && hak_heap_totals().threads == heaps.size();
    for (hak_heap *heap : got) hak_heap_close(heap);
    return good;
  }

  std::vector<hak_heap *> heaps_;
};

TEST_F(HeapRecords, GoBackWhenTheyAreDue) {
  const uint64_t now = hak_os_now_ms();
  EXPECT_FALSE(hak_heap_tick_records(now + kDeadline / 2)) << "too early";
  EXPECT_EQ(WithMemory(), kHeaps);
  EXPECT_EQ(hak_heap_records_idle_bytes(), (kHeaps - HAK_HEAP_RECORDS_WARM) * sizeof(hak_heap));
  const uint64_t committed = hak_meta_committed();
  ASSERT_TRUE(hak_heap_tick_records(now + 2 * kDeadline));
  EXPECT_EQ(WithMemory(), kHeaps - HAK_HEAP_RECORDS_SLICE) << "one slice a call";
  while (hak_heap_tick_records(now + 2 * kDeadline)) {
  }
  EXPECT_EQ(WithMemory(), HAK_HEAP_RECORDS_WARM);
  EXPECT_TRUE(HasMemory(heaps_.back())) << "the latest stay";
  EXPECT_EQ(hak_heap_records_idle_bytes(), 0u);
  EXPECT_LE(hak_meta_committed() + (kHeaps - HAK_HEAP_RECORDS_WARM) * sizeof(hak_heap), committed + 4096);
  EXPECT_TRUE(AllServe(heaps_));
}

TEST_F(HeapRecords, ATrimTakesAll) {
  EXPECT_GE(hak_heap_trim_records(), kHeaps * sizeof(hak_heap));
  EXPECT_EQ(WithMemory(), 0u);
  EXPECT_EQ(hak_heap_trim_records(), 0u);
  const uint64_t mapped = hak_meta_mapped();
  EXPECT_TRUE(AllServe(heaps_));
  EXPECT_EQ(hak_meta_mapped(), mapped);
}

// A thread that starts after another one has ended costs no system call, even if records are always due.
TEST_F(HeapRecords, ThreadsThatComeAndGoUseWarmOnes) {
  hak_heap_trim_records();
  for (int i = 0; i < 10; i++) hak_heap_close(hak_heap_open());
  const uint64_t calls = hak_os_totals().calls;
  const hak_heap *const first = hak_heap_open();
  hak_heap_close(const_cast<hak_heap *>(first));
  for (int i = 0; i < 1000; i++) {
    hak_heap *heap = hak_heap_open();
    ASSERT_EQ(heap, first);
    hak_heap_close(heap);
    ASSERT_FALSE(hak_heap_tick_records(hak_os_now_ms() + 2 * kDeadline));
  }
  EXPECT_EQ(hak_os_totals().calls, calls);
}

TEST_F(HeapRecords, ARefusalLosesNone) {
  {
    const FaultPlan plan(HAK_FAULT_DECOMMIT);
    EXPECT_EQ(hak_heap_trim_records(), 0u);
    EXPECT_FALSE(hak_heap_tick_records(hak_os_now_ms() + 2 * kDeadline));
  }
  EXPECT_EQ(WithMemory(), kHeaps);
  EXPECT_TRUE(AllServe(heaps_));
  EXPECT_NE(hak_heap_trim_records(), 0u);
  EXPECT_TRUE(AllServe(heaps_));
}

// A thread has read who owns a slab; then the owner's thread ends and its record's memory is returned.
TEST_F(HeapRecords, ALateNoticeToAHeapWithoutMemoryReachesTheOwner) {
  hak_heap *ended = hak_heap_open();
  hak_heap *owner = hak_heap_open();
  void *blocks[2];
  ASSERT_EQ(hak_heap_take(owner, kClass, blocks, 2, nullptr), 2u);
  hak_heap_close(ended);
  ASSERT_NE(hak_heap_trim_records(), 0u);
  ASSERT_FALSE(HasMemory(ended));
  hak_slab *slab = hak_slab_of(blocks[0]);
  // The owner that the other thread has read.
  atomic_store_explicit(&slab->owner, ended, memory_order_release);
  std::atomic<bool> done{false};
  std::thread late([&] {
    hak_chain chain = {};
    chain.slab = slab;
    hak_chain_add(&chain, blocks[0]);
    hak_remote_push(&chain);
    done = true;
  });
  while (atomic_load_explicit(&slab->remote, memory_order_relaxed) == 0) std::this_thread::yield();
  for (int i = 0; i < 100; i++) std::this_thread::yield();
  EXPECT_FALSE(done) << "nobody was there to be told";
  EXPECT_EQ(atomic_load_explicit(&ended->pending, memory_order_relaxed), HAK_PENDING_CLOSED);
  atomic_store_explicit(&slab->owner, owner, memory_order_release);
  late.join();
  EXPECT_EQ(atomic_load_explicit(&owner->pending, memory_order_relaxed), slab);
  hak_remote_drain(owner);
  hak_give_back(owner, &blocks[1], 1);
  hak_heap_close(owner);
  EXPECT_TRUE(AllServe(heaps_));
}

// Blocks outlive their thread and its record. Then other threads free them, with or without the old record as their
// own.
TEST_F(HeapRecords, BlocksOfAThreadWhoseRecordIsGoneAreFreed) {
  for (const bool reused : {false, true}) {
    std::vector<void *> blocks(3000);
    hak_heap *ended = hak_heap_open();
    for (void *&block : blocks) ASSERT_EQ(hak_heap_take(ended, kClass, &block, 1, nullptr), 1u);
    hak_heap_close(ended);
    hak_heap_trim_records();
    hak_heap *other = reused ? hak_heap_open() : nullptr;
    if (reused) {
      EXPECT_EQ(other, ended) << "the latest that rests is the next to be used";
    }
    std::thread([&] { hak_give_back(nullptr, blocks.data(), 1500); }).join();
    hak_give_back(other, blocks.data() + 1500, 1500);
    if (reused) hak_heap_close(other);
  }
}

// ---- Fork ---------------------------------------------------------------------------------------

template <typename Work>
bool InChild(Work work) {
  const pid_t child = fork();
  if (child == 0) _exit(work() ? 0 : 1);
  int status = -1;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_F(HeapRecords, AChildHasThoseThatRest) {
  hak_heap_trim_records();
  EXPECT_TRUE(InChild([this] { return AllServe(heaps_); }));
  EXPECT_TRUE(InChild([this] { return AllServe(heaps_) && hak_heap_trim_records() != 0 && AllServe(heaps_); }));
  EXPECT_TRUE(AllServe(heaps_));
}

// Another thread is in the middle of a slice when the process forks: before, during and after the system call.
TEST_F(HeapRecords, AChildLosesNoneThatWereInHand) {
  for (int step = 0; step < 3; step++) {
    const uint64_t now = hak_os_now_ms();
    hak_heap_rest *slice = nullptr;
    std::atomic<int> stage{0};
    std::thread other([&] {
      slice = hak_heap_records_lend(now, 0);
      if (slice != nullptr && step == 1) slice->resting[0] = hak_meta_rest(slice->records[0], sizeof(hak_heap));
      if (slice != nullptr && step == 2) hak_heap_records_rest(slice, now);
      stage = 1;
      while (stage != 2) std::this_thread::yield();
      if (slice != nullptr) hak_heap_records_return(slice, now);
    });
    while (stage != 1) std::this_thread::yield();
    EXPECT_NE(slice, nullptr);
    const bool child = InChild([this] {
      hak_heap_records_forked();
      return AllServe(heaps_);
    });
    stage = 2;
    other.join();
    EXPECT_TRUE(child) << step;
    EXPECT_TRUE(AllServe(heaps_)) << step;
  }
}

// The thread that forks is in the middle of a slice itself, because the fork is in a signal handler: it continues with
// the slice.
TEST_F(HeapRecords, AChildGoesOnWithItsOwn) {
  const uint64_t now = hak_os_now_ms();
  hak_heap_rest *slice = hak_heap_records_lend(now, 0);
  ASSERT_NE(slice, nullptr);
  EXPECT_TRUE(InChild([&] {
    hak_heap_records_forked();
    if (slice->count == 0) return false;
    hak_heap_records_rest(slice, now);
    return hak_heap_records_return(slice, now) != 0 && AllServe(heaps_);
  }));
  EXPECT_EQ(hak_heap_records_return(slice, now), 0u);
  EXPECT_TRUE(AllServe(heaps_));
}

}  // namespace
