// SPDX-License-Identifier: Apache-2.0
//
// One misuse of the allocator, in a process of its own: what the cases of misuse_case share. A case says on the
// progress pipe how far it got and what harm it saw, so that misuse_matrix.py can tell when a misuse was noticed, and
// whether one that was not did any damage. Nothing here allocates on its own account.
#ifndef HAKMEM_ALLOCATOR_TEST_MISUSE_CASE_H_
#define HAKMEM_ALLOCATOR_TEST_MISUSE_CASE_H_

#include <stddef.h>
#include <stdint.h>

namespace misuse {

// ---- The progress pipe --------------------------------------------------------------------------

// "stage NAME". The misuse happens in the stage `misuse`; the next calls that meet the block come in the stage `next`.
void Stage(const char *name);
// "stage misuse", and which pointer is misused.
void StageMisuse(const void *pointer);
// "harm WHAT": damage that a program would suffer. The first kind of it counts.
void Harm(const char *what);
// The allocator lacks the function that the case calls: ends the process.
[[noreturn]] void NotApplicable(const char *what);

// ---- Blocks -------------------------------------------------------------------------------------

// The compiler must not know where a pointer came from.
template <typename T>
T *Hide(T *pointer) {
  T *volatile hidden = pointer;
  return hidden;
}

// A live block of the program, full of bytes that tell when they change: none of them is even.
struct Block {
  unsigned char *start;
  size_t size;
  uint64_t id;
};

// The blocks that the program believes to be its own.
class LiveSet {
 public:
  // Allocates a block and fills it; harm when it lies in another live block. Ends the process when there is no memory.
  unsigned char *New(size_t size);
  // Takes over a block got elsewhere, and fills it.
  void Add(void *start, size_t size);
  // Forgets the block without freeing it.
  void Forget(const void *start);
  // Frees the block.
  void Free(void *start);
  // Harm when the contents of any block changed.
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

// How many blocks of the size do for a crowd around the victim, for using the size again, and for a storm that flushes
// any cache.
size_t CrowdOf(size_t size);
size_t AgainOf(size_t size);
size_t StormOf(size_t size);

// Allocates what a program allocates next of this size.
void UseAgain(Scene &scene);
// Allocates, and frees, the scene's spare blocks.
void TakeSpares(Scene &scene);
void FreeSpares(Scene &scene);
// Runs the function on a thread of its own, to its end.
void OnAnotherThread(void (*function)(Scene &), Scene &scene);

enum : unsigned {
  kRemoteOnly = 1,  // no variant by one thread alone
  kQuiet = 2,       // after the misuse the process ends without another call
  kByMain = 4,      // in the remote variant another thread takes part, but the misuse is the main thread's
};

struct Case {
  const char *name;
  // By the main thread. The crowd of blocks, the victim among them, is there already.
  void (*prepare)(Scene &);
  // By the main thread, or in the remote variant by another one.
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
