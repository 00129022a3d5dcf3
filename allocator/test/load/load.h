// SPDX-License-Identifier: Apache-2.0
//
// A load of everything at once: threads that come and go and pass blocks to each other, and beside them forks, trims,
// settings that change, a memory limit near what is in use, signals whose handlers allocate, and statistics. Every
// block is checked, and every allocation and free is counted.
#ifndef HAKMEM_ALLOCATOR_TEST_LOAD_LOAD_H_
#define HAKMEM_ALLOCATOR_TEST_LOAD_LOAD_H_

#include <stddef.h>
#include <stdint.h>

#include <array>
#include <atomic>
#include <string>

namespace hak_test {

// What threads add to and the main thread reads at the end: the order of relaxed additions does not matter, and threads
// are joined before the sums are read.
struct Counters {
  std::atomic<uint64_t> allocated{0};
  std::atomic<uint64_t> freed{0};
  std::atomic<uint64_t> moved{0};    // resized by realloc
  std::atomic<uint64_t> refused{0};  // NULL with ENOMEM
  std::atomic<uint64_t> threads{0};
  std::atomic<uint64_t> forks{0};
  std::atomic<uint64_t> trims{0};
  std::atomic<uint64_t> settings{0};
  std::atomic<uint64_t> signals{0};         // whose handlers ran
  std::atomic<uint64_t> signals_inside{0};  // within a call of the allocator, where a handler may not allocate
  std::atomic<uint64_t> looks{0};           // verifications, statistics and visits
  std::atomic<uint64_t> faults{0};          // whatever was wrong; a line on stderr says what
};

// Bugs that show that the load notices them.
enum class Planted { kNone, kLostFree, kDamage, kMemoryKept, kWrongErrno, kChildFails, kNoTrims, kEnd };

struct Load {
  static constexpr size_t kSlots = 8192;

  std::atomic<bool> stop{false};
  // Blocks in transit from any thread to any other.
  std::array<std::atomic<void *>, kSlots> slots{};
  Counters counters;
  Planted planted = Planted::kNone;
};

// Records a fault and writes what it is.
void Wrong(Load *load, const char *what, uint64_t detail);

// Blocks know their size and contents. Counted; NULL is counted as refused if errno is ENOMEM.
void *NewBlock(Load *load, uint64_t random);
// Checks and frees a block; NULL is allowed.
void FreeBlock(Load *load, void *block, uint64_t random);
void CheckBlock(Load *load, const void *block);

// Until `stop`: one thread after the other, each of which allocates, frees and ends.
void RunWorkers(Load *load, uint64_t seed);

// Until `stop`: what disturbs the workers.
void RunForks(Load *load, uint64_t seed);
void RunTrims(Load *load, uint64_t seed);
void RunSettings(Load *load, uint64_t seed);
void RunLooks(Load *load, uint64_t seed);
// The live blocks that a walk over the heap visits.
size_t CountVisited();
// Installs the handler, before the workers start; they send the signals to themselves and to each other.
void InstallHandler(Load *load);
// Sends a signal to the calling process, which some thread gets.
void RunSignals(Load *load, uint64_t seed);

// In a call of the allocator: handlers that interrupt it do not allocate.
class InsideCall {
 public:
  InsideCall();
  ~InsideCall();
  InsideCall(const InsideCall &) = delete;
  InsideCall &operator=(const InsideCall &) = delete;
};

// The calling thread is about to end, or to look at the results: from now on handlers do not allocate in it.
void StayInside();

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TEST_LOAD_LOAD_H_
