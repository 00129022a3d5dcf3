// SPDX-License-Identifier: Apache-2.0
//
// A model of a correct heap. Every call to the allocator goes through it: it makes the call, checks the result against
// the rules of hakmem.h, and records violations as values, so that a test can also require that a planted bug *is*
// found.
//
// All functions may be called by several threads at once; a Block belongs to one thread at a time.
#ifndef HAKMEM_ALLOCATOR_TESTS_HEAP_MODEL_H_
#define HAKMEM_ALLOCATOR_TESTS_HEAP_MODEL_H_

#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <map>
#include <memory_resource>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "allocator/test/allocator_api.h"

namespace hak_test {

// The rule that a violation breaks.
enum class Oracle {
  kContents,      // bytes of a live block changed
  kOverlap,       // two live blocks share a byte
  kAlignment,     // a block or a result is not aligned
  kUsable,        // the usable size is too small, unstable, or not what good_size says
  kRealloc,       // realloc lost bytes, or changed the old block although it failed
  kZero,          // calloc returned memory that is not zero
  kErrno,         // errno or a returned code is wrong, or a failed call wrote *out
  kOverflow,      // an impossible request succeeded, or a possible one was refused as impossible
  kStatistics,    // statistics differ from the model
  kVerify,        // the heap's own check failed
  kAvailability,  // an ordinary request failed
  kFault,         // the system refused memory, and the request did not fail by NULL and ENOMEM
  kSameAgain,     // the same calls had another result
  kVisit,         // heap_visit left out a live block, or saw another one
  kMove,          // should_move counts its answers wrongly, or wants a large block moved
  kOwns,          // owns is wrong about a block, or about an address in one
};

const char *OracleName(Oracle oracle);

struct Violation {
  Oracle oracle;
  std::string what;
};

// The sized frees that the standard allows for a block.
enum class Release { kSized, kAlignedSized, kPlainOnly };

struct Block {
  unsigned char *p = nullptr;
  size_t requested = 0;
  size_t usable = 0;
  size_t alignment = 16;
  size_t filled = 0;  // bytes that were filled
  uint64_t id = 0;
  Release release = Release::kSized;
};

class HeapModel {
 public:
  // Takes the current statistics as the baseline of later comparisons. Blocks that others hold now must stay live.
  explicit HeapModel(const AllocatorApi &api);

  // Allocation. True: `*out` is a new block, and no violation was recorded so far.
  bool Malloc(size_t size, Block *out);
  bool MallocNoCache(size_t size, Block *out);
  bool Calloc(size_t count, size_t size, Block *out);
  bool Zalloc(size_t size, Block *out);
  bool ReallocNull(size_t size, Block *out);
  bool AlignedAlloc(size_t alignment, size_t size, Block *out);
  bool AlignedCalloc(size_t alignment, size_t count, size_t size, Block *out);
  bool Memalign(size_t alignment, size_t size, Block *out);
  bool PosixMemalign(size_t alignment, size_t size, Block *out);

  // Changes the size of a live block. `size` 0 frees it, and block->p is then null.
  bool Realloc(Block *block, size_t size);
  bool ReallocArray(Block *block, size_t count, size_t size);
  bool AlignedRealloc(Block *block, size_t alignment, size_t size);
  bool ReallocInPlace(Block *block, size_t size);

  // Free verifies the contents first.
  void Free(const Block &block);
  void FreeSized(const Block &block);
  void FreeNoCache(const Block &block);

  // Asks which of the live blocks should move, and moves these.
  void MoveSparse(const std::vector<Block *> &blocks);

  // Checks the contents and the usable size of a live block.
  void Audit(const Block &block);

  // Makes impossible requests (overflow_grid.cc has about two thousand): those whose number is `part` modulo `parts`.
  // `live` is a live block that must survive them.
  void CheckOverflowGrid(const Block &live, size_t part = 0, size_t parts = 1);

  // Compares the heap's statistics with the model. Call it only while no other thread is inside the allocator.
  void CheckStatistics();
  void CheckVerify();
  // As CheckStatistics, for the blocks that heap_visit sees.
  void CheckVisit();

  // Whether requests may fail now, because a fault plan makes the system refuse memory. Called when a request failed.
  // The failure must be NULL with ENOMEM, and nothing may have changed.
  void AllowFailures(bool (*may_fail)()) { may_fail_ = may_fail; }

  // From now on AddressSanitizer, in builds with it, forbids all accesses to live blocks except by this model: an
  // allocator that touches a live block ends the process. Call it before the first block.
  void CloseLiveBlocks() { close_blocks_ = true; }

  // Saves time in fuzzers: of blocks over 8 KiB only both ends and some places between are filled, and
  // recycled_zeroed() counts nothing. Call it before the first block.
  void CheckSparsely() { sparse_ = true; }

  void Report(Oracle oracle, std::string what);
  bool ok() const { return !failed_.load(std::memory_order_acquire); }
  std::vector<Violation> violations() const;

  const AllocatorApi &api() const { return api_; }
  uint64_t live_blocks() const;
  // How many zeroed blocks lay where a filled block had been freed. It shows that the check for zero had an effect.
  uint64_t recycled_zeroed() const { return recycled_zeroed_.load(); }

 private:
  bool Adopt(void *p, size_t size, size_t alignment, bool zeroed, int error, const char *call, Block *out);
  bool FinishRealloc(Block *block, void *result, size_t size, size_t alignment, int error, const char *call);
  bool CheckBlock(const void *p, size_t size, size_t alignment, const char *call, size_t *usable);
  bool Insert(const void *p, size_t usable, const char *call);
  void Remove(const Block &block, bool goes_free);
  bool CheckContents(const Block &block, size_t bytes, Oracle oracle, const char *when);
  void CheckOwns(const Block &block, const char *call);
  void Fill(Block *block);
  void ExpectErrno(int error, const char *call);
  // Handles a failed request; `error` is what it returned or left in errno.
  void Refused(int error, const std::string &call);
  void Open(const Block &block) const;
  void Close(const Block &block) const;

  AllocatorApi api_;
  bool (*may_fail_)() = nullptr;
  bool close_blocks_ = false;
  bool sparse_ = false;
  hak_stats baseline_ = {};
  std::atomic<uint64_t> next_id_{1};
  std::atomic<uint64_t> recycled_zeroed_{0};
  std::atomic<bool> failed_{false};
  mutable std::mutex mutex_;
  std::pmr::unsynchronized_pool_resource
      nodes_;  // the memory of live_: one malloc for each node would be most of the work
  std::pmr::map<uintptr_t, uintptr_t> live_{&nodes_};  // start -> end of every live block
  uint64_t live_bytes_ = 0;
  std::unordered_set<uintptr_t> freed_;  // starts of filled blocks that were freed
  std::vector<Violation> violations_;
};

// The value of errno before every call that the model makes.
inline constexpr int kErrnoBefore = 4242;

std::string Hex(const void *p);

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_HEAP_MODEL_H_
