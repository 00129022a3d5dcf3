// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/release_policy.h"

enum hak_release_verdict hak_release_superslab(const struct hak_release_facts *facts) {
  // A clock that stands before the mark (never by the monotonic clock) counts as no time passed.
  const uint64_t idle = facts->now_ms > facts->free_since_ms ? facts->now_ms - facts->free_since_ms : 0;
  if (idle < facts->deadline_ms) return HAK_RELEASE_KEEP;
  if (facts->wholly_free && facts->empty_superslabs > facts->keep_superslabs) return HAK_RELEASE_UNMAP;
  return HAK_RELEASE_DECOMMIT;
}

bool hak_release_keep_slab(uint32_t other_slabs_with_room) { return other_slabs_with_room == 0; }
