// SPDX-License-Identifier: Apache-2.0
//
// The slow side of the thread caches: refills, overflows, flushes, decay, and borrowing.
#include "allocator/heap/thread_cache.h"

#include "allocator/block/block_check.h"
#include "allocator/block/poison.h"
#include "allocator/heap/bin.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/heap/page_purge.h"
#include "allocator/heap/quarantine.h"
#include "allocator/heap/remote.h"
#include "allocator/meta/meta.h"
#include "allocator/os/atomic.h"
#include "allocator/os/bytes.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/policy/cache_total.h"
#include "allocator/policy/config.h"
#include "allocator/policy/ss_release_policy.h"

// The first array of a class is one cache line or two.
#define FIRST_SLOTS 16u
// Bounds of one class's capacity: it is at least LEAST blocks, even when they are large. The largest array has 16 KiB,
// including its sentinels.
#define BLOCKS_MAX 2046u
#define BYTES_MAX ((size_t)1024 * 1024)
#define LEAST 4u
// The caches of a small heap may hold at least this many bytes.
#define SHARE_LEAST ((uint64_t)1024 * 1024)
// One refill takes at most this many bytes, so that little memory is idle when a program stops growing.
#define REFILL_BYTES_MAX ((size_t)64 * 1024)
// After this many slow events, one class is checked for decay, and some of the reclaim work is due (reclaim.h).
#define DECAY_EVENTS 32u
// A class may borrow one block of the next larger classes for each block that its own refills brought, up to
// BORROW_MOST in a row, and a few before its first refill. Each loan is a slow call, and a borrowed block is freed into
// another bin. So a class that only borrowed would never have blocks of its own.
#define BORROW_MOST 4096u
#define BORROW_FIRST 16u
// Cached blocks of a class that a smaller class must leave.
#define BORROW_LEAVES 4u

// ---- Capacity -----------------------------------------------------------------------------------

static uint32_t capacity_bound(size_t stride) {
  const size_t by_bytes = BYTES_MAX / stride;
  if (by_bytes < LEAST) return LEAST;
  return by_bytes < BLOCKS_MAX ? (uint32_t)by_bytes : BLOCKS_MAX;
}

// The bytes of an array with at least `capacity` slots for blocks: 64, 128, 256, ...
static size_t array_bytes(uint32_t capacity) {
  return hak_meta_usable((capacity + HAK_BIN_SENTINELS) * sizeof(void *));
}

// Gives the bin an array for `capacity` blocks, which is enough for all blocks in it. False: nothing changed.
static bool set_capacity(struct hak_heap *heap, uint32_t class_id, uint32_t capacity) HAK_REQUIRES(hak_heap_role) {
  struct hak_bin *bin = &heap->cache.bins[class_id];
  const uint32_t old_capacity = hak_bin_capacity(bin);
  const uint32_t count = hak_bin_count(bin);
  void **const old = hak_bin_base(bin);
  const uint64_t had = (uint64_t)old_capacity * hak_class_stride(class_id);
  const uint64_t gets = (uint64_t)capacity * hak_class_stride(class_id);
  if (gets > had && !hak_cache_total_reserve(heap->upkeep.cache_bytes, gets - had)) return false;
  void **slots = hak_meta_alloc(array_bytes(capacity));
  if (slots == NULL) {
    if (gets > had) hak_cache_total_release(gets - had);
    return false;
  }
  if (old != NULL) {
    hak_bytes_copy(slots, old, (count + HAK_BIN_SENTINELS) * sizeof(void *));
    hak_meta_free(old, array_bytes(old_capacity));
  }
  // Relaxed: thieves read it under the heap's lock, which is held here; statistics may read it at any time.
  hak_bin_set_base(bin, slots);
  hak_bin_set_limit(bin, slots + 1 + capacity);
  hak_bin_set_top(bin, slots + 1 + count);
  heap->upkeep.cache_bytes += gets - had;
  if (gets < had) hak_cache_total_release(had - gets);
  return true;
}

// The most bytes that the caches of the thread may hold together: a share of its heap, so that the memory that they
// keep from other uses stays small beside the memory that the program uses.
static uint64_t cache_bound(const struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  const uint64_t most = HAK_SETTING(thread_cache_bytes);
  const uint64_t parts = HAK_SETTING(thread_cache_share);
  if (parts == 0) return most;
  const uint64_t bytes = heap->slabs * HAK_SLAB_SIZE;
  const uint64_t share = bytes / parts;
  // A thread that owns almost nothing only frees: it needs batches, not a stock.
  const uint64_t least = bytes < SHARE_LEAST ? SHARE_LEAST / 4 : SHARE_LEAST;
  const uint64_t bound = share > least ? share : least;
  return bound < most ? bound : most;
}

// Doubles the bin's capacity if the bounds allow it. False: they do not.
static bool grow(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  struct hak_bin *bin = &heap->cache.bins[class_id];
  const uint32_t old = hak_bin_capacity(bin);
  const uint32_t bound = capacity_bound(hak_class_stride(class_id));
  if (old >= bound) return false;
  uint32_t wanted = old == 0 ? FIRST_SLOTS - HAK_BIN_SENTINELS : 2 * (old + HAK_BIN_SENTINELS) - HAK_BIN_SENTINELS;
  if (wanted > bound) wanted = bound;
  const uint64_t more = (uint64_t)(wanted - old) * hak_class_stride(class_id);
  // The first array is always allowed here: without one a class could not cache at all.
  if (old != 0 && heap->upkeep.cache_bytes + more > cache_bound(heap)) return false;
  return set_capacity(heap, class_id, wanted);
}

// ---- Flushing -----------------------------------------------------------------------------------

// Returns the `count` oldest blocks of the bin.
static void flush(struct hak_heap *heap, uint32_t class_id, uint32_t count) HAK_REQUIRES(hak_heap_role) {
  if (count == 0) return;
  struct hak_bin *bin = &heap->cache.bins[class_id];
  void **const oldest = hak_bin_first(bin);
  const uint32_t left = hak_bin_count(bin) - count;
  uint32_t *untouched = &heap->classes[class_id].upkeep.untouched;
  *untouched = *untouched > count ? *untouched - count : 0;
  hak_give_back(heap, oldest, count);
  hak_bytes_copy(oldest, oldest + count, left * sizeof(void *));
  hak_bin_set_top(bin, oldest + left - 1);
  hak_heap_count(&heap->counts.flushes);
}

// ---- The bound on all caches --------------------------------------------------------------------

// Returns the blocks of the class, and leaves it without an array.
static void drop(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  struct hak_bin *bin = &heap->cache.bins[class_id];
  hak_cache_settle(heap, class_id);
  if (hak_bin_base(bin) == NULL) return;
  flush(heap, class_id, hak_bin_count(bin));
  const uint32_t capacity = hak_bin_capacity(bin);
  hak_meta_free(hak_bin_base(bin), array_bytes(capacity));
  hak_bin_clear(bin, bin->reciprocal);
  const uint64_t bytes = (uint64_t)capacity * hak_class_stride(class_id);
  heap->upkeep.cache_bytes -= bytes;
  if (heap->upkeep.yielded_bytes == 0) hak_cache_total_release(bytes);  // otherwise resume() does it for all classes
}

static HAK_COLD void drop_all(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) drop(heap, class_id);
}

// The bytes in the bins. UINT64_MAX: some bin holds more than the latest block, which other threads leave in it.
static uint64_t bytes_left(const struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  uint64_t bytes = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    // Relaxed: written under the heap's lock.
    const uint32_t stolen = atomic_load_explicit(&heap->classes[class_id].idle.stolen, memory_order_relaxed);
    const uint32_t count = hak_bin_count(&heap->cache.bins[class_id]);
    if (count > stolen + 1) return UINT64_MAX;
    if (count > stolen) bytes += hak_class_stride(class_id);
  }
  return bytes;
}

void hak_thread_cache_yield(struct hak_heap *heap) {
  if (!hak_cache_total_is_short() || heap->upkeep.yielded_bytes != 0 || bytes_left(heap) == UINT64_MAX) return;
  hak_idle_cache_trip(heap);
  // Once more, because the owner may run. A free of it that has read the limit may still find room, for one block.
  const uint64_t left = bytes_left(heap);
  if (left >= heap->upkeep.cache_bytes) return;
  heap->upkeep.yielded_bytes = heap->upkeep.cache_bytes - left;
  hak_cache_total_release(heap->upkeep.yielded_bytes);
}

// Takes back the room that another thread has released, all of it or none: then every class starts without an array.
static HAK_COLD void resume(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  const uint64_t kept = heap->upkeep.cache_bytes - heap->upkeep.yielded_bytes;
  if (!hak_cache_total_reserve(kept, heap->upkeep.yielded_bytes)) {
    drop_all(heap);
    hak_cache_total_release(kept);
  }
  heap->upkeep.yielded_bytes = 0;
}

// Call it first in a slow call: it may free the array of any class.
static void obey_total(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  if (HAK_FAST) return;
  if (HAK_UNLIKELY(heap->upkeep.yielded_bytes != 0)) resume(heap);
  if (HAK_UNLIKELY(hak_cache_total_is_exceeded())) drop_all(heap);
}

void hak_thread_cache_flush_all(struct hak_heap *heap) {
  // A miss may be under way, which uses its array.
  if (HAK_UNLIKELY(heap->upkeep.yielded_bytes != 0)) resume(heap);
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    hak_cache_settle(heap, class_id);
    flush(heap, class_id, hak_bin_count(&heap->cache.bins[class_id]));
  }
}

void hak_thread_cache_shrink_all(struct hak_heap *heap) {
  hak_thread_cache_flush_all(heap);
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    const uint32_t capacity = hak_bin_capacity(&heap->cache.bins[class_id]);
    if (capacity > FIRST_SLOTS - HAK_BIN_SENTINELS) set_capacity(heap, class_id, FIRST_SLOTS - HAK_BIN_SENTINELS);
  }
}

// ---- Decay --------------------------------------------------------------------------------------

// A class without a slow event since the last check has more blocks than it needs: it returns half of them and halves
// its capacity. So does any class while the cache has more than its part of the bound on all caches, down to no array.
static void decay_class(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  hak_cache_settle(heap, class_id);
  struct hak_bin *bin = &heap->cache.bins[class_id];
  const bool idle = !heap->classes[class_id].upkeep.busy;
  heap->classes[class_id].upkeep.busy = false;
  const uint32_t capacity = hak_bin_capacity(bin);
  const bool is_crowded = hak_cache_total_is_crowded(heap->upkeep.cache_bytes);
  if (!idle && !is_crowded) return;
  if (capacity <= FIRST_SLOTS) {
    if (is_crowded) drop(heap, class_id);
    return;
  }
  const uint32_t smaller = (capacity + HAK_BIN_SENTINELS) / 2 - HAK_BIN_SENTINELS;
  const uint32_t count = hak_bin_count(bin);
  const uint32_t keep = count / 2 < smaller ? count / 2 : smaller;
  flush(heap, class_id, count - keep);
  set_capacity(heap, class_id, smaller);
}

// One size, of blocks of each kind.
static void decay_step(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  heap->upkeep.decay_class = heap->upkeep.decay_class + 1 < HAK_CLASS_COUNT ? heap->upkeep.decay_class + 1 : 1;
  decay_class(heap, heap->upkeep.decay_class);
  if (HAK_HARDENED) decay_class(heap, hak_class_pointers(heap->upkeep.decay_class));
}

static void count_slow_call(struct hak_heap *heap) HAK_REQUIRES(hak_heap_role) {
  heap->upkeep.slow_calls++;
  obey_total(heap);
  if (++heap->upkeep.events < DECAY_EVENTS) return;
  heap->upkeep.events = 0;
  decay_step(heap);
  heap->idle.ticked_ms = hak_os_now_ms();
  hak_page_purge(heap, heap->idle.ticked_ms);
  hak_heap_report(heap);
  heap->upkeep.tick_due = true;
}

static void slow_event(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  heap->classes[class_id].upkeep.busy = true;
  count_slow_call(heap);
}

static void earn_credit(struct hak_class_heap *class_heap, uint32_t blocks) HAK_REQUIRES(hak_heap_role) {
  const uint32_t credit = class_heap->upkeep.credit + blocks;
  class_heap->upkeep.credit = (uint16_t)(credit < BORROW_MOST ? credit : BORROW_MOST);
}

// ---- Before growth ------------------------------------------------------------------------------

bool hak_thread_cache_empty_before_growth(struct hak_heap *heap) {
  if (heap == &hak_orphanage || heap->slabs < heap->upkeep.empty_at_slabs) return false;
  if (!hak_should_empty_before_growth(hak_heap_free_bytes(heap), heap->slabs * HAK_SLAB_SIZE)) return false;
  // Not again until the heap has grown by a superslab.
  heap->upkeep.empty_at_slabs = heap->slabs + HAK_SLABS_PER_SUPERSLAB;
  hak_thread_cache_flush_all(heap);
  hak_remote_drain_some(heap);
  hak_heap_release_empty(heap);
  return true;
}

// As hak_heap_take. Before it maps memory, it tries the blocks that only the caches keep in use.
static uint32_t take(struct hak_heap *heap, uint32_t class_id, void **out, uint32_t want, bool *fresh)
    HAK_REQUIRES(hak_heap_role) {
  uint32_t got = hak_heap_take_mapped(heap, class_id, out, want, fresh);
  if (got != 0) return got;
  if (hak_thread_cache_empty_before_growth(heap)) got = hak_heap_take_mapped(heap, class_id, out, want, fresh);
  return got != 0 ? got : hak_heap_take(heap, class_id, out, want, fresh);
}

// ---- Miss and overflow --------------------------------------------------------------------------

void *hak_thread_cache_miss(struct hak_heap *heap, uint32_t class_id, bool *fresh) {
  struct hak_bin *bin = &heap->cache.bins[class_id];
  slow_event(heap, class_id);
  const bool waiting = hak_remote_drain_some(heap);
  hak_cache_settle(heap, class_id);
  if (hak_bin_count(bin) != 0) {  // Other threads had emptied the slots above it.
    void **top = hak_bin_top(bin);
    hak_bin_set_top(bin, top - 1);
    if (fresh != NULL) *fresh = false;
    return hak_slot_load(top);
  }
  grow(heap, class_id);
  const uint32_t capacity = hak_bin_capacity(bin);
  const size_t by_bytes = REFILL_BYTES_MAX / hak_class_stride(class_id);
  uint32_t want = capacity / 2 < by_bytes ? capacity / 2 : (uint32_t)by_bytes;
  // Takes no more than a drain collects; otherwise ever more remote frees would wait.
  if (waiting && want > HAK_DRAIN_BLOCKS / 2) want = HAK_DRAIN_BLOCKS / 2;
  void *single;
  if (want <= 1 || hak_bin_base(bin) == NULL) {
    hak_heap_count(&heap->counts.refills);
    return take(heap, class_id, &single, 1, fresh) == 1 ? single : NULL;
  }
  void **slots = hak_bin_first(bin);
  const uint32_t got = take(heap, class_id, slots, want, fresh);
  heap->classes[class_id].upkeep.untouched = heap->took_fresh ? got : 0;
  hak_heap_count(&heap->counts.refills);
  earn_credit(&heap->classes[class_id], got);
  if (got == 0) return NULL;
  if (HAK_HARDENED && heap->quarantine != NULL) hak_quarantine_shuffle(heap, slots, got);
  hak_bin_set_top(bin, slots + got - 2);
  return slots[got - 1];
}

// Takes a block of class `larger` that was used before, from the heap's slabs or from the thread's cache.
static void *take_used(struct hak_heap *heap, uint32_t larger) HAK_REQUIRES(hak_heap_role) {
  void *block;
  if (hak_heap_take_recycled(heap, larger, &block, 1) == 1) return block;
  hak_cache_settle(heap, larger);
  struct hak_bin *bin = &heap->cache.bins[larger];
  void **const top = hak_bin_top(bin);
  // The program freed the blocks above the untouched ones. A few stay for the class itself.
  if (hak_bin_count(bin) <= heap->classes[larger].upkeep.untouched + BORROW_LEAVES) return NULL;
  hak_bin_set_top(bin, top - 1);
  return hak_slot_load(top);
}

static void *borrow(struct hak_heap *heap, uint32_t class_id) HAK_REQUIRES(hak_heap_role) {
  if (HAK_BLOCK_CHECKS || hak_heap_has_recycled(heap, class_id)) return NULL;
  const size_t stride = hak_class_stride(class_id);
  for (uint32_t larger = class_id + 1; larger < HAK_CLASS_IDS; larger++) {
    // Never over the border between the classes without and with pointers.
    if (larger == HAK_CLASS_COUNT || hak_class_stride(larger) - stride > stride / 8) return NULL;
    void *block = take_used(heap, larger);
    if (block != NULL) return block;
  }
  return NULL;
}

void *hak_thread_cache_borrow(struct hak_heap *heap, uint32_t class_id) {
  obey_total(heap);
  hak_remote_drain_some(heap);
  uint16_t *credit = &heap->classes[class_id].upkeep.credit;
  if (!HAK_SETTING(borrow) || *credit == 0) return NULL;
  void *block = borrow(heap, class_id);
  if (block == NULL) return NULL;
  --*credit;
  slow_event(heap, class_id);
  return block;
}

void hak_thread_cache_overflow(struct hak_heap *heap, uint32_t class_id, void *block) {
  struct hak_bin *bin = &heap->cache.bins[class_id];
  slow_event(heap, class_id);
  hak_cache_settle(heap, class_id);
  if (hak_bin_top(bin) >= hak_bin_limit(bin) && !grow(heap, class_id)) {
    const uint32_t count = hak_bin_count(bin);
    if (count == 0) {  // Out of memory for an array, or of the bound on all caches.
      hak_give_back(heap, &block, 1);
      return;
    }
    flush(heap, class_id, (count + 1) / 2);
  }
  void **top = hak_bin_top(bin) + 1;
  hak_slot_store(top, block);
  hak_bin_set_top(bin, top);
}

// ---- Past the cache -----------------------------------------------------------------------------

void *hak_thread_cache_take_past(struct hak_heap *heap, uint32_t class_id) {
  count_slow_call(heap);
  hak_remote_drain_some(heap);
  void *block;
  return take(heap, class_id, &block, 1, NULL) == 1 ? block : NULL;
}

void hak_thread_cache_give_past(struct hak_heap *heap, void *block) {
  count_slow_call(heap);
  hak_give_back(heap, &block, 1);
}

void hak_thread_cache_init(struct hak_heap *heap) {
  for (uint32_t id = 0; id < HAK_CLASS_IDS; id++) hak_bin_clear(&heap->cache.bins[id], 0);
  heap->upkeep.tick_due = false;
  heap->grew = false;
  heap->upkeep.empty_at_slabs = 0;
  heap->upkeep.yielded_bytes = 0;
  heap->upkeep.cache_bytes = 0;
  heap->upkeep.events = 0;
  heap->upkeep.decay_class = 0;
  heap->idle.ticked_ms = hak_os_now_ms();
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    hak_bin_clear(&heap->cache.bins[class_id], hak_class_info[class_id].reciprocal);
    heap->classes[class_id].upkeep.busy = false;
    heap->classes[class_id].upkeep.credit = BORROW_FIRST;
    heap->classes[class_id].upkeep.untouched = 0;
    heap->classes[class_id].idle.seen_top = 0;
    heap->classes[class_id].idle.seen_free = UINT32_MAX;
    heap->classes[class_id].idle.full_limit = NULL;
    heap->classes[class_id].idle.touched = false;
    atomic_store_explicit(&heap->classes[class_id].idle.stolen, 0, memory_order_relaxed);
  }
}

void hak_thread_cache_destroy(struct hak_heap *heap) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    struct hak_bin *bin = &heap->cache.bins[class_id];
    if (hak_bin_base(bin) == NULL) continue;
    hak_meta_free(hak_bin_base(bin), array_bytes(hak_bin_capacity(bin)));
    hak_bin_clear(bin, bin->reciprocal);
  }
  hak_cache_total_release(heap->upkeep.cache_bytes - heap->upkeep.yielded_bytes);
  heap->upkeep.yielded_bytes = 0;
  heap->upkeep.cache_bytes = 0;
}
