// SPDX-License-Identifier: Apache-2.0
//
// Keeps the records of closed heaps for reuse, and returns their memory.
#include "allocator/heap/heap_records.h"

#include "allocator/meta/meta.h"
#include "allocator/os/bytes.h"
#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/policy/refusal.h"

// The capacity of the first stack of resting records.
#define STACK_LEAST 64u

static struct {
  struct hak_heap_list warm;  // the latest first
  // A stack of pointers: resting records have no memory for a link.
  struct hak_heap **resting;
  uint32_t resting_count;
  uint32_t resting_room;
  struct hak_heap_rest slice;
} records HAK_GUARDED_BY(hak_registry_lock);
static struct hak_refusal refusal;
// Relaxed: written under the lock, a hint elsewhere.
static HAK_ATOMIC(uint32_t) warm_count;

static uint32_t count_warm(void) { return atomic_load_explicit(&warm_count, memory_order_relaxed); }
static void set_warm(uint32_t count) { atomic_store_explicit(&warm_count, count, memory_order_relaxed); }

uint64_t hak_heap_records_idle_bytes(void) {
  const uint32_t count = count_warm();
  if (count <= HAK_HEAP_RECORDS_WARM || !hak_meta_can_rest(sizeof(struct hak_heap))) return 0;
  return (uint64_t)(count - HAK_HEAP_RECORDS_WARM) * sizeof(struct hak_heap);
}

bool hak_heap_records_may_rest(uint64_t now) {
  return hak_heap_records_idle_bytes() != 0 && hak_refusal_is_over(&refusal, now);
}

static struct hak_heap *take_used(void) HAK_REQUIRES(hak_registry_lock) {
  struct hak_heap *heap = records.warm.first;
  if (heap != NULL) {
    hak_heap_list_remove(&records.warm, heap);
    set_warm(count_warm() - 1);
  } else if (records.resting_count != 0) {
    heap = records.resting[--records.resting_count];
    hak_meta_wake(sizeof *heap);
  }
  return heap;
}

struct hak_heap *hak_heap_record_take(void) {
  struct hak_heap *heap = take_used();
  if (heap == NULL) heap = hak_meta_alloc(sizeof *heap);
  // No thread has the record, also if it reads as zero.
  if (heap != NULL) heap->lock.rank = HAK_RANK_HEAP;
  return heap;
}

void hak_heap_record_keep(struct hak_heap *heap, uint64_t now) {
  heap->place.closed_ms = now;
  hak_heap_list_add(&records.warm, heap);
  set_warm(count_warm() + 1);
}

// ---- Returning memory ---------------------------------------------------------------------------

// Makes room for one more slice. False: out of memory.
static HAK_COLD bool reserve_stack(void) HAK_REQUIRES(hak_registry_lock) {
  if (records.resting_room - records.resting_count >= HAK_HEAP_RECORDS_SLICE) return true;
  const uint32_t room = records.resting_room != 0 ? 2 * records.resting_room : STACK_LEAST;
  struct hak_heap **stack = hak_meta_alloc(room * sizeof *stack);
  if (stack == NULL) return false;
  if (records.resting != NULL) {
    hak_bytes_copy(stack, records.resting, records.resting_count * sizeof *stack);
    hak_meta_free(records.resting, records.resting_room * sizeof *stack);
  }
  records.resting = stack;
  records.resting_room = room;
  return true;
}

HAK_COLD struct hak_heap_rest *hak_heap_records_lend(uint64_t until, uint32_t warm) {
  struct hak_heap_rest *slice = &records.slice;
  if (slice->count != 0 || count_warm() <= warm || !reserve_stack()) return NULL;
  while (slice->count < HAK_HEAP_RECORDS_SLICE && count_warm() > warm) {
    struct hak_heap *heap = records.warm.last;
    if (heap->place.closed_ms > until) break;
    hak_heap_list_remove(&records.warm, heap);
    set_warm(count_warm() - 1);
    slice->resting[slice->count] = false;
    slice->records[slice->count++] = heap;
  }
  // Each thread has its own hak_locks_held. In the child of a fork, the thread that forked has the same address.
  slice->thread = &hak_locks_held;
  return slice->count != 0 ? slice : NULL;
}

HAK_COLD void hak_heap_records_rest(struct hak_heap_rest *rest, uint64_t now) {
  for (uint32_t i = 0; i < rest->count; i++) {
    rest->resting[i] = hak_meta_rest(rest->records[i], sizeof(struct hak_heap));
    hak_refusal_note(&refusal, !rest->resting[i], now);
    if (!rest->resting[i]) return;
  }
}

HAK_COLD size_t hak_heap_records_return(struct hak_heap_rest *rest, uint64_t now) {
  size_t bytes = 0;
  for (uint32_t i = 0; i < rest->count; i++) {
    if (rest->resting[i]) {
      records.resting[records.resting_count++] = rest->records[i];
      bytes += sizeof(struct hak_heap);
    } else {
      hak_heap_record_keep(rest->records[i], now);
    }
  }
  rest->count = 0;
  return bytes;
}

HAK_COLD void hak_heap_records_forked(void) {
  // A record whose memory was partly returned reads as a closed heap, whatever part is gone.
  if (records.slice.thread != &hak_locks_held) hak_heap_records_return(&records.slice, hak_os_now_ms());
}
