// SPDX-License-Identifier: Apache-2.0
//
// Random programs run on the model: which call comes next, on which block, with which size. All choices come from the
// seed; with one thread the same seed gives the same calls.
#ifndef HAKMEM_ALLOCATOR_TESTS_RANDOM_DRIVER_H_
#define HAKMEM_ALLOCATOR_TESTS_RANDOM_DRIVER_H_

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "allocator/test/heap_model.h"
#include "allocator/test/test_random.h"

namespace hak_test {

// Sizes biased to where allocators go wrong: class edges and their neighbours, pages, the thresholds between the small,
// the span and the mapped path.
class SizeSource {
 public:
  // Finds the class edges by asking good_size; reports answers that cannot be.
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

// One thread. Ends at the first violation; frees all it holds unless there was one.
void RunSingle(HeapModel *model, const SingleOptions &options);

struct ThreadsOptions {
  uint64_t seed = 1;
  size_t threads = 4;
  size_t rounds = 4;             // each starts new threads; blocks outlive the threads that got them
  uint64_t operations = 5000;    // for each thread and round
  size_t slots = 200;            // for each thread
  uint64_t remote_percent = 30;  // how often a block is handed to another thread instead of kept
};

// Several threads that hand blocks to each other through queues and exit holding blocks that later threads take over.
// Statistics are compared after every round, when all threads have been joined.
void RunThreads(HeapModel *model, const ThreadsOptions &options);

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_RANDOM_DRIVER_H_
