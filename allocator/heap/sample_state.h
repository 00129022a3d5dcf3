// SPDX-License-Identifier: Apache-2.0
//
// What the sampler (prof/sampler.h) keeps in a heap. Only the heap's thread uses it, without the lock.
#ifndef HAKMEM_HEAP_SAMPLE_STATE_H_
#define HAKMEM_HEAP_SAMPLE_STATE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

struct hak_sample_state {
  uint64_t left;       // bytes to be allocated before the next sampled one
  uint64_t drawn_for;  // the mean distance with which `left` was drawn, plus 1; 0: it was not
  uint64_t random;     // the state of hak_sample_random; 0: not set yet
};

HAK_C_END

#endif  // HAKMEM_HEAP_SAMPLE_STATE_H_
