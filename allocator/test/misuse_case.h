// SPDX-License-Identifier: Apache-2.0
//
// One misuse of the allocator in a process of its own: what the cases of misuse_case share. A case reports its progress
// and any harm on the progress pipe, from which misuse_matrix.py learns when the misuse was noticed, or whether it did
// damage unnoticed. Nothing here allocates except for the case itself.
#ifndef HAKMEM_ALLOCATOR_TEST_MISUSE_CASE_H_
#define HAKMEM_ALLOCATOR_TEST_MISUSE_CASE_H_

#include <stddef.h>
#include <stdint.h>

namespace misuse {

// ---- The progress pipe --------------------------------------------------------------------------

// Writes "stage NAME". The misuse happens in the stage `misuse`; the next calls that use the block are in the stage
// `next`.
void Stage(const char *name);
// Writes "stage misuse", and which pointer is misused.
void StageMisuse(const void *pointer);
// Writes "harm WHAT": damage to a program. Only the first harm counts.
void Harm(const char *what);
// Ends the process because the allocator lacks the function that the case calls.
[[noreturn]] void NotApplicable(const char *what);

// ---- Blocks -------------------------------------------------------------------------------------

// Hides from the compiler where a pointer came from.
template <typename T>
T *Hide(T *pointer) {
  T *volatile hidden = pointer;
  return hidden;
}

// A live block of the program, filled with a pattern of odd bytes, so that changes are noticed.
struct Block {
  unsigned char *start;
  size_t size;
  uint64_t id;
};

// The blocks that the program considers its own.
class LiveSet {
 public:
  // Allocates a block and fills it. Reports harm if it overlaps another live block. Ends the process if there is no
  // memory.
  unsigned char *New(size_t size);
  // Adds a block that was allocated elsewhere, and fills it.
  void Add(void *start, size_t size);
  // Forgets the block without freeing it.
  void Forget(const void *start);
  // Frees the block.
  void Free(void *start);
  // Reports harm if the contents of any block have changed.
  void Check();
  // Frees all blocks from number `first` on, in the order of their allocation.
  void FreeFrom(size_t first);
  size_t Count() const { return count_; }
  const Block &operator[](size_t i) const { return blocks_[i]; }
  void SortByAddress();

 private:
  static constexpr size_t kMost = 8192;
  Block blocks_[kMost] = {};
  size_t count_ = 0;
  uint64_t next_id_ = 1;
};

// ---- Cases --------------------------------------------------------------------------------------

struct Scene {
  size_t size = 0;
  bool remote = false;
  LiveSet live;
  unsigned char *victim = nullptr;  // the middle one of the first blocks
  unsigned char *other = nullptr;   // a block beside it
  // Blocks to free in order to push others out of the thread's cache.
  void *spare[4096] = {};
  size_t spares = 0;
};

// How many blocks of the size suffice around the victim, to use the size again, and to flush any cache.
size_t CrowdOf(size_t size);
size_t AgainOf(size_t size);
size_t StormOf(size_t size);

// Allocates the next blocks of this size, as a program would.
void UseAgain(Scene &scene);
// Allocates, and frees, the scene's spare blocks.
void TakeSpares(Scene &scene);
void FreeSpares(Scene &scene);
// Runs the function in a new thread, and waits until the thread has ended.
void OnAnotherThread(void (*function)(Scene &), Scene &scene);

enum : unsigned {
  kRemoteOnly = 1,  // there is no variant with one thread
  kQuiet = 2,       // after the misuse the process ends without another call
  kByMain = 4,      // in the remote variant another thread takes part, but the main thread does the misuse
};

struct Case {
  const char *name;
  // Called by the main thread, after the blocks around the victim were allocated.
  void (*prepare)(Scene &);
  // Called by the main thread, or in the remote variant by another one.
  void (*misuse)(Scene &);
  unsigned flags;
};

struct CaseList {
  const Case *cases;
  size_t count;
};

CaseList DoubleFrees();
CaseList WrongCalls();
CaseList Writes();

}  // namespace misuse

#endif  // HAKMEM_ALLOCATOR_TEST_MISUSE_CASE_H_
