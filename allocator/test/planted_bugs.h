// SPDX-License-Identifier: Apache-2.0
//
// Variants of the allocator under test that each break one rule, for the positive controls: a check that does not
// notice its planted bug proves nothing about the real allocator.
#ifndef HAKMEM_ALLOCATOR_TESTS_PLANTED_BUGS_H_
#define HAKMEM_ALLOCATOR_TESTS_PLANTED_BUGS_H_

#include "allocator/test/allocator_api.h"

namespace hak_test {

enum class Bug {
  kNone,                  // the wrapper alone: must pass
  kScribble,              // malloc changes a byte of the block it gave before
  kOverlap,               // malloc gives a block inside the one it gave before
  kDuplicate,             // malloc gives a live block a second time
  kMisaligned,            // malloc gives multiples of 8
  kMisalignedAligned,     // aligned_alloc gives multiples of 16 only
  kUsableTooSmall,        // usable_size below the request
  kUsableUnstable,        // usable_size changes while the block lives
  kGoodSizeWrong,         // good_size is not what malloc gives
  kReallocLoses,          // realloc loses the last byte it should keep
  kReallocZeroKeeps,      // realloc(p, 0) gives a block
  kInPlaceMoves,          // realloc_in_place moves
  kFailedReallocTouches,  // a failed realloc changes the old block
  kDirtyCalloc,           // calloc leaves the last byte as it was
  kMallocSetsErrno,       // errno set by a success
  kFreeSetsErrno,         // errno set by free
  kWrongErrno,            // EINVAL where ENOMEM is due
  kPosixWritesOut,        // a failed posix_memalign writes *out
  kPosixSetsErrno,        // a failed posix_memalign sets errno
  kHugeSucceeds,          // malloc over PTRDIFF_MAX gives a block
  kCallocWraps,           // calloc multiplies modulo 2^64
  kReallocArrayWraps,     // reallocarray multiplies modulo 2^64
  kTopAlignment,          // alignments from 1 << 62 are met with an ordinary block
  kOddAlignment,          // aligned_alloc takes any alignment
  kStatsBlocks,           // live_blocks one too high
  kStatsBytes,            // live_bytes too low
  kLostFree,              // some frees do nothing
  kLostRemoteFree,        // a free by another thread than the allocating one does nothing
  kVerifyFails,           // heap_verify returns false
  kFailsAtRandom,         // ordinary requests fail
};

// The allocator with `bug` in it. The state is the process's: one planted allocator at a time.
AllocatorApi PlantBug(Bug bug);

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_PLANTED_BUGS_H_
