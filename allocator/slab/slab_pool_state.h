// SPDX-License-Identifier: Apache-2.0
//
// The pool's records, only for the parts of the pool: taking and giving (slab_pool.c), release (slab_release.c), stats
// (slab_pool_stats.c).
#ifndef HAKMEM_SLAB_SLAB_POOL_STATE_H_
#define HAKMEM_SLAB_SLAB_POOL_STATE_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/slab/pool_lock.h"
#include "allocator/slab/slab.h"
#include "allocator/slab/slab_pool_counters.h"

HAK_C_BEGIN

#define HAK_ALL_SLABS UINT32_MAX
// Lists 0 .. 31 hold superslabs by the number of their free slabs other than slab 0; HAK_POOL_FULL holds those without
// any free slab.
#define HAK_POOL_FULL 32u
#define HAK_POOL_LISTS 33u
// There are two sets of such lists: one of superslabs in small pages and one of superslabs in huge pages.
#define HAK_POOL_GROUNDS 2u

struct hak_pool_ground {
  struct hak_superslab *lists[HAK_POOL_LISTS];
  uint64_t nonempty;    // bit i: lists[i] is not empty
  uint64_t free_slabs;  // of its superslabs
};

// All under hak_pool_mutex. Invariants: every superslab is on the list that hak_pool_list_of names, of its ground; it
// is queued exactly when it has a free slab that may hold memory, or has no slab in use and is not parked, or perhaps
// while slabs of it are in transit; the queue is in order of dirty_since. A superslab that is in transit as a whole is
// on no list and not counted, except as committed memory.
struct hak_pool {
  struct hak_pool_ground grounds[HAK_POOL_GROUNDS];
  struct hak_superslab *queue_first;
  struct hak_superslab *queue_last;
  // The memory of a superslab that is mapped and untouched: the slab map had no room for it, and the kernel refused to
  // unmap it.
  void *uncovered;
  uint64_t superslabs;
  uint64_t empty_superslabs;        // with no slab in use
  HAK_ATOMIC(uint64_t) free_dirty;  // slabs that are free and may hold memory; also read without the lock, relaxed
  struct hak_pool_counters counters;
  // Counts how often the lock was taken from a thread that does not exist in this process. Superslabs of an earlier
  // epoch are lost: on no list, and not counted. Blocks of their slabs can still be used and freed.
  uint8_t epoch;
};
extern struct hak_pool hak_pool HAK_GUARDED_BY(hak_pool_mutex);

// Takes the lock. In a child that was created without fork handlers, the pool starts anew if a thread that does not
// exist there held it, because the lists may be half changed. hak_lock_release releases it.
void hak_pool_enter(void) HAK_ACQUIRE(hak_pool_mutex);
// The same for a signal handler, which may have interrupted a thread that has noted the rank of a lock, and has not
// taken it yet. hak_lock_release_unranked releases it.
void hak_pool_enter_unranked(void) HAK_ACQUIRE(hak_pool_mutex);

// Releases the lock for a system call and takes it again (os/lock_step.h). Of a superslab, what the caller has in
// transit in between (transit_mask, or all of it, unlinked) is nobody else's. After the second call the superslab may
// be lost (hak_pool_has_lost).
bool hak_pool_step_out(void) HAK_REQUIRES(hak_pool_mutex);
void hak_pool_step_in(bool out) HAK_REQUIRES(hak_pool_mutex);
// Waits for up to a millisecond, without the lock, for a thread that has stepped out. False: no thread has.
bool hak_pool_wait_for_others(void) HAK_REQUIRES(hak_pool_mutex);

// Around fork. When the first one returns, no thread is in such a system call.
void hak_pool_enter_for_fork(void) HAK_ACQUIRE(hak_pool_mutex);
void hak_pool_leave_after_fork(void) HAK_RELEASE(hak_pool_mutex);

HAK_INLINE bool hak_pool_has_lost(const struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex) {
  return ss->epoch != hak_pool.epoch;
}

// The bits of slabs first .. first + count - 1, count being 1 .. 32.
HAK_INLINE uint32_t hak_pool_run(uint32_t first, uint32_t count) {
  return (uint32_t)((((uint64_t)1 << count) - 1) << first);
}

HAK_INLINE uint32_t hak_pool_list_of(const struct hak_superslab *ss) {
  return ss->free_mask == 0 ? HAK_POOL_FULL : hak_popcount(ss->free_mask >> 1);
}

HAK_INLINE struct hak_pool_ground *hak_pool_ground_of(const struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex) {
  return &hak_pool.grounds[hak_ground_is_huge(ss)];
}

HAK_INLINE void hak_pool_add_free_dirty(int32_t change) HAK_REQUIRES(hak_pool_mutex) {
  const uint64_t now = atomic_load_explicit(&hak_pool.free_dirty, memory_order_relaxed);
  atomic_store_explicit(&hak_pool.free_dirty, now + (uint64_t)(int64_t)change, memory_order_relaxed);
}

// Puts a superslab on the list that its free slabs name, or takes it off. Under the lock, as all functions below.
void hak_pool_link(struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex);
void hak_pool_unlink(struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex);
// Changes which slabs are free and which may hold memory, and updates the lists, the counts and the account of
// committed memory.
void hak_pool_set_masks(struct hak_superslab *ss, uint32_t free_mask, uint32_t dirty_mask) HAK_REQUIRES(hak_pool_mutex);

// Puts a superslab at the end of the purge queue, and takes it off.
void hak_pool_enqueue(struct hak_superslab *ss, uint64_t now) HAK_REQUIRES(hak_pool_mutex);
void hak_pool_dequeue(struct hak_superslab *ss) HAK_REQUIRES(hak_pool_mutex);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_POOL_STATE_H_
