// SPDX-License-Identifier: Apache-2.0
//
// Heaps that grow to tens of megabytes, fall idle and grow again, beside threads that wait, and threads that allocate
// and free after their end: what the allocator does about time and size, and small inputs of few calls never reach.
//
// An input is a row of records of eight bytes: byte 0 chooses the step, byte 1 the kind of block, bytes 2 and 3 how
// many, byte 4 which of the blocks are freed, byte 5 how long a pause lasts.
#include <errno.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "allocator/test/test_random.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/op_mutator.h"
#include "fuzz/record.h"

namespace {

using hak_fuzz::Check;

constexpr size_t kStepsMax = 24;
constexpr size_t kBytesMax = size_t{72} << 20;
// What a block counts for at the most: of a mapping only the ends are written.
constexpr size_t kCountedMax = size_t{1} << 19;
constexpr int kPausesMax = 4;

size_t SizeOf(uint8_t kind) {
  static const size_t sizes[] = {16,   48,   112,  272,   300,   560,    700,     1000,    1024,
                                 2000, 4096, 9000, 30000, 70000, 300000, 2000000, 24000000};
  return sizes[kind % 17];
}

struct Block {
  void *ptr;
  size_t size;
};

uint64_t Mark(const Block &block) { return reinterpret_cast<uintptr_t>(block.ptr) * 0x9e3779b97f4a7c15U ^ block.size; }

// Whether requests may be refused: the process has a limit.
bool Limited() {
  static const bool limited = strcmp(hak_config_get("HAKMEM_MEMORY_LIMIT_MB", nullptr), "0") != 0;
  return limited;
}

Block Take(size_t size) {
  errno = 0;
  const Block block = {hak_malloc(size), size};
  if (block.ptr == nullptr) {
    Check(Limited() && errno == ENOMEM, "no memory");
    return block;
  }
  const uint64_t mark = Mark(block);
  memcpy(block.ptr, &mark, sizeof mark);
  memcpy(static_cast<char *>(block.ptr) + size - sizeof mark, &mark, sizeof mark);
  return block;
}

void Give(const Block &block) {
  if (block.ptr == nullptr) return;
  const uint64_t mark = Mark(block);
  Check(memcmp(block.ptr, &mark, sizeof mark) == 0 &&
            memcmp(static_cast<char *>(block.ptr) + block.size - sizeof mark, &mark, sizeof mark) == 0,
        "a block was written by somebody else");
  hak_free(block.ptr);
}

void Pause(long milliseconds) {
  const timespec time = {0, milliseconds * 1000000};
  nanosleep(&time, nullptr);
}

// ---- A thread that lives on after its end
// ----------------------------------------------------------------------------

// Runs in the rounds of a thread's destructors, the last of them behind the allocator's own.
struct Late {
  pthread_key_t key;
  int rounds;
  size_t size;
  std::vector<Block> kept;
  Block from_outside;
};

void AtEnd(void *argument) {
  Late *late = static_cast<Late *>(argument);
  for (int i = 0; i < 40; ++i) late->kept.push_back(Take(late->size + static_cast<size_t>(i) * 16));
  while (late->kept.size() > 10) {
    Give(late->kept.back());
    late->kept.pop_back();
  }
  if (late->from_outside.ptr != nullptr) Give(late->from_outside);
  late->from_outside.ptr = nullptr;
  if (--late->rounds > 0) pthread_setspecific(late->key, late);
}

void EndingThread(size_t size, int rounds) {
  Late late = {};
  // ThreadSanitizer's own destructor of a thread runs in the last round, and nothing may come after it.
  late.rounds = HAK_TEST_TSAN ? std::min(rounds, 2) : rounds;
  late.size = size;
  late.from_outside = Take(size);
  if (pthread_key_create(&late.key, AtEnd) == 0) {
    std::thread([&late] {
      pthread_setspecific(late.key, &late);
      Give(Take(late.size));
    }).join();
    pthread_key_delete(late.key);
  }
  if (late.from_outside.ptr != nullptr) Give(late.from_outside);
  for (const Block &block : late.kept) Give(block);
}

// ---- A thread whose blocks others free while it ends
// ------------------------------------------------------------------

void FreedByOthers(size_t size, size_t count) {
  std::vector<Block> blocks;
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, 2);
  std::thread owner([&] {
    while (blocks.size() < count) blocks.push_back(Take(size));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
  });
  pthread_barrier_wait(&barrier);
  // Half of them before its end, so that it ends with frees that it has not seen, and half on slabs without an owner.
  for (size_t i = 0; i < count; i += 2) Give(blocks[i]);
  hak_thread_flush();
  pthread_barrier_wait(&barrier);
  owner.join();
  for (size_t i = 1; i < count; i += 2) Give(blocks[i]);
  hak_thread_flush();
  pthread_barrier_destroy(&barrier);
}

// ---- A thread that fills its cache and then waits
// ----------------------------------------------------------------------

class Waiter {
 public:
  explicit Waiter(size_t size) : thread_(&Waiter::Run, this, size) {
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
    for (int i = 0; i < 2000; ++i) blocks.push_back(Take(size));
    for (const Block &block : blocks) Give(block);
    std::unique_lock<std::mutex> lock(mutex_);
    filled_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return done_; });
    lock.unlock();
    // What it kept may be gone meanwhile.
    Give(Take(size));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool filled_ = false;
  bool done_ = false;
  std::thread thread_;
};

// ---- The input
// ---------------------------------------------------------------------------------------------------------

class Growth {
 public:
  ~Growth() {
    waiter_.reset();
    for (const Block &block : blocks_) Give(block);
  }

  void Step(const uint8_t *record) {
    const size_t count = hak_fuzz::Pair(record + 2);
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
        if (waiter_ == nullptr) waiter_ = std::make_unique<Waiter>(SizeOf(record[1] % 8));
        return;
      default:
        if (record[4] % 4 == 0) return hak_thread_flush();
        if (record[4] % 4 == 1) return FreedByOthers(SizeOf(record[1] % 11), 2 + count % 2000);
        return EndingThread(SizeOf(record[1] % 13), 1 + record[4] % 4);
    }
  }

 private:
  void Grow(size_t size, size_t count) {
    while (count-- > 0 && bytes_ + std::min(size, kCountedMax) <= kBytesMax) {
      blocks_.push_back(Take(size));
      bytes_ += std::min(size, kCountedMax);
    }
  }

  // Every block, or every but each n-th: slabs stay partly in use.
  void FreeSome(uint8_t keep_each, size_t most) {
    std::vector<Block> left;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (i >= most || (keep_each > 1 && i % keep_each == 0)) {
        left.push_back(blocks_[i]);
      } else {
        bytes_ -= std::min(blocks_[i].size, kCountedMax);
        Give(blocks_[i]);
      }
    }
    blocks_.swap(left);
  }

  // A program that makes a call now and then.
  void Quiet(uint8_t length, size_t size) {
    if (pauses_++ >= kPausesMax) return;
    for (int i = 0; i < 3; ++i) {
      Pause(1 + length % 48);
      Give(Take(size));
      hak_thread_flush();
    }
  }

  std::vector<Block> blocks_;
  std::unique_ptr<Waiter> waiter_;
  size_t bytes_ = 0;
  int pauses_ = 0;
};

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hak_stats before = {};
  before.version = HAK_STATS_VERSION;
  hak_stats after = before;
  Check(hak_stats_get(&before) == 0, "hak_stats_get fails");
  {
    Growth growth;
    hak_fuzz::ForEachRecord(data, size, kStepsMax, [&growth](const uint8_t *record) { growth.Step(record); });
  }
  Check(hak_stats_get(&after) == 0, "hak_stats_get fails");
  Check(after.live_blocks == before.live_blocks, "blocks are left over");
  Check(hak_heap_verify(), "the heap's records are damaged");
  return 0;
}
