// SPDX-License-Identifier: Apache-2.0
//
// Variants of the allocator under test, each of which breaks one rule. They are for the positive controls: a check that
// does not notice its planted bug proves nothing.
#ifndef HAKMEM_ALLOCATOR_TESTS_PLANTED_BUGS_H_
#define HAKMEM_ALLOCATOR_TESTS_PLANTED_BUGS_H_

#include "allocator/test/allocator_api.h"

namespace hak_test {

enum class Bug {
  kNone,                  // the wrapper alone: must pass
  kScribble,              // malloc changes a byte of the block that it returned before
  kOverlap,               // malloc returns a block inside the one that it returned before
  kDuplicate,             // malloc returns a live block a second time
  kMisaligned,            // malloc returns multiples of 8
  kMisalignedAligned,     // aligned_alloc returns multiples of 16 only
  kUsableTooSmall,        // usable_size below the request
  kUsableUnstable,        // usable_size changes while the block is live
  kGoodSizeWrong,         // good_size is not the size that malloc returns
  kReallocLoses,          // realloc loses the last byte that it should keep
  kReallocZeroKeeps,      // realloc(p, 0) returns a block
  kInPlaceMoves,          // realloc_in_place moves
  kFailedReallocTouches,  // a failed realloc changes the old block
  kDirtyCalloc,           // calloc does not clear the last byte
  kMallocSetsErrno,       // a successful malloc sets errno
  kFreeSetsErrno,         // free sets errno
  kWrongErrno,            // EINVAL instead of ENOMEM
  kPosixWritesOut,        // a failed posix_memalign writes *out
  kPosixSetsErrno,        // a failed posix_memalign sets errno
  kHugeSucceeds,          // malloc over PTRDIFF_MAX returns a block
  kCallocWraps,           // calloc multiplies modulo 2^64
  kReallocArrayWraps,     // reallocarray multiplies modulo 2^64
  kTopAlignment,          // alignments from 1 << 62 on return an ordinary block
  kOddAlignment,          // aligned_alloc accepts any alignment
  kStatsBlocks,           // live_blocks is one too high
  kStatsBytes,            // live_bytes is too low
  kLostFree,              // some frees do nothing
  kLostRemoteFree,        // a free by another thread than the allocating one does nothing
  kVerifyFails,           // heap_verify returns false
  kFailsAtRandom,         // ordinary requests fail
  kDirtyAligned,          // aligned_calloc does not clear the last byte
  kReallocMisaligns,      // aligned_realloc keeps to the alignment that the block has
  kAlignedReallocLoses,   // aligned_realloc loses the last byte that it should keep
  kVisitMisses,           // heap_visit leaves out every seventh block
  kVisitFreed,            // heap_visit sees a block that is not live
  kVisitTwice,            // heap_visit sees every seventh block twice
  kVisitSize,             // heap_visit gives a size one too large
  kMoveCounts,            // should_move returns one more than its answers
  kMoveAll,               // should_move wants every block moved
  kNoCacheLoses,          // free_nocache does nothing
  kOwnsDenies,            // owns denies some live blocks
  kOwnsInside,            // owns takes the bytes behind a block's first one for blocks too
  kOwnsFreed,             // owns keeps to what it said once
};

// The allocator with `bug`. Its state is global, so only one planted allocator can exist at a time.
AllocatorApi PlantBug(Bug bug);

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_PLANTED_BUGS_H_
