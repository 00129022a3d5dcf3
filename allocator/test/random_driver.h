// SPDX-License-Identifier: Apache-2.0
//
// Random programs on the model: the next call, its block and its size are random. All choices come from the seed; with
// one thread the same seed makes the same calls.
#ifndef HAKMEM_ALLOCATOR_TESTS_RANDOM_DRIVER_H_
#define HAKMEM_ALLOCATOR_TESTS_RANDOM_DRIVER_H_

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "allocator/test/heap_model.h"
#include "allocator/test/test_random.h"

namespace hak_test {

// Sizes near those where allocators fail: edges of size classes, pages, and the thresholds between small, medium and
// larger blocks.
class SizeSource {
 public:
  // Finds the class edges with good_size, and reports impossible answers.
  explicit SizeSource(HeapModel *model);
  size_t Next(Random *random) const;
  size_t edges() const { return edges_.size(); }

 private:
  std::vector<size_t> edges_;  // last size of each class, ascending
  size_t small_edges_ = 0;     // how many of them are up to 1 KiB
};

struct SingleOptions {
  uint64_t seed = 1;
  uint64_t operations = 20000;
  size_t slots = 1000;
  uint64_t verify_every = 2000;
  bool overflow_grid = true;
};

// One thread. Ends at the first violation; without one, frees all its blocks.
void RunSingle(HeapModel *model, const SingleOptions &options);

struct ThreadsOptions {
  uint64_t seed = 1;
  size_t threads = 4;
  size_t rounds = 4;             // each starts new threads; blocks outlive the threads that allocated them
  uint64_t operations = 5000;    // for each thread and round
  size_t slots = 200;            // for each thread
  uint64_t remote_percent = 30;  // how often a block is passed to another thread
};

// Several threads pass blocks to each other through queues. When they exit, later threads take over their blocks.
// Statistics are compared after every round, when all threads have been joined.
void RunThreads(HeapModel *model, const ThreadsOptions &options);

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_RANDOM_DRIVER_H_
