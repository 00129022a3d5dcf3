// SPDX-License-Identifier: Apache-2.0
#include "fuzz/threads_engine.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "fuzz/heap_engine.h"
#include "fuzz/op_mutator.h"

namespace hak_fuzz {
namespace {

using hak_test::Block;
using hak_test::HeapModel;

constexpr size_t kWorkers = 3;
constexpr size_t kByteBudget = size_t{1} << 20;
// Starting threads is expensive, so an input may end only a few of them.
constexpr unsigned kRestartsMax = 2;

// A thread that does the jobs that it is given, in order.
class Worker {
 public:
  Worker() : thread_([this] { Loop(); }) {}
  ~Worker() {
    Post(nullptr);
    thread_.join();
  }
  Worker(const Worker &) = delete;
  Worker &operator=(const Worker &) = delete;

  // Adds a job; an empty one ends the thread.
  void Post(std::function<void()> job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(std::move(job));
    posted_.notify_one();
  }

  // Waits until all jobs are done.
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait(lock, [this] { return jobs_.empty(); });
  }

 private:
  void Loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      posted_.wait(lock, [this] { return !jobs_.empty(); });
      const std::function<void()> &job = jobs_.front();  // elements of a deque do not move
      if (!job) return;
      lock.unlock();
      job();
      lock.lock();
      jobs_.pop_front();
      if (jobs_.empty()) idle_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable posted_;
  std::condition_variable idle_;
  std::deque<std::function<void()>> jobs_;  // the first one is in progress
  std::thread thread_;                      // last, because it uses the other members
};

// They are kept from input to input, because a new thread would find every list empty.
std::array<std::unique_ptr<Worker>, kWorkers> &Workers() {
  // Never destroyed, so that the process can end while the threads wait.
  static auto *workers = new std::array<std::unique_ptr<Worker>, kWorkers>;
  for (std::unique_ptr<Worker> &worker : *workers) {
    if (worker == nullptr) worker = std::make_unique<Worker>();
  }
  return *workers;
}

class Input {
 public:
  explicit Input(HeapModel *model) : model_(model), workers_(Workers()) {}

  void Step(const uint8_t *record) {
    const size_t worker = record[7] % 4 % kWorkers;
    const uint8_t *r = record;
    // Successive calls of one thread need no wake-up in between, which would take longer than the calls.
    if (worker != previous_ && previous_waits_) workers_[previous_]->Wait();
    previous_ = worker;
    previous_waits_ = (r[7] & 4) == 0;
    switch (r[0] % 16) {
      case 0:
        workers_[worker]->Post([this] { model_->api().thread_flush(); });
        break;
      case 1:
        workers_[worker]->Post([this] { model_->api().trim(0); });
        break;
      case 2:
        if (r[0] >= 224 && restarts_ < kRestartsMax) {
          // Its blocks outlive it: their slabs go to the orphanage.
          ++restarts_;
          workers_[worker] = nullptr;
          workers_[worker] = std::make_unique<Worker>();
          return;
        }
        workers_[worker]->Post([this] { model_->CheckVerify(); });
        break;
      case 3:
      case 4: {
        // Eight neighbouring slots at once, so that a batch for another thread gets several blocks.
        for (size_t i = 0; i < 8; ++i) OnSlot(worker, r, (r[1] + i) % kHeapSlots);
        break;
      }
      default:
        OnSlot(worker, r, r[1] % kHeapSlots);
        break;
    }
  }

  void End() {
    for (const std::unique_ptr<Worker> &worker : workers_) worker->Wait();
    if (!model_->ok()) return;
    model_->CheckStatistics();
    for (size_t i = 0; i < kHeapSlots; ++i) {
      workers_[i % kWorkers]->Post([this, i] { FreeSlot(&slots_[i]); });
    }
    // Remote frees arrive when the owner collects them, so there is a second round.
    for (int round = 0; round < 2; ++round) {
      for (const std::unique_ptr<Worker> &worker : workers_) {
        worker->Post([this] { model_->api().trim(0); });
        worker->Wait();
      }
    }
    model_->CheckStatistics();
    model_->CheckVerify();
  }

 private:
  void FreeSlot(Block *slot) {
    if (slot->p == nullptr || !model_->ok()) return;
    model_->Free(*slot);
    slot->p = nullptr;
  }

  // One worker's call on one slot. Another worker that is busy with the slot finishes first.
  void OnSlot(size_t worker, const uint8_t *record, size_t at) {
    if (last_[at] != worker) workers_[last_[at]]->Wait();
    last_[at] = worker;
    size_t size = DecodeSize(record);
    if (size > budget_) size %= 512;
    budget_ -= std::min(size, budget_);
    workers_[worker]->Post([this, at, size, op = record[0], align = record[6]] { Call(&slots_[at], size, op, align); });
  }

  void Call(Block *slot, size_t size, uint8_t op, uint8_t align) {
    if (!model_->ok()) return;
    if (slot->p != nullptr) {
      switch (op % 8) {
        case 0:
          model_->Realloc(slot, size);
          return;
        case 1:
          model_->ReallocInPlace(slot, size + 1);
          return;
        case 2:
          model_->Audit(*slot);
          return;
        case 5:
          model_->FreeSized(*slot);
          slot->p = nullptr;
          return;
        default:
          FreeSlot(slot);
          return;
      }
    }
    switch (op % 8) {
      case 0:
        model_->Calloc(1, size, slot);
        return;
      case 1:
        model_->AlignedAlloc(size_t{1} << (align % 17), size, slot);
        return;
      default:
        model_->Malloc(size, slot);
        return;
    }
  }

  HeapModel *model_;
  std::array<std::unique_ptr<Worker>, kWorkers> &workers_;
  std::array<Block, kHeapSlots> slots_;
  std::array<size_t, kHeapSlots> last_ = {};  // the worker that touched the slot last
  size_t budget_ = kByteBudget;
  unsigned restarts_ = 0;
  size_t previous_ = 0;  // the worker of the record before
  bool previous_waits_ = false;
};

}  // namespace

void RunThreadsInput(HeapModel *model, const uint8_t *data, size_t size) {
  Input input(model);
  const size_t count = std::min(size / kRecord, kThreadsOpsMax);
  for (size_t i = 0; i < count && model->ok(); ++i) input.Step(data + i * kRecord);
  input.End();
}

}  // namespace hak_fuzz
