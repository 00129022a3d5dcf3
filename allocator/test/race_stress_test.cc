// SPDX-License-Identifier: Apache-2.0
//
// Everything that threads do to each other, at once: remote frees, threads that end while remote frees are waiting,
// adoption, frees in late destructors, thieves, page purge and trim, and fork while this goes on. With
// HAKMEM_BACKGROUND=1 the purge thread takes part too.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "allocator/test/probe.h"

namespace hak_test {
namespace {

constexpr size_t kLanes = 4;
constexpr size_t kShared = 512;
constexpr unsigned kAlarmSeconds = 200;  // a child that hangs is killed, and the test fails

// A block whose contents are checked, wherever it is freed.
struct Head {
  uint64_t size;
  uint64_t stamp;
};

uint64_t StampOf(const Head *head) { return Mix64(head->size ^ reinterpret_cast<uintptr_t>(head)); }

void *NewBlock(size_t size) {
  auto *head = static_cast<Head *>(hak_malloc(size < sizeof(Head) ? sizeof(Head) : size));
  if (head == nullptr) return nullptr;
  head->size = size < sizeof(Head) ? sizeof(Head) : size;
  head->stamp = StampOf(head);
  memset(head + 1, static_cast<int>(head->stamp & 0xFF), head->size - sizeof(Head));
  return head;
}

// Frees the block. False: its contents have changed.
bool FreeBlock(void *block) {
  if (block == nullptr) return true;
  const auto *head = static_cast<const Head *>(block);
  bool good = head->stamp == StampOf(head);
  if (good) {
    const auto *bytes = reinterpret_cast<const unsigned char *>(head + 1);
    for (size_t i = 0; i < head->size - sizeof(Head); ++i) good = good && bytes[i] == (head->stamp & 0xFF);
  }
  hak_free(block);
  return good;
}

struct Shared {
  std::atomic<void *> slots[kShared] = {};
  std::atomic<size_t> damaged{0};
  std::atomic<size_t> failed{0};
  std::atomic<bool> stop{false};
};

void FreeSlots(Shared *shared) {
  for (std::atomic<void *> &slot : shared->slots) shared->damaged += !FreeBlock(slot.exchange(nullptr));
}

size_t SomeSize(Random *random) {
  return 16 + random->Index(random->OneIn(40) ? 60000 : random->OneIn(4) ? 3000 : 300);
}

// One thread: puts many blocks into the shared slots and takes others out, pauses, and ends with full caches.
void Live(Shared *shared, uint64_t seed) {
  Random random(TestSeed(seed));
  const int bursts = 2 + static_cast<int>(random.Below(6));
  for (int burst = 0; burst < bursts; ++burst) {
    const size_t many = 50 + random.Index(400);
    for (size_t i = 0; i < many; ++i) {
      void *mine = NewBlock(SomeSize(&random));
      if (mine == nullptr) shared->failed++;
      shared->damaged += !FreeBlock(shared->slots[random.Index(kShared)].exchange(mine));
    }
    if (random.OneIn(3)) {  // many blocks of other threads at once, in batches
      for (size_t i = 0; i < kShared / 4; ++i) {
        shared->damaged += !FreeBlock(shared->slots[random.Index(kShared)].exchange(nullptr));
      }
    }
    if (random.OneIn(4)) hak_thread_flush();
    if (random.OneIn(2)) SleepMs(static_cast<long>(random.Below(3)));
  }
}

// Frees in the last round of destructors, when the thread's heap is closed.
pthread_key_t g_late;
struct Late {
  Shared *shared;
  size_t rounds;
};
void LateDestructor(void *value) {
  auto *late = static_cast<Late *>(value);
  // ThreadSanitizer's own data of the thread ends in the last round.
  if (++late->rounds < PTHREAD_DESTRUCTOR_ITERATIONS - (HAK_TEST_TSAN ? 1 : 0)) {
    pthread_setspecific(g_late, value);
    return;
  }
  for (size_t i = 0; i < kShared / 8; ++i) {
    late->shared->damaged += !FreeBlock(late->shared->slots[i * 8].exchange(NewBlock(16 + i * 8)));
  }
  delete late;
}

// Threads one after another; some of them free late.
void RunLane(Shared *shared, uint64_t lane, uint64_t lives) {
  for (uint64_t life = 0; life < lives; ++life) {
    std::thread thread([=] {
      if (life % 3 == 0) pthread_setspecific(g_late, new Late{shared, 0});
      Live(shared, lane * 1000003 + life);
    });
    thread.join();
  }
}

// The work besides the threads.
void RunReclaimer(Shared *shared) {
  Random random(TestSeed(99));
  while (!shared->stop) {
    switch (random.Below(4)) {
      case 0:
        shared->failed += !hak_heap_verify();
        break;
      case 1:
        (void)Stats();
        break;
      default:
        hak_trim(random.OneIn(2) ? 0 : 1 << 20);
    }
    SleepMs(static_cast<long>(random.Below(3)));
  }
}

// The child has all blocks and none of the other threads. All shared blocks are intact, and the heap works.
int InChild(Shared *shared, uint64_t seed) {
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(kAlarmSeconds);
    shared->damaged = 0;
    shared->failed = 0;
    Live(shared, seed);
    FreeSlots(shared);
    hak_trim(0);
    if (!hak_heap_verify()) _exit(2);
    if (Stats().threads > 1) _exit(3);
    _exit(shared->damaged != 0 ? 4 : shared->failed != 0 ? 5 : 0);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void Stress(bool forks) {
  RunSeed();  // Draws the seed before threads exist that could draw it while this one forks.
  hak_free(hak_malloc(1));
  const hak_stats before = Stats();
  ASSERT_EQ(pthread_key_create(&g_late, LateDestructor), 0);
  Shared shared;
  const uint64_t lives = Scaled(kSlowBuild ? 40 : 150);
  std::vector<std::thread> lanes;
  for (uint64_t lane = 0; lane < kLanes; ++lane) lanes.emplace_back([&, lane] { RunLane(&shared, lane, lives); });
  std::thread reclaimer([&] { RunReclaimer(&shared); });
  if (forks) {
    for (uint64_t i = 0; i < Scaled(kSlowBuild ? 8 : 20); ++i) {
      EXPECT_EQ(InChild(&shared, 7000 + i), 0);
      SleepMs(5);
    }
  }
  for (std::thread &lane : lanes) lane.join();
  shared.stop = true;
  reclaimer.join();
  pthread_key_delete(g_late);
  FreeSlots(&shared);
  EXPECT_EQ(shared.damaged, 0U);
  EXPECT_EQ(shared.failed, 0U);
  EXPECT_TRUE(hak_heap_verify());
  hak_trim(0);
  const hak_stats after = Stats();
  EXPECT_EQ(after.live_blocks, before.live_blocks);
  EXPECT_EQ(after.live_bytes, before.live_bytes);
  EXPECT_LE(after.threads, before.threads);
  // The events that this test is about have occurred.
  EXPECT_GT(after.slabs_adopted, before.slabs_adopted);
  if (!IsFastBuild()) {
    EXPECT_GT(after.remote_batches, before.remote_batches);
  }
  if (HasBarrier()) {
    EXPECT_GT(after.idle_blocks_taken, before.idle_blocks_taken);
  }
}

TEST(RaceStress, EverythingAtOnce) { Stress(false); }

TEST(RaceStress, AndForks) { Stress(true); }

}  // namespace
}  // namespace hak_test
