// SPDX-License-Identifier: Apache-2.0
//
// Runs an input of heap_ops_fuzzer on an allocator, through the model of allocator/test/heap_model.h.
//
// An input is a sequence of records of eight bytes (op_mutator.h), one call each; an incomplete record at the end is
// ignored:
//
//   byte 0    which call (HeapOp, by weight)
//   byte 1    slot: which of the 64 blocks it is about
//   byte 2    kind of size, see DecodeSize
//   byte 3    what is added to an edge (-1, 0, 1), the order of a drain, which setting
//   byte 4-5  size, little endian
//   byte 6    alignment
//   byte 7    count: the first factor of a product, the length of a burst, how many memory calls are refused; whether a
//             malloc, free or audit goes round the cache or moves blocks
//
// Refusals by the system: byte 2 has the kinds of calls and byte 4 the first one; bit 1 of byte 3 adds a second plan,
// with its kinds in byte 5 and its first call in byte 6.
#ifndef HAKMEM_FUZZ_HEAP_ENGINE_H_
#define HAKMEM_FUZZ_HEAP_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "allocator/test/heap_model.h"
#include "fuzz/record.h"

namespace hak_fuzz {

enum class HeapOp : uint8_t {
  kMalloc,
  kCalloc,
  kZalloc,
  kReallocNull,
  kAlignedAlloc,
  kPosixMemalign,
  kMemalign,
  kRealloc,
  kReallocArray,
  kReallocInPlace,
  kFree,
  kFreeSized,
  kAudit,     // contents and usable size of a live block; or moves blocks as should_move says
  kGoodSize,  // the rules for good_size alone
  kBurst,     // many blocks of one size
  kDrain,     // frees blocks of bursts
  kFlush,
  kTrim,
  kCheck,         // statistics and heap_verify
  kFault,         // from now on the system refuses some memory calls
  kSettings,      // changed settings, until the end of the input
  kOverflowGrid,  // impossible requests; byte 7 selects some of them
  kCount,
};

inline constexpr size_t kHeapSlots = 64;
// More records are ignored, because long inputs find nothing that several short ones do not.
inline constexpr size_t kHeapOpsMax = 256;

// The size for bytes 2 to 5 of a record, mostly near an edge where allocators fail.
size_t DecodeSize(const uint8_t *record);
// The call for byte 0.
HeapOp DecodeHeapOp(uint8_t byte);
// A byte 0 for `op`.
uint8_t EncodeHeapOp(HeapOp op);

class HeapEngine {
 public:
  // Every input must return to the mapped and cached memory of this moment. One in `rarely` inputs, selected by its
  // bytes, is checked for that, verified, and run twice to see that it does the same again: this takes longer than a
  // short input. Sets hak_config so that results do not depend on time.
  explicit HeapEngine(const hak_test::AllocatorApi &api, uint64_t rarely = 1);

  // See HeapModel::CloseLiveBlocks.
  void CloseLiveBlocks() { close_blocks_ = true; }

  // Runs one input and frees everything again. Returns what is wrong; nothing for a correct allocator. After a
  // violation blocks stay behind.
  std::vector<hak_test::Violation> Run(const uint8_t *data, size_t size);

 private:
  // Runs the calls and frees everything. Returns the trace: a number computed from all results of the calls, with
  // `traces` also from the statistics.
  uint64_t RunOnce(hak_test::HeapModel *model, const uint8_t *data, size_t size, bool traces, bool *faults);
  void CheckReset(hak_test::HeapModel *model);
  void CheckSameAgain(hak_test::HeapModel *model, const uint8_t *data, size_t size);

  hak_test::AllocatorApi api_;
  OneIn chosen_;
  bool close_blocks_ = false;
  uint64_t first_mapped_ = 0;  // bytes, without records, which may grow with the largest number of blocks so far
  uint64_t first_cached_ = 0;  // blocks in the caches of other threads
};

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_HEAP_ENGINE_H_
