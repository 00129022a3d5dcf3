// SPDX-License-Identifier: Apache-2.0
//
// The lock on the records of mappings.
#include "allocator/pages/mapping_lock.h"

#include "allocator/os/lock.h"
#include "allocator/os/lock_step.h"

struct hak_lock hak_mapping_mutex = HAK_LOCK_INIT(HAK_RANK_MAPPING);
static struct hak_lock_steps steps;
static uint32_t losses HAK_GUARDED_BY(hak_mapping_mutex);
void hak_mapping_unlock(void) { hak_lock_release(&hak_mapping_mutex); }
void hak_mapping_pass(void) { hak_lock_pass(&hak_mapping_mutex); }

static HAK_COLD void note_loss(void) HAK_REQUIRES(hak_mapping_mutex) {
  losses++;
  hak_lock_steps_forget(&steps);
}

void hak_mapping_lock(void) {
  hak_lock_acquire(&hak_mapping_mutex);
  if (HAK_UNLIKELY(hak_lock_was_orphaned(&hak_mapping_mutex))) note_loss();
}
bool hak_mapping_try_lock(void) { return hak_lock_try(&hak_mapping_mutex); }
uint32_t hak_mapping_losses(void) { return losses; }

bool hak_mapping_step_out(void) { return hak_lock_step_out(&hak_mapping_mutex, &steps); }
void hak_mapping_step_in(bool out) { hak_lock_step_in(&hak_mapping_mutex, &steps, out); }
bool hak_mapping_wait_for_others(void) { return hak_lock_wait_for_others(&hak_mapping_mutex, &steps); }

void hak_mapping_lock_for_fork(void) {
  hak_mapping_lock();
  hak_lock_wait_for_fork(&hak_mapping_mutex, &steps);
}

void hak_mapping_unlock_after_fork(void) {
  hak_lock_fork_is_over(&steps);
  hak_lock_release(&hak_mapping_mutex);
}
