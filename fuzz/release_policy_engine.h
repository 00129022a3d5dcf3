// SPDX-License-Identifier: Apache-2.0
//
// The decisions about free memory (ss_release_policy.h), and the memory limit with its account (memory_limit.h),
// against the same rules written plainly in numbers too wide to overflow.
//
// An input is a sequence of records of eight bytes: byte 0 selects the function, the others its arguments, each from a
// scale of sizes from 0 to the largest number.
#ifndef HAKMEM_FUZZ_RELEASE_POLICY_ENGINE_H_
#define HAKMEM_FUZZ_RELEASE_POLICY_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/policy/memory_limit.h"
#include "allocator/policy/ss_release_policy.h"

namespace hak_fuzz {

// The functions under test; controls replace one of them.
struct ReleasePolicyCalls {
  hak_release_verdict (*superslab)(const hak_release_facts *facts) = hak_release_superslab;
  hak_decommit_mode (*eagerly)(const hak_eager_facts *facts) = hak_eager_mode;
  bool (*before_growth)(uint64_t free_bytes, uint64_t heap_bytes) = hak_should_empty_before_growth;
  bool (*pages)(uint64_t free_bytes, uint64_t heap_bytes) = hak_should_purge_pages;
  bool (*watch)(uint64_t free, uint64_t committed) = hak_should_watch;
  uint64_t (*slice_us)(uint64_t elapsed_ms) = hak_release_slice_us;
  hak_limit_verdict (*judge)(const hak_limit_facts *facts) = hak_limit_judge;
  uint64_t (*soft)(uint64_t hard, uint64_t control_group, uint64_t setting) = hak_limit_soft;
  uint64_t (*next_purge)(uint64_t soft, uint64_t committed, uint64_t more) = hak_limit_next_purge;
  bool (*admit)(uint64_t more) = hak_limit_admit;
  void (*purged)(uint64_t more) = hak_limit_purged;
};

void RunReleasePolicyInput(const ReleasePolicyCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_RELEASE_POLICY_ENGINE_H_
