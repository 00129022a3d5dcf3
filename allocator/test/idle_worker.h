// SPDX-License-Identifier: Apache-2.0
//
// Threads that are idle on request, and the work that they do before.
#ifndef HAKMEM_ALLOCATOR_TESTS_IDLE_WORKER_H_
#define HAKMEM_ALLOCATOR_TESTS_IDLE_WORKER_H_

#include <hakmem/hakmem.h>
#include <pthread.h>

#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "allocator/test/test_random.h"

namespace hak_test {

// A few blocks of many sizes, for the slow calls of a busy thread.
inline void SlowCalls(Random *random) {
  static constexpr size_t kBurst = 400;
  void *blocks[kBurst];
  for (int round = 0; round < 4; ++round) {
    const size_t size = 16 + random->Index(3000);
    for (void *&p : blocks) p = hak_malloc(size);
    for (void *p : blocks) hak_free(p);
  }
}

// A thread that does one piece of work after another and is idle in between.
class Worker {
 public:
  Worker() : thread_([this] { Run(); }) {}
  ~Worker() {
    Do(nullptr);
    thread_.join();
  }
  // Makes the thread do `work`, and waits until it is done. nullptr ends the thread.
  void Do(std::function<void()> work) {
    pthread_barrier_wait(&turn_.begin);  // The thread is idle.
    work_ = std::move(work);
    pthread_barrier_wait(&turn_.end);
    if (work_ != nullptr) pthread_barrier_wait(&turn_.done);
  }

 private:
  struct Turn {
    Turn() {
      for (pthread_barrier_t *barrier : {&begin, &end, &done}) pthread_barrier_init(barrier, nullptr, 2);
    }
    ~Turn() {
      for (pthread_barrier_t *barrier : {&begin, &end, &done}) pthread_barrier_destroy(barrier);
    }
    pthread_barrier_t begin, end, done;
  };
  void Run() {
    for (;;) {
      pthread_barrier_wait(&turn_.begin);
      pthread_barrier_wait(&turn_.end);
      if (work_ == nullptr) return;
      work_();
      pthread_barrier_wait(&turn_.done);
    }
  }

  Turn turn_;
  std::function<void()> work_;
  std::thread thread_;
};

inline constexpr size_t kCachedSizes[] = {16, 48, 100, 250, 1000, 4000};

// Leaves full caches: takes blocks of all sizes, and frees the larger half of them in the same thread.
inline void FillCaches() {
  std::vector<void *> blocks;
  for (int turn = 0; turn < 3; ++turn) {
    for (const size_t size : kCachedSizes) {
      for (size_t i = 0; i < 2500 && i * size < 600000; ++i) blocks.push_back(hak_malloc(size));
    }
    for (void *p : blocks) hak_free(p);
    blocks.clear();
  }
}

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_IDLE_WORKER_H_
