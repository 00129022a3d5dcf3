// SPDX-License-Identifier: Apache-2.0
//
// A model of what a correct heap holds. Every call to the allocator goes through it: it makes the call, checks the
// result against the rules of hakmem.h, and keeps what was found wrong as values, so that a test can also ask that a
// planted bug *is* found.
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

// What a violation is about; the numbers of the list in the testing rules are in the comments.
enum class Oracle {
  kContents,      // 1: bytes of a live block changed
  kOverlap,       // 2: two live blocks share a byte
  kAlignment,     // 3: block or result not aligned
  kUsable,        // 3: usable size too small, unstable, or not what good_size says
  kRealloc,       // 4: bytes lost by realloc, or the old block touched by one that failed
  kZero,          // 5: calloc memory not zero
  kErrno,         // 6: errno or a returned code not exact, or *out written by a failure
  kOverflow,      // 7: a request that cannot be met was met, or the other way round
  kStatistics,    // 8: statistics differ from the model
  kVerify,        // 9: the heap's own check failed
  kAvailability,  // an ordinary request failed
  kFault,         // 12: a request that the system refused memory for failed in another way than by NULL and ENOMEM
  kSameAgain,     // 14: the same calls gave something else
};

const char *OracleName(Oracle oracle);

struct Violation {
  Oracle oracle;
  std::string what;
};

// Which sized free the standard allows for a block.
enum class Release { kSized, kAlignedSized, kPlainOnly };

struct Block {
  unsigned char *p = nullptr;
  size_t requested = 0;
  size_t usable = 0;
  size_t alignment = 16;
  size_t filled = 0;  // bytes that had contents written
  uint64_t id = 0;
  Release release = Release::kSized;
};

class HeapModel {
 public:
  // The statistics at this moment are the baseline of later comparisons: blocks that others hold then must stay.
  explicit HeapModel(const AllocatorApi &api);

  // Allocation. True when there is a new block in `*out`; false when a violation was noted.
  bool Malloc(size_t size, Block *out);
  bool Calloc(size_t count, size_t size, Block *out);
  bool Zalloc(size_t size, Block *out);
  bool ReallocNull(size_t size, Block *out);
  bool AlignedAlloc(size_t alignment, size_t size, Block *out);
  bool Memalign(size_t alignment, size_t size, Block *out);
  bool PosixMemalign(size_t alignment, size_t size, Block *out);

  // Change of a live block. `size` 0 frees it: block->p is then null.
  bool Realloc(Block *block, size_t size);
  bool ReallocArray(Block *block, size_t count, size_t size);
  bool ReallocInPlace(Block *block, size_t size);

  // Free verifies the contents first.
  void Free(const Block &block);
  void FreeSized(const Block &block);

  // Contents and usable size of a live block.
  void Audit(const Block &block);

  // Requests that cannot be met (overflow_grid.cc), some two thousand: those whose number is `part` modulo `parts`.
  // `live` is a live block that must survive them.
  void CheckOverflowGrid(const Block &live, size_t part = 0, size_t parts = 1);

  // The heap's statistics against the model. Only while no other thread is inside the allocator.
  void CheckStatistics();
  void CheckVerify();

  // Whether requests may fail now, because the system was made to refuse memory: asked when one did. What it then has
  // to be is NULL and ENOMEM, with everything as it was.
  void AllowFailures(bool (*may_fail)()) { may_fail_ = may_fail; }

  // From now on live blocks are closed to everybody but this model by AddressSanitizer, where the build has it: an
  // allocator that touches a block which it was not handed ends the process. Not before the first block.
  void CloseLiveBlocks() { close_blocks_ = true; }

  // For fuzzers, where time is what counts: of blocks over 8 KiB only both ends and places between have contents, and
  // recycled_zeroed() counts nothing. Not after the first block.
  void CheckSparsely() { sparse_ = true; }

  void Report(Oracle oracle, std::string what);
  bool ok() const { return !failed_.load(std::memory_order_acquire); }
  std::vector<Violation> violations() const;

  const AllocatorApi &api() const { return api_; }
  uint64_t live_blocks() const;
  // Zeroed blocks that came at an address where a filled block had been freed: that the zero check had work to do.
  uint64_t recycled_zeroed() const { return recycled_zeroed_.load(); }

 private:
  bool Adopt(void *p, size_t size, size_t alignment, bool zeroed, int error, const char *call, Block *out);
  bool FinishRealloc(Block *block, void *result, size_t size, int error, const char *call);
  bool CheckBlock(const void *p, size_t size, size_t alignment, const char *call, size_t *usable);
  bool Insert(const void *p, size_t usable, const char *call);
  void Remove(const Block &block, bool goes_free);
  bool CheckContents(const Block &block, size_t bytes, Oracle oracle, const char *when);
  void Fill(Block *block);
  void ExpectErrno(int error, const char *call);
  // A request failed; `error` is what it left in errno or returned.
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
  std::pmr::unsynchronized_pool_resource nodes_;       // of live_: one malloc each would be most of the work
  std::pmr::map<uintptr_t, uintptr_t> live_{&nodes_};  // start -> end of every live block
  uint64_t live_bytes_ = 0;
  std::unordered_set<uintptr_t> freed_;  // starts of filled blocks that were freed
  std::vector<Violation> violations_;
};

// The value that errno has before every call the model makes.
inline constexpr int kErrnoBefore = 4242;

std::string Hex(const void *p);

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_HEAP_MODEL_H_
