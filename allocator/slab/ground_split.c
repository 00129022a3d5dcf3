// SPDX-License-Identifier: Apache-2.0
//
// Moves a superslab from huge pages to small pages.
#include "allocator/slab/ground_split.h"

#include "allocator/os/decommit.h"
#include "allocator/slab/slab_pool_state.h"

bool hak_ground_note_split(struct hak_superslab *ss) {
  if (!hak_ground_is_huge(ss)) return false;
  const bool lost = hak_pool_has_lost(ss);
  if (!lost) hak_pool_unlink(ss);
  atomic_store_explicit(&ss->huge, false, memory_order_relaxed);
  if (!lost) hak_pool_link(ss);
  hak_pool.counters.split_superslabs++;
  return true;
}

void hak_ground_advise_split(struct hak_superslab *ss, void *goes_back) {
  hak_os_advise_huge(hak_superslab_memory(ss), HAK_SUPERSLAB_SIZE, false);
  hak_os_split_huge(goes_back);
}

void hak_ground_split_for(struct hak_superslab *ss, void *goes_back) {
  hak_pool_enter();
  const bool split = hak_ground_note_split(ss);
  hak_lock_release(&hak_pool_mutex);
  if (split) hak_ground_advise_split(ss, goes_back);
}
