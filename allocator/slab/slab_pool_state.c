// SPDX-License-Identifier: Apache-2.0
//
// The pool's lists, masks and purge queue.
#include "allocator/slab/slab_pool_state.h"

#include <string.h>

#include "allocator/os/lock_step.h"
#include "allocator/os/report.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/slab/list_links.h"

struct hak_lock hak_pool_mutex = HAK_LOCK_INIT(HAK_RANK_POOL);
struct hak_pool hak_pool;
static struct hak_lock_steps steps;

static HAK_COLD void start_anew(void) HAK_REQUIRES(hak_pool_mutex) {
  const struct hak_pool_counters counters = hak_pool.counters;
  const uint8_t epoch = hak_pool.epoch;
  memset(&hak_pool, 0, sizeof hak_pool);
  hak_pool.counters = counters;
  hak_pool.epoch = (uint8_t)(epoch + 1);
  hak_lock_steps_forget(&steps);
}

HAK_INLINE void mend(void) HAK_REQUIRES(hak_pool_mutex) {
  if (HAK_UNLIKELY(hak_lock_was_orphaned(&hak_pool_mutex))) start_anew();
}

void hak_pool_enter(void) {
  hak_lock_acquire(&hak_pool_mutex);
  mend();
}

HAK_COLD void hak_pool_enter_unranked(void) {
  hak_lock_acquire_unranked(&hak_pool_mutex);
  mend();
}

bool hak_pool_step_out(void) { return hak_lock_step_out(&hak_pool_mutex, &steps); }
void hak_pool_step_in(bool out) {
  hak_lock_step_in(&hak_pool_mutex, &steps, out);
  mend();
}

bool hak_pool_wait_for_others(void) {
  const bool waited = hak_lock_wait_for_others(&hak_pool_mutex, &steps);
  mend();
  return waited;
}

void hak_pool_enter_for_fork(void) {
  hak_pool_enter();
  hak_lock_wait_for_fork(&hak_pool_mutex, &steps);
}

void hak_pool_leave_after_fork(void) {
  hak_lock_fork_is_over(&steps);
  hak_lock_release(&hak_pool_mutex);
}

// ---- Lists --------------------------------------------------------------------------------------

void hak_pool_link(struct hak_superslab *ss) {
  const uint32_t list = hak_pool_list_of(ss);
  struct hak_pool_ground *ground = hak_pool_ground_of(ss);
  ss->prev = NULL;
  ss->next = hak_superslab_first(ground->lists[list]);
  if (ss->next != NULL) ss->next->prev = ss;
  ground->lists[list] = ss;
  ground->nonempty |= (uint64_t)1 << list;
  ground->free_slabs += hak_popcount(ss->free_mask);
}

void hak_pool_unlink(struct hak_superslab *ss) {
  const uint32_t list = hak_pool_list_of(ss);
  struct hak_pool_ground *ground = hak_pool_ground_of(ss);
  hak_superslab_require_linked(ss, ground->lists[list]);
  ground->free_slabs -= hak_popcount(ss->free_mask);
  if (ss->next != NULL) ss->next->prev = ss->prev;
  if (ss->prev != NULL) {
    ss->prev->next = ss->next;
  } else {
    ground->lists[list] = ss->next;
    if (ss->next == NULL) ground->nonempty &= ~((uint64_t)1 << list);
  }
}

static uint32_t bits(uint32_t mask) { return mask == 0 ? 0 : hak_popcount(mask); }

void hak_pool_set_masks(struct hak_superslab *ss, uint32_t free_mask, uint32_t dirty_mask) {
  const uint32_t had = ss->free_mask & ss->dirty_mask;
  const uint32_t has = free_mask & dirty_mask;
  if (had != has) hak_pool_add_free_dirty((int32_t)bits(has & ~had) - (int32_t)bits(had & ~has));
  const uint32_t more = dirty_mask & ~ss->dirty_mask;
  const uint32_t less = ss->dirty_mask & ~dirty_mask;
  if (more != 0) hak_commit_add(bits(more) * HAK_SLAB_SIZE);
  if (less != 0) hak_commit_sub(bits(less) * HAK_SLAB_SIZE);
  ss->dirty_mask = dirty_mask;
  if (free_mask == ss->free_mask) return;
  if (ss->free_mask == HAK_ALL_SLABS) hak_pool.empty_superslabs--;
  hak_pool_unlink(ss);
  ss->free_mask = free_mask;
  hak_pool_link(ss);
  if (free_mask == HAK_ALL_SLABS) hak_pool.empty_superslabs++;
}

// ---- Queue --------------------------------------------------------------------------------------

void hak_pool_enqueue(struct hak_superslab *ss, uint64_t now) {
  ss->queued = true;
  ss->dirty_since = now;
  ss->purge_next = NULL;
  ss->purge_prev = hak_pool.queue_last;
  if (hak_pool.queue_last != NULL) {
    if (HAK_UNLIKELY(hak_pool.queue_last->purge_next != NULL)) hak_fatal(HAK_LINKS_OF_QUEUE, hak_pool.queue_last);
    hak_pool.queue_last->purge_next = ss;
  } else {
    hak_pool.queue_first = ss;
  }
  hak_pool.queue_last = ss;
}

void hak_pool_dequeue(struct hak_superslab *ss) {
  hak_superslab_require_queued(ss, hak_pool.queue_first, hak_pool.queue_last);
  ss->queued = false;
  if (ss->purge_prev != NULL) {
    ss->purge_prev->purge_next = ss->purge_next;
  } else {
    hak_pool.queue_first = ss->purge_next;
  }
  if (ss->purge_next != NULL) {
    ss->purge_next->purge_prev = ss->purge_prev;
  } else {
    hak_pool.queue_last = ss->purge_prev;
  }
}
