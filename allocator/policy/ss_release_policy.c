// SPDX-License-Identifier: Apache-2.0
//
// The rules by which free memory is kept or returned.
#include "allocator/policy/ss_release_policy.h"

// The longest slice, and the least free memory that is worth a watch.
#define SLICE_US_MAX 20000u
#define WATCH_LEAST ((uint64_t)4 * 1024 * 1024)
// The least free memory in slabs in use whose pages are worth the system calls.
#define PAGES_LEAST ((uint64_t)2 * 1024 * 1024)

enum hak_release_verdict hak_release_superslab(const struct hak_release_facts *facts) {
  // A clock behind the mark (impossible with the monotonic clock) counts as no time passed.
  const uint64_t idle = facts->now_ms > facts->free_since_ms ? facts->now_ms - facts->free_since_ms : 0;
  if (idle < facts->deadline_ms) return HAK_RELEASE_KEEP;
  if (facts->wholly_free && facts->empty_superslabs > facts->keep_superslabs) return HAK_RELEASE_UNMAP;
  if (facts->free_bytes != 0 && facts->free_bytes <= facts->keep_free_bytes) return HAK_RELEASE_KEEP;
  return HAK_RELEASE_DECOMMIT;
}

enum hak_decommit_mode hak_eager_mode(const struct hak_eager_facts *facts) {
  if (facts->free_bytes <= facts->keep_free_bytes) return HAK_DECOMMIT_OFF;
  const bool beyond = facts->soft_limit != 0 && facts->committed > facts->soft_limit;
  if (beyond && facts->free_bytes > facts->soft_limit / 32) return HAK_DECOMMIT_DONTNEED;
  return facts->committed > facts->target ? facts->mode : HAK_DECOMMIT_OFF;
}

// Whether the free bytes in slabs in use are many, and a large part of the heap.
static bool much_is_free(uint64_t free_bytes, uint64_t heap_bytes) {
  return free_bytes >= PAGES_LEAST && free_bytes >= heap_bytes / 8;
}

bool hak_should_empty_before_growth(uint64_t free_bytes, uint64_t heap_bytes) {
  return much_is_free(free_bytes, heap_bytes);
}

uint64_t hak_release_slice_us(uint64_t elapsed_ms) {
  return elapsed_ms >= SLICE_US_MAX / 100 ? SLICE_US_MAX : elapsed_ms * 100;
}

bool hak_should_watch(uint64_t free, uint64_t committed) { return free >= WATCH_LEAST && free >= committed / 8; }

bool hak_should_purge_pages(uint64_t free_bytes, uint64_t heap_bytes) { return much_is_free(free_bytes, heap_bytes); }

bool hak_should_share_slabs(uint64_t free_bytes, uint64_t heap_bytes) { return much_is_free(free_bytes, heap_bytes); }

bool hak_should_keep_slab(uint32_t other_slabs_with_room) { return other_slabs_with_room == 0; }
