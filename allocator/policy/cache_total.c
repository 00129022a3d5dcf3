// SPDX-License-Identifier: Apache-2.0
//
// Which part of the bound a cache may have, and the account of what all caches have.
#include "allocator/policy/cache_total.h"

#include "allocator/os/atomic.h"
#include "allocator/policy/config.h"

// A cache may grow to this many times what is left of the bound: one cache alone gets 4/5 of the bound, and of two that
// grow at the same time each gets 4/9.
#define GROWS_TO ((uint64_t)4)
// It gives up room beyond this many times.
#define SHRINKS_FROM (2 * GROWS_TO)

bool hak_cache_total_admits(uint64_t bound, uint64_t reserved, uint64_t mine, uint64_t more) {
  if (bound == 0) return true;
  if (more > bound || reserved > bound - more) return false;
  return mine + more <= GROWS_TO * (bound - reserved - more);
}

bool hak_cache_total_is_unfair(uint64_t bound, uint64_t reserved, uint64_t mine) {
  if (bound == 0) return false;
  return mine > (reserved < bound ? SHRINKS_FROM * (bound - reserved) : 0);
}

uint64_t hak_cache_total_large_share(uint64_t total, uint32_t threads) {
  if (total == 0) return UINT64_MAX;
  return total / 4 / (threads != 0 ? threads : 1);
}

// Relaxed throughout: a sum that orders nothing.
static HAK_ATOMIC(uint64_t) reserved_bytes;

static uint64_t small_bound(void) {
  const uint64_t total = HAK_FAST ? 0 : HAK_SETTING(total_thread_cache_bytes);
  return total - total / 4;
}

uint64_t hak_cache_total_reserved(void) { return atomic_load_explicit(&reserved_bytes, memory_order_relaxed); }

bool hak_cache_total_reserve(uint64_t mine, uint64_t more) {
  if (HAK_FAST) return true;
  uint64_t reserved = hak_cache_total_reserved();
  do {
    if (!hak_cache_total_admits(small_bound(), reserved, mine, more)) return false;
    // Relaxed: as above.
  } while (!atomic_compare_exchange_weak_explicit(&reserved_bytes, &reserved, reserved + more, memory_order_relaxed,
                                                  memory_order_relaxed));
  return true;
}

void hak_cache_total_release(uint64_t bytes) {
  if (!HAK_FAST) atomic_fetch_sub_explicit(&reserved_bytes, bytes, memory_order_relaxed);  // Relaxed: as above.
}

bool hak_cache_total_is_exceeded(void) {
  const uint64_t bound = small_bound();
  return bound != 0 && hak_cache_total_reserved() > bound;
}

bool hak_cache_total_is_crowded(uint64_t mine) {
  return hak_cache_total_is_unfair(small_bound(), hak_cache_total_reserved(), mine);
}

bool hak_cache_total_is_short(void) {
  const uint64_t bound = small_bound();
  return bound != 0 && hak_cache_total_reserved() > bound - bound / 4;
}
