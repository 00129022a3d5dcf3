// SPDX-License-Identifier: Apache-2.0
//
// Releases the pool's free memory: the queue of superslabs that have some, and the ways to return it.
#include "allocator/slab/slab_release.h"

#include "allocator/os/atomic.h"
#include "allocator/os/bytes.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/policy/refusal.h"
#include "allocator/policy/ss_release_policy.h"
#include "allocator/slab/ground_split.h"
#include "allocator/slab/list_links.h"
#include "allocator/slab/slab_guard.h"
#include "allocator/slab/slab_pool_state.h"
#include "allocator/slab/superslab_records.h"

// The most superslabs that return free memory before memory is taken elsewhere.
#define MAKE_WAY_SUPERSLABS 8u

// Whether the superslab belongs on the purge queue.
static bool idle(const struct hak_superslab *ss) {
  return (ss->free_mask & ss->dirty_mask) != 0 || ss->free_mask == HAK_ALL_SLABS;
}

// ---- Decommit -----------------------------------------------------------------------------------

// Returns the memory of slabs first .. first + count - 1, which are in transit. Unless the mode is lazy, they then read
// as zero. *bytes: how much was returned. `split`: the superslab's huge page is split first. False: nothing changed.
static bool decommit_slabs(struct hak_superslab *ss, uint32_t first, uint32_t count, enum hak_decommit_mode mode,
                           bool split, size_t *bytes) {
  char *const begin = hak_slab_begin(&ss->slabs[first]);
  char *const end = hak_slab_start(&ss->slabs[first + count - 1]) + HAK_SLAB_SIZE;
  char *whole = (char *)hak_round_up((uintptr_t)begin, hak_os_page_size());
  if (whole > end) whole = end;
  *bytes = (size_t)(end - whole);
  if (split) hak_ground_advise_split(ss, whole);
  const bool to_zero = mode == HAK_DECOMMIT_DONTNEED;
  if (*bytes != 0 && !(to_zero ? hak_os_decommit_to_zero(whole, *bytes) : hak_os_decommit(whole, *bytes, mode))) {
    return false;
  }
  // Slab 0 shares its first page with the head, so that part is cleared by hand.
  if (to_zero) hak_bytes_fill(begin, 0, (size_t)(whole - begin));
  return true;
}

// The same for all slabs of the mask. Returns the bytes; *done: the slabs whose memory was returned.
static size_t decommit_mask(struct hak_superslab *ss, uint32_t left, enum hak_decommit_mode mode, bool split,
                            uint64_t now, uint32_t *done) {
  size_t bytes = 0;
  *done = 0;
  while (left != 0) {
    const uint32_t first = (uint32_t)__builtin_ctz(left);
    const uint32_t rest = ~(left >> first);
    const uint32_t count = rest == 0 ? HAK_SLABS_PER_SUPERSLAB - first : (uint32_t)__builtin_ctz(rest);
    const uint32_t run = hak_pool_run(first, count);
    left &= ~run;
    size_t run_bytes;
    const bool returned = decommit_slabs(ss, first, count, mode, split, &run_bytes);
    split = false;
    hak_refusal_note(&hak_decommit_refusal, !returned, now);
    if (!returned) continue;
    bytes += run_bytes;
    *done |= run;
  }
  return bytes;
}

// Returns the memory of all free slabs of `ss`; steps out of the lock. Returns the bytes. Slabs whose memory the kernel
// refuses stay dirty. The caller then checks whether the superslab belongs on the purge queue.
static size_t decommit_free(struct hak_superslab *ss, enum hak_decommit_mode mode, uint64_t now)
    HAK_REQUIRES(hak_pool_mutex) {
  const bool lazily = mode == HAK_DECOMMIT_FREE;
  uint32_t slabs = ss->free_mask & ss->dirty_mask;
  if (lazily) slabs &= ~ss->lazy_mask;
  if (slabs == 0) return 0;
  // While they are in transit nobody takes them, and the superslab is not wholly free, so it stays.
  ss->transit_mask |= slabs;
  hak_pool_set_masks(ss, ss->free_mask & ~slabs, ss->dirty_mask);
  const bool split = hak_ground_note_split(ss);
  const bool out = hak_pool_step_out();
  uint32_t done;
  const size_t bytes = decommit_mask(ss, slabs, mode, split, now, &done);
  hak_pool_step_in(out);
  ss->transit_mask &= ~slabs;
  if (HAK_UNLIKELY(hak_pool_has_lost(ss))) return bytes;
  ss->lazy_mask = lazily ? ss->lazy_mask | done : ss->lazy_mask & ~done;
  hak_pool_set_masks(ss, ss->free_mask | slabs, lazily ? ss->dirty_mask : ss->dirty_mask & ~done);
  return bytes;
}

// Adds a wholly free superslab to the pool's lists and counts, or removes it, except for its committed memory.
static void enter_empty(struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex) {
  hak_pool_link(ss);
  hak_pool.superslabs++;
  hak_pool.empty_superslabs++;
  hak_pool_add_free_dirty((int32_t)hak_popcount(ss->dirty_mask));
}
static void leave_empty(struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex) {
  hak_pool_unlink(ss);
  hak_pool.superslabs--;
  hak_pool.empty_superslabs--;
  hak_pool_add_free_dirty(-(int32_t)hak_popcount(ss->dirty_mask));
}

// Unmaps a superslab that has no slab in use and is not queued; steps out of the lock. False: the limit on mappings is
// reached, and the superslab stays mapped.
static bool unmap_superslab(struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex) {
  const uint32_t dirty = hak_popcount(ss->dirty_mask);
  const uint64_t guards = hak_slab_guards_of(ss);
  const bool apart = hak_superslab_is_apart(ss);
  char *const memory = hak_superslab_memory(ss);
  // All its records are removed before the call: as soon as it is unmapped, another thread may get its addresses.
  leave_empty(ss);
  hak_superslab_records_hide(ss);
  const bool out = hak_pool_step_out();
  const bool done = hak_os_unmap(memory, HAK_SUPERSLAB_SIZE);
  hak_pool_step_in(out);
  if (!done) {
    hak_superslab_records_show(ss);
    if (HAK_LIKELY(!hak_pool_has_lost(ss))) enter_empty(ss);
    return false;
  }
  if (apart) hak_superslab_records_drop(ss);
  hak_slab_guards_gone(guards);
  hak_pool.counters.unmapped_superslabs++;
  hak_commit_sub(dirty * HAK_SLAB_SIZE);
  return true;
}

// Does what `verdict` says; returns the bytes that were returned. `ss` may no longer exist afterwards.
static size_t release(struct hak_superslab *ss, enum hak_release_verdict verdict, uint64_t now)
    HAK_REQUIRES(hak_pool_mutex) {
  hak_pool_dequeue(ss);
  const bool was_empty = ss->free_mask == HAK_ALL_SLABS;
  // A superslab in huge pages is returned as a whole if possible.
  if (verdict == HAK_RELEASE_UNMAP || (was_empty && hak_ground_is_huge(ss))) {
    const size_t bytes = (size_t)hak_popcount(ss->dirty_mask) * HAK_SLAB_SIZE;
    if (unmap_superslab(ss)) return bytes;
  }
  if (HAK_UNLIKELY(hak_pool_has_lost(ss))) return 0;
  const size_t bytes = decommit_free(ss, HAK_DECOMMIT_DONTNEED, now);
  if (HAK_UNLIKELY(hak_pool_has_lost(ss))) return bytes;
  // Refused, or given back meanwhile: wait for another deadline. One that was empty and still is stays mapped without
  // memory.
  const bool became_empty = !was_empty && ss->free_mask == HAK_ALL_SLABS;
  const bool waits = (ss->free_mask & ss->dirty_mask) != 0 || became_empty;
  if (waits && !ss->queued) hak_pool_enqueue(ss, now);
  return bytes;
}

static struct hak_release_facts facts_of(const struct hak_superslab *ss, uint64_t now, uint64_t deadline)
    HAK_REQUIRES(hak_pool_mutex) {
  const struct hak_release_facts facts = {
      .now_ms = now,
      .free_since_ms = ss->dirty_since,
      .deadline_ms = deadline,
      .empty_superslabs = hak_pool.empty_superslabs,
      .keep_superslabs = HAK_SETTING(keep_superslabs),
      .free_bytes = hak_pool_free_bytes(),
      .keep_free_bytes = HAK_SETTING(keep_free_bytes),
      .wholly_free = ss->free_mask == HAK_ALL_SLABS,
  };
  return facts;
}

// Releases one superslab that is due. False: none is due, or the kernel refused.
static bool release_due(uint64_t now) HAK_REQUIRES(hak_pool_mutex) {
  struct hak_superslab *ss = hak_pool.queue_first;
  if (ss == NULL || !hak_refusal_is_over(&hak_decommit_refusal, now)) return false;
  const struct hak_release_facts facts = facts_of(ss, now, HAK_SETTING(decommit_deadline_ms));
  const enum hak_release_verdict verdict = hak_release_superslab(&facts);
  if (verdict == HAK_RELEASE_KEEP) return false;
  const uint64_t unmapped = hak_pool.counters.unmapped_superslabs;
  const size_t bytes = release(ss, verdict, now);
  hak_pool.counters.deadline_bytes += bytes;
  hak_pool.counters.deadline_releases++;
  return bytes != 0 || hak_pool.counters.unmapped_superslabs != unmapped || !ss->queued;
}

void hak_pool_note_free(struct hak_superslab *ss, uint64_t now) {
  const struct hak_eager_facts facts = {
      .mode = HAK_SETTING(lean_decommit),
      .committed = hak_commit_now(),
      .target = HAK_SETTING(lean_target_bytes),
      .soft_limit = HAK_SETTING(soft_limit_bytes),
      .free_bytes = hak_pool_free_bytes(),
      .keep_free_bytes = HAK_SETTING(keep_free_bytes),
  };
  const enum hak_decommit_mode mode = hak_eager_mode(&facts);
  if (mode != HAK_DECOMMIT_OFF && hak_refusal_is_over(&hak_decommit_refusal, now)) {
    const size_t bytes = decommit_free(ss, mode, now);
    hak_pool.counters.lean_bytes += bytes;
    hak_pool.counters.lean_decommits++;
    if (HAK_UNLIKELY(hak_pool_has_lost(ss))) return;
    if (ss->queued && !idle(ss)) hak_pool_dequeue(ss);
  }
  if (idle(ss) && !ss->queued) hak_pool_enqueue(ss, now);
  release_due(now);
}

bool hak_pool_tick(uint64_t now) {
  hak_pool_enter();
  const bool more = release_due(now);
  hak_lock_release(&hak_pool_mutex);
  return more;
}

uint64_t hak_pool_free_bytes(void) {
  return atomic_load_explicit(&hak_pool.free_dirty, memory_order_relaxed) * HAK_SLAB_SIZE;
}

size_t hak_pool_make_way(size_t bytes) {
  size_t released = 0;
  const uint64_t now = hak_os_now_ms();
  if (!hak_refusal_is_over(&hak_decommit_refusal, now)) return 0;
  hak_pool_enter();
  // Releases only idle memory; near a limit, any free memory. Memory that the program will soon use again would only be
  // faulted in again.
  const bool near = !hak_limit_has_room(bytes);
  const uint64_t deadline = near ? 0 : HAK_SETTING(decommit_deadline_ms);
  if (hak_should_empty_before_growth(hak_pool_free_bytes(), hak_commit_now())) {
    for (uint32_t i = 0; i < MAKE_WAY_SUPERSLABS && released < bytes && hak_pool.queue_first != NULL; i++) {
      struct hak_superslab *ss = hak_pool.queue_first;
      struct hak_release_facts facts = facts_of(ss, now, deadline);
      if (near) facts.keep_free_bytes = 0;
      const enum hak_release_verdict verdict = hak_release_superslab(&facts);
      const size_t step = verdict != HAK_RELEASE_KEEP ? release(ss, verdict, now) : 0;
      if (step == 0) break;
      released += step;
    }
  }
  hak_lock_release(&hak_pool_mutex);
  return released;
}

// Unmaps the wholly free superslabs that stayed mapped without memory; all are on the list of the emptiest. Between two
// of them, other threads can take the lock.
static void unmap_parked_on(uint32_t ground) HAK_REQUIRES(hak_pool_mutex) {
  struct hak_superslab **const list = &hak_pool.grounds[ground].lists[HAK_POOL_FULL - 1];
  uint32_t pass = 0;  // superslabs at the front of the list that stay
  for (;;) {
    struct hak_superslab *ss = *list;
    for (uint32_t i = 0; i < pass && ss != NULL; i++) ss = hak_superslab_next(ss);
    if (ss == NULL) return;
    const bool parked = ss->free_mask == HAK_ALL_SLABS && !ss->queued;
    if (!parked || !unmap_superslab(ss)) {
      pass++;
    } else {
      hak_lock_pass(&hak_pool_mutex);
    }
  }
}

static void unmap_parked(void) HAK_REQUIRES(hak_pool_mutex) {
  for (uint32_t ground = 0; ground < HAK_POOL_GROUNDS; ground++) unmap_parked_on(ground);
}

// Unmaps the memory for which the slab map had no room.
static void unmap_uncovered(void) HAK_REQUIRES(hak_pool_mutex) {
  if (hak_pool.uncovered != NULL && hak_os_unmap(hak_pool.uncovered, HAK_SUPERSLAB_SIZE)) hak_pool.uncovered = NULL;
}

// Skips the first superslabs of the queue that together have at most `keep_bytes`; returns the next one.
static struct hak_superslab *first_above(size_t keep_bytes) HAK_REQUIRES(hak_pool_mutex) {
  struct hak_superslab *ss = hak_pool.queue_first;
  if (keep_bytes == 0) return ss;
  size_t kept = 0;
  for (; ss != NULL; ss = hak_superslab_queue_next(ss)) {
    const size_t dirty = (size_t)hak_popcount(ss->free_mask & ss->dirty_mask) * HAK_SLAB_SIZE;
    if (kept + dirty > keep_bytes) return ss;
    kept += dirty;
  }
  return NULL;
}

static uint32_t queue_length(void) HAK_REQUIRES(hak_pool_mutex) {
  uint32_t count = 0;
  for (struct hak_superslab *ss = hak_pool.queue_first; ss != NULL; ss = hak_superslab_queue_next(ss)) count++;
  return count;
}

size_t hak_pool_trim(size_t keep_bytes) {
  const uint64_t now = hak_os_now_ms();
  size_t bytes = 0;
  hak_pool_enter();
  // Passes through the queue once: a superslab that cannot be released is queued again, behind its present end. Other
  // threads can take the lock between two superslabs and change the queue.
  for (uint32_t left = queue_length(); left > 0; left--) {
    struct hak_superslab *ss = first_above(keep_bytes);
    if (ss == NULL) break;
    struct hak_release_facts facts = facts_of(ss, now, 0);
    facts.keep_superslabs = 0;
    facts.keep_free_bytes = 0;
    bytes += release(ss, hak_release_superslab(&facts), now);
    hak_lock_pass(&hak_pool_mutex);
  }
  if (keep_bytes == 0) {
    unmap_parked();
    unmap_uncovered();
  }
  hak_lock_release(&hak_pool_mutex);
  return bytes;
}

#define SETTLE_WAITS 20

HAK_COLD void hak_pool_settle(void) {
  hak_pool_enter();
  for (int waits = 0; waits < SETTLE_WAITS && hak_pool_wait_for_others(); waits++) {
  }
  hak_lock_release(&hak_pool_mutex);
}
