// SPDX-License-Identifier: Apache-2.0
#include "fuzz/heap_growth_engine.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "allocator/test/test_random.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/op_mutator.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kStepsMax = 24;
constexpr size_t kBytesMax = size_t{72} << 20;
// The most bytes for which a block counts: of larger blocks only the ends are written.
constexpr size_t kCountedMax = size_t{1} << 19;
constexpr size_t kPage = 4096;
constexpr int kPausesMax = 4;

size_t SizeOf(uint8_t kind) {
  static const size_t sizes[] = {16,   48,   112,  272,   300,   560,    700,     1000,    1024,
                                 2000, 4096, 9000, 30000, 70000, 300000, 2000000, 24000000};
  return sizes[kind % 17];
}

struct Block {
  unsigned char *ptr;
  size_t size;
  uint64_t id;  // unique among the blocks of an input
};

// Whether requests may fail because the process has a limit.
bool Limited() {
  static const bool limited = strcmp(hak_config_get("HAKMEM_MEMORY_LIMIT_MB", nullptr), "0") != 0;
  return limited;
}

// The allocator with marks in its blocks: at both ends, and in each page of blocks that count as a whole. Keeps what is
// wrong until Tell, because it may be found where no exception can be caught: in a thread or a destructor.
class Heap {
 public:
  explicit Heap(const hak_test::AllocatorApi &api) : api_(api) {}

  Block Take(size_t size) {
    errno = 0;
    const Block block = {static_cast<unsigned char *>(api_.malloc(size)), size,
                         1 + last_id_.fetch_add(1, std::memory_order_relaxed)};
    if (block.ptr == nullptr) {
      if (!Limited() || errno != ENOMEM) Note("no memory");
      return block;
    }
    EachMark(block, [](unsigned char *at, uint64_t mark) {
      memcpy(at, &mark, sizeof mark);
      return true;
    });
    return block;
  }

  void Give(const Block &block) {
    if (block.ptr == nullptr) return;
    const bool intact =
        EachMark(block, [](const unsigned char *at, uint64_t mark) { return memcmp(at, &mark, sizeof mark) == 0; });
    // It may belong to any thread now.
    if (!intact) return Note("a block was written by somebody else");
    api_.free(block.ptr);
  }

  void Flush() { api_.thread_flush(); }

  // Throws the first thing that is wrong.
  void Tell() const {
    const char *wrong = wrong_.load(std::memory_order_relaxed);
    if (wrong != nullptr) Fail(wrong);
  }

 private:
  // Whether `step` is true at every mark. Stops at the first where it is false.
  template <typename Step>
  static bool EachMark(const Block &block, const Step &step) {
    const size_t last = block.size - sizeof(uint64_t);
    const size_t stride = block.size <= kCountedMax ? kPage : block.size;
    for (size_t at = 0; at + sizeof(uint64_t) <= last; at += stride) {
      if (!step(block.ptr + at, MarkAt(block, at))) return false;
    }
    return step(block.ptr + last, MarkAt(block, last));
  }
  static uint64_t MarkAt(const Block &block, size_t at) { return block.id * 0x9e3779b97f4a7c15U ^ at; }

  void Note(const char *what) {
    const char *none = nullptr;
    wrong_.compare_exchange_strong(none, what, std::memory_order_relaxed);
  }

  const hak_test::AllocatorApi api_;
  std::atomic<uint64_t> last_id_{0};
  std::atomic<const char *> wrong_{nullptr};
};

void Pause(long milliseconds) {
  const timespec time = {0, milliseconds * 1000000};
  nanosleep(&time, nullptr);
}

// ---- A thread that allocates after its heap was closed ------------------------------------------

// Runs in the rounds of a thread's destructors, the last time after the allocator's own.
struct Late {
  Heap *heap;
  pthread_key_t key;
  int rounds;
  size_t size;
  std::vector<Block> kept;
  Block from_outside;
};

void AtEnd(void *argument) {
  Late *late = static_cast<Late *>(argument);
  for (int i = 0; i < 40; ++i) late->kept.push_back(late->heap->Take(late->size + static_cast<size_t>(i) * 16));
  while (late->kept.size() > 10) {
    late->heap->Give(late->kept.back());
    late->kept.pop_back();
  }
  late->heap->Give(late->from_outside);
  late->from_outside.ptr = nullptr;
  if (--late->rounds > 0) pthread_setspecific(late->key, late);
}

void EndingThread(Heap *heap, size_t size, int rounds) {
  Late late = {};
  late.heap = heap;
  // ThreadSanitizer's own destructor runs in the last round, and nothing may run after it.
  late.rounds = HAK_TEST_TSAN ? std::min(rounds, 2) : rounds;
  late.size = size;
  late.from_outside = heap->Take(size);
  if (pthread_key_create(&late.key, AtEnd) == 0) {
    std::thread([&late] {
      pthread_setspecific(late.key, &late);
      late.heap->Give(late.heap->Take(late.size));
    }).join();
    pthread_key_delete(late.key);
  }
  heap->Give(late.from_outside);
  for (const Block &block : late.kept) heap->Give(block);
}

// ---- A thread whose blocks are freed by others while it ends ------------------------------------

void FreedByOthers(Heap *heap, size_t size, size_t count) {
  std::vector<Block> blocks;
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, 2);
  std::thread owner([&] {
    while (blocks.size() < count) blocks.push_back(heap->Take(size));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
  });
  pthread_barrier_wait(&barrier);
  // Half of them are freed before the thread ends, so that remote frees are waiting then, and half are in slabs without
  // an owner.
  for (size_t i = 0; i < count; i += 2) heap->Give(blocks[i]);
  heap->Flush();
  pthread_barrier_wait(&barrier);
  owner.join();
  for (size_t i = 1; i < count; i += 2) heap->Give(blocks[i]);
  heap->Flush();
  pthread_barrier_destroy(&barrier);
}

// ---- A thread that fills its cache and then waits -----------------------------------------------

class Waiter {
 public:
  Waiter(Heap *heap, size_t size) : heap_(heap), thread_(&Waiter::Run, this, size) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return filled_; });
  }
  ~Waiter() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Waiter(const Waiter &) = delete;
  Waiter &operator=(const Waiter &) = delete;

 private:
  void Run(size_t size) {
    std::vector<Block> blocks;
    for (int i = 0; i < 2000; ++i) blocks.push_back(heap_->Take(size));
    for (const Block &block : blocks) heap_->Give(block);
    std::unique_lock<std::mutex> lock(mutex_);
    filled_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return done_; });
    lock.unlock();
    // What it cached may have been taken meanwhile.
    heap_->Give(heap_->Take(size));
  }

  Heap *heap_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool filled_ = false;
  bool done_ = false;
  std::thread thread_;
};

// ---- The input ----------------------------------------------------------------------------------

class Growth {
 public:
  explicit Growth(Heap *heap) : heap_(heap) {}
  ~Growth() {
    waiter_.reset();
    for (const Block &block : blocks_) heap_->Give(block);
  }
  Growth(const Growth &) = delete;
  Growth &operator=(const Growth &) = delete;

  void Step(const uint8_t *record) {
    const size_t count = Pair(record + 2);
    switch (record[0] % 8) {
      case 0:
      case 1:
      case 2:
        return Grow(SizeOf(record[1]), count);
      case 3:
        return FreeSome(record[4], count);
      case 4:
        return FreeSome(0, blocks_.size());
      case 5:
        return Quiet(record[5], SizeOf(record[1]));
      case 6:
        if (waiter_ == nullptr) waiter_ = std::make_unique<Waiter>(heap_, SizeOf(record[1] % 8));
        return;
      default:
        if (record[4] % 4 == 0) return heap_->Flush();
        if (record[4] % 4 == 1) return FreedByOthers(heap_, SizeOf(record[1] % 11), 2 + count % 2000);
        return EndingThread(heap_, SizeOf(record[1] % 13), 1 + record[4] % 4);
    }
  }

 private:
  void Grow(size_t size, size_t count) {
    while (count-- > 0 && bytes_ + std::min(size, kCountedMax) <= kBytesMax) {
      blocks_.push_back(heap_->Take(size));
      bytes_ += std::min(size, kCountedMax);
    }
  }

  // Frees every block, or all but each n-th, so that slabs stay partly in use.
  void FreeSome(uint8_t keep_each, size_t most) {
    std::vector<Block> left;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (i >= most || (keep_each > 1 && i % keep_each == 0)) {
        left.push_back(blocks_[i]);
      } else {
        bytes_ -= std::min(blocks_[i].size, kCountedMax);
        heap_->Give(blocks_[i]);
      }
    }
    blocks_.swap(left);
  }

  // A program that makes a call from time to time.
  void Quiet(uint8_t length, size_t size) {
    if (pauses_++ >= kPausesMax) return;
    for (int i = 0; i < 3; ++i) {
      Pause(1 + length % 48);
      heap_->Give(heap_->Take(size));
      heap_->Flush();
    }
  }

  Heap *heap_;
  std::vector<Block> blocks_;
  std::unique_ptr<Waiter> waiter_;
  size_t bytes_ = 0;
  int pauses_ = 0;
};

// The live blocks, read until two readings agree: while the purge thread moves blocks they are not exact.
uint64_t LiveBlocks(const hak_test::AllocatorApi &api) {
  uint64_t last = UINT64_MAX;
  for (;;) {
    hak_stats stats = {};
    stats.version = HAK_STATS_VERSION;
    Check(api.stats_get(&stats) == 0, "hak_stats_get fails");
    if (stats.live_blocks == last) return last;
    last = stats.live_blocks;
  }
}

}  // namespace

void RunHeapGrowthInput(const hak_test::AllocatorApi &api, const uint8_t *data, size_t size) {
  const uint64_t before = LiveBlocks(api);
  Heap heap(api);
  {
    Growth growth(&heap);
    ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) {
      growth.Step(record);
      heap.Tell();
    });
  }
  heap.Tell();
  Check(LiveBlocks(api) == before, "blocks are left over");
  Check(api.heap_verify(), "the heap's records are damaged");
}

}  // namespace hak_fuzz
