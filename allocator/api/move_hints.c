// SPDX-License-Identifier: Apache-2.0
#include "allocator/api/move_hints.h"

#include "allocator/api/entry.h"
#include "allocator/api/process.h"
#include "allocator/heap/move_hint.h"

// How many blocks are looked at while the heap's lock is held.
#define BATCH ((size_t)64)

// Whether the block is in a slab. Ends the process when it is neither live nor NULL, as far as the profile notices.
static bool is_in_slab(const void *block) {
  hak_entry_usable(block);
  return hak_class_is_tiny(hak_slab_map_look_up(block));
}

size_t hak_move_hints(void *const *blocks, size_t count, bool *move) {
  struct hak_heap *heap = hak_thread_heap();
  size_t yes = 0;
  for (size_t done = 0; done < count; done += BATCH) {
    const size_t end = count - done < BATCH ? count : done + BATCH;
    // Before the lock is taken: the check may need others.
    for (size_t i = done; i < end; i++) move[i] = is_in_slab(blocks[i]) && heap != NULL;
    if (heap == NULL) continue;
    hak_heap_enter(heap);
    for (size_t i = done; i < end; i++) {
      move[i] = move[i] && hak_move_helps(heap, blocks[i]);
      yes += move[i];
    }
    hak_heap_leave(heap);
  }
  return yes;
}
