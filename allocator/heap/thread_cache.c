// SPDX-License-Identifier: Apache-2.0
#include "allocator/heap/thread_cache.h"

#include <string.h>

#include "allocator/block/block_check.h"
#include "allocator/block/poison.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/heap/page_purge.h"
#include "allocator/heap/quarantine.h"
#include "allocator/heap/remote.h"
#include "allocator/meta/meta.h"
#include "allocator/os/atomic.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/policy/config.h"

// The two NULL slots at the bottom of each array.
#define SENTINELS 2u
// The first array of a class is one cache line or two.
#define FIRST_SLOTS 16u
// Bounds of one class's capacity; at least LEAST blocks even when they are large. With its end marks the largest array
// is 16 KiB.
#define BLOCKS_MAX 2046u
#define BYTES_MAX ((size_t)256 * 1024)
#define LEAST 4u
// The share of a small heap's caches is at least this many bytes.
#define SHARE_LEAST ((uint64_t)1024 * 1024)
// One refill hands out no more than this many bytes, so that little lies idle when a program stops growing.
#define REFILL_BYTES_MAX ((size_t)64 * 1024)
// Every so many slow events one class is looked at for decay, and some of the common work is due (reclaim.h).
#define DECAY_EVENTS 32u
// A class may borrow one block of the next larger ones for each that refills of its own brought, BORROW_MOST in a row,
// and a few before its first refill. Each loan is a slow call, and what was borrowed is freed into another bin: a class
// that lived on loans would never have a stock of its own.
#define BORROW_MOST 4096u
#define BORROW_FIRST 16u
// Blocks whose slab descriptors are fetched ahead while a batch is returned.
#define PREFETCH_AHEAD 6u
// Remote slabs that one return keeps apart; a power of two.
#define CHAINS 32u

static void *no_block[SENTINELS];
#define NO_BIN {.top = &no_block[1], .limit = &no_block[1]}
const struct hak_cache hak_no_cache = {.bins = {[0 ... HAK_CLASS_IDS - 1] = NO_BIN}};

// Relaxed: the bin is this thread's own, or an idle one's under whose lock it is emptied; statistics read.
HAK_INLINE void **bin_top(const struct hak_bin *bin) { return atomic_load_explicit(&bin->top, memory_order_relaxed); }
HAK_INLINE void **bin_base(const struct hak_bin *bin) { return atomic_load_explicit(&bin->base, memory_order_relaxed); }
HAK_INLINE void bin_set_top(struct hak_bin *bin, void **top) {
  atomic_store_explicit(&bin->top, top, memory_order_relaxed);
}
HAK_INLINE uint32_t bin_count(const struct hak_bin *bin) {
  return bin_base(bin) == NULL ? 0 : (uint32_t)(bin_top(bin) - bin_base(bin)) - 1;
}
HAK_INLINE uint32_t bin_capacity(const struct hak_bin *bin) {
  return bin_base(bin) == NULL ? 0 : (uint32_t)(hak_bin_limit(bin) - bin_base(bin)) - 1;
}

static void count_event(HAK_ATOMIC(uint64_t) * counter) {
  // Outside FAST. Relaxed, and no read-modify-write: only the owner writes, statistics read.
  if (!HAK_FAST) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
  }
}

// ---- Capacity -----------------------------------------------------------------------------------

static uint32_t capacity_bound(size_t stride) {
  const size_t by_bytes = BYTES_MAX / stride;
  if (by_bytes < LEAST) return LEAST;
  return by_bytes < BLOCKS_MAX ? (uint32_t)by_bytes : BLOCKS_MAX;
}

// The bytes of an array that has at least `capacity` slots for blocks: 64, 128, 256, ...
static size_t array_bytes(uint32_t capacity) { return hak_meta_usable((capacity + SENTINELS) * sizeof(void *)); }

// Gives the bin an array for `capacity` blocks, which holds all that it has now. False: it stays as it is.
static bool set_capacity(struct hak_heap *heap, uint32_t class_id, uint32_t capacity) {
  struct hak_bin *bin = &heap->cache.bins[class_id];
  const uint32_t old_capacity = bin_capacity(bin);
  const uint32_t count = bin_count(bin);
  void **const old = bin_base(bin);
  void **slots = hak_meta_alloc(array_bytes(capacity));
  if (slots == NULL) return false;
  if (old != NULL) {
    memcpy(slots, old, (count + SENTINELS) * sizeof(void *));
    hak_meta_free(old, array_bytes(old_capacity));
  }
  // Relaxed: stealers read it under the heap's lock, which is held here; statistics may read it at any moment.
  atomic_store_explicit(&bin->base, slots, memory_order_relaxed);
  hak_bin_set_limit(bin, slots + 1 + capacity);
  bin_set_top(bin, slots + 1 + count);
  heap->cache_bytes += (uint64_t)capacity * hak_class_stride(class_id);
  heap->cache_bytes -= (uint64_t)old_capacity * hak_class_stride(class_id);
  return true;
}

// What the caches of the thread may hold together: a share of its heap, so that what they keep from others stays small
// beside what the program holds.
static uint64_t cache_bound(const struct hak_heap *heap) {
  const uint64_t most = HAK_SETTING(thread_cache_bytes);
  const uint64_t parts = HAK_SETTING(thread_cache_share);
  if (parts == 0) return most;
  const uint64_t bytes = heap->slabs * HAK_SLAB_SIZE;
  const uint64_t share = bytes / parts;
  // A thread that owns next to nothing only frees: it needs batches, not a stock.
  const uint64_t least = bytes < SHARE_LEAST ? SHARE_LEAST / 4 : SHARE_LEAST;
  const uint64_t bound = share > least ? share : least;
  return bound < most ? bound : most;
}

// Doubles the bin's capacity where the bounds allow it. False: it has what it may have.
static bool grow(struct hak_heap *heap, uint32_t class_id) {
  struct hak_bin *bin = &heap->cache.bins[class_id];
  const uint32_t old = bin_capacity(bin);
  const uint32_t bound = capacity_bound(hak_class_stride(class_id));
  if (old >= bound) return false;
  uint32_t wanted = old == 0 ? FIRST_SLOTS - SENTINELS : 2 * (old + SENTINELS) - SENTINELS;
  if (wanted > bound) wanted = bound;
  const uint64_t more = (uint64_t)(wanted - old) * hak_class_stride(class_id);
  // The first array is always allowed: without one a class could not cache at all.
  if (old != 0 && heap->cache_bytes + more > cache_bound(heap)) return false;
  return set_capacity(heap, class_id, wanted);
}

// ---- Returning blocks ---------------------------------------------------------------------------

// Chains of remote blocks, by a hash of their slab; the bits of `used` tell which are there, so nothing needs clearing.
struct chain_table {
  uint32_t used;
  uint64_t bytes;  // pushed so far
  struct hak_chain chains[CHAINS];
};
static_assert(CHAINS == 32, "one bit for each chain");

static void push_chain(struct hak_heap *heap, struct chain_table *table, uint32_t slot) {
  table->bytes += hak_remote_push(&table->chains[slot]);
  if (heap != NULL) count_event(&heap->remote_batches);
}

static void add_remote(struct hak_heap *heap, struct chain_table *table, struct hak_slab *slab, void *block) {
  const uint32_t slot = (uint32_t)(((uintptr_t)block >> HAK_SLAB_SHIFT) * 0x9E3779B1u >> 16) & (CHAINS - 1);
  struct hak_chain *chain = &table->chains[slot];
  if (((table->used >> slot) & 1) != 0 && chain->slab != slab) {
    push_chain(heap, table, slot);
    table->used &= ~(1u << slot);
  }
  if (((table->used >> slot) & 1) == 0) {
    *chain = (struct hak_chain){.slab = slab};
    table->used |= 1u << slot;
  }
  hak_chain_add(chain, block);
}

// A block of an orphaned slab. False: the slab was adopted meanwhile.
static bool return_orphan(struct hak_slab *slab, void *block) {
  hak_lock_acquire(&hak_orphanage_lock);
  // Relaxed: what makes or unmakes an orphan does so under this lock. Step T2 of remote.pml.
  const bool orphan = atomic_load_explicit(&slab->owner, memory_order_relaxed) == &hak_orphanage;
  if (orphan) hak_heap_put(&hak_orphanage, slab, block);
  hak_lock_release(&hak_orphanage_lock);
  return orphan;
}

void hak_thread_cache_return(struct hak_heap *heap, void **blocks, uint32_t count) {
  struct chain_table table;
  table.used = 0;
  table.bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (i + PREFETCH_AHEAD < count) __builtin_prefetch(hak_slab_of(blocks[i + PREFETCH_AHEAD]), 1);
    void *block = blocks[i];
    struct hak_slab *slab = hak_slab_of(block);
    if (HAK_POISON_ON) hak_block_require_untouched(block, slab->class_id);
    // Acquire: pairs with the store of whoever gave the slab to its present owner. Step T1 of remote.pml.
    struct hak_heap *owner = atomic_load_explicit(&slab->owner, memory_order_acquire);
    if (HAK_LIKELY(owner == heap && owner != NULL)) {
      hak_heap_put(heap, slab, block);
    } else if (owner == NULL) {
      hak_fatal("double free", block);  // The slab went back to the pool: none of its blocks is live.
    } else if (owner != &hak_orphanage || !return_orphan(slab, block)) {
      add_remote(heap, &table, slab, block);
    }
  }
  for (uint32_t rest = table.used; rest != 0; rest &= rest - 1) push_chain(heap, &table, (uint32_t)__builtin_ctz(rest));
  // They lie free until their owners take them in.
  if (table.bytes != 0) atomic_fetch_add_explicit(&hak_heaps_free_bytes, table.bytes, memory_order_relaxed);
}

// Returns the `count` oldest blocks of the bin.
static void flush(struct hak_heap *heap, uint32_t class_id, uint32_t count) {
  if (count == 0) return;
  struct hak_bin *bin = &heap->cache.bins[class_id];
  void **const oldest = bin_base(bin) + SENTINELS;
  const uint32_t left = bin_count(bin) - count;
  uint32_t *untouched = &heap->classes[class_id].untouched;
  *untouched = *untouched > count ? *untouched - count : 0;
  hak_thread_cache_return(heap, oldest, count);
  memmove(oldest, oldest + count, left * sizeof(void *));
  bin_set_top(bin, oldest + left - 1);
  count_event(&heap->flushes);
}

void hak_thread_cache_flush_all(struct hak_heap *heap) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    hak_cache_settle(heap, class_id);
    flush(heap, class_id, bin_count(&heap->cache.bins[class_id]));
  }
}

void hak_thread_cache_shrink_all(struct hak_heap *heap) {
  hak_thread_cache_flush_all(heap);
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    const uint32_t capacity = bin_capacity(&heap->cache.bins[class_id]);
    if (capacity > FIRST_SLOTS - SENTINELS) set_capacity(heap, class_id, FIRST_SLOTS - SENTINELS);
  }
}

// ---- Decay --------------------------------------------------------------------------------------

// A class without a slow event since the last look has more than it needs: it returns half and keeps half the room.
static void decay_step(struct hak_heap *heap) {
  heap->decay_class = heap->decay_class + 1 < HAK_CLASS_COUNT ? heap->decay_class + 1 : 1;
  const uint32_t class_id = heap->decay_class;
  hak_cache_settle(heap, class_id);
  struct hak_bin *bin = &heap->cache.bins[class_id];
  const bool idle = heap->classes[class_id].misses == 0;
  heap->classes[class_id].misses = 0;
  const uint32_t capacity = bin_capacity(bin);
  if (!idle || capacity <= FIRST_SLOTS) return;
  const uint32_t smaller = (capacity + SENTINELS) / 2 - SENTINELS;
  const uint32_t count = bin_count(bin);
  const uint32_t keep = count / 2 < smaller ? count / 2 : smaller;
  flush(heap, class_id, count - keep);
  set_capacity(heap, class_id, smaller);
}

static void slow_event(struct hak_heap *heap, uint32_t class_id) {
  heap->classes[class_id].misses++;
  heap->slow_calls++;
  if (++heap->events < DECAY_EVENTS) return;
  heap->events = 0;
  decay_step(heap);
  hak_page_purge(heap, hak_os_now_ms());
  hak_heap_report(heap);
  heap->tick_due = true;
}

static void earn_credit(struct hak_class_heap *class_heap, uint32_t blocks) {
  const uint32_t credit = class_heap->credit + blocks;
  class_heap->credit = credit < BORROW_MOST ? credit : BORROW_MOST;
}

// ---- Miss and overflow --------------------------------------------------------------------------

void *hak_thread_cache_miss(struct hak_heap *heap, uint32_t class_id, bool *fresh) {
  struct hak_bin *bin = &heap->cache.bins[class_id];
  slow_event(heap, class_id);
  const bool waiting = hak_heap_drain_some(heap);
  hak_cache_settle(heap, class_id);
  if (bin_count(bin) != 0) {  // Others had emptied slots above it.
    void **top = bin_top(bin);
    bin_set_top(bin, top - 1);
    if (fresh != NULL) *fresh = false;
    return hak_slot_load(top);
  }
  grow(heap, class_id);
  const uint32_t capacity = bin_capacity(bin);
  const size_t by_bytes = REFILL_BYTES_MAX / hak_class_stride(class_id);
  uint32_t want = capacity / 2 < by_bytes ? capacity / 2 : (uint32_t)by_bytes;
  // No more goes out than came in, or what waits would become more and more.
  if (waiting && want > HAK_DRAIN_BLOCKS / 2) want = HAK_DRAIN_BLOCKS / 2;
  void *single;
  if (want <= 1 || bin_base(bin) == NULL) {
    count_event(&heap->refills);
    return hak_heap_take(heap, class_id, &single, 1, fresh) == 1 ? single : NULL;
  }
  void **slots = bin_base(bin) + SENTINELS;
  const uint32_t got = hak_heap_take(heap, class_id, slots, want, fresh);
  heap->classes[class_id].untouched = heap->classes[class_id].took_new ? got : 0;
  count_event(&heap->refills);
  earn_credit(&heap->classes[class_id], got);
  if (got == 0) return NULL;
  if (HAK_HARDENED && heap->quarantine != NULL) hak_quarantine_shuffle(heap, slots, got);
  bin_set_top(bin, slots + got - 2);
  return slots[got - 1];
}

void *hak_thread_cache_borrow(struct hak_heap *heap, uint32_t class_id) {
  hak_heap_drain_some(heap);
  uint32_t *credit = &heap->classes[class_id].credit;
  if (!HAK_SETTING(borrow) || *credit == 0) return NULL;
  void *block = hak_heap_borrow(heap, class_id);
  if (block == NULL) return NULL;
  --*credit;
  slow_event(heap, class_id);
  return block;
}

void hak_thread_cache_overflow(struct hak_heap *heap, uint32_t class_id, void *block) {
  struct hak_bin *bin = &heap->cache.bins[class_id];
  slow_event(heap, class_id);
  hak_cache_settle(heap, class_id);
  if (bin_top(bin) >= hak_bin_limit(bin) && !grow(heap, class_id)) {
    const uint32_t count = bin_count(bin);
    if (count == 0) {  // No memory for an array.
      hak_thread_cache_return(heap, &block, 1);
      return;
    }
    flush(heap, class_id, (count + 1) / 2);
  }
  void **top = bin_top(bin) + 1;
  hak_slot_store(top, block);
  bin_set_top(bin, top);
}

void hak_thread_cache_init(struct hak_heap *heap) {
  // As hak_no_cache. One by one, and relaxed: statistics of another thread may be reading.
  for (uint32_t id = 0; id < HAK_CLASS_IDS; id++) {
    struct hak_bin *bin = &heap->cache.bins[id];
    atomic_store_explicit(&bin->base, NULL, memory_order_relaxed);
    hak_bin_set_limit(bin, &no_block[1]);
    bin_set_top(bin, &no_block[1]);
    bin->reciprocal = 0;
    bin->start_least = 0;
  }
  heap->tick_due = false;
  heap->cache_bytes = 0;
  heap->events = 0;
  heap->decay_class = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    heap->cache.bins[class_id].reciprocal = hak_class_info[class_id].reciprocal;
    heap->cache.bins[class_id].start_least = 0 - hak_class_info[class_id].reciprocal;
    heap->classes[class_id].misses = 0;
    heap->classes[class_id].credit = BORROW_FIRST;
    heap->classes[class_id].untouched = 0;
    heap->classes[class_id].seen_top = NULL;
    heap->classes[class_id].full_limit = NULL;
    heap->classes[class_id].touched = false;
    atomic_store_explicit(&heap->classes[class_id].stolen, 0, memory_order_relaxed);
  }
}

void hak_thread_cache_destroy(struct hak_heap *heap) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    struct hak_bin *bin = &heap->cache.bins[class_id];
    if (bin_base(bin) == NULL) continue;
    hak_meta_free(bin_base(bin), array_bytes(bin_capacity(bin)));
    // Relaxed: statistics of another thread may be reading.
    atomic_store_explicit(&bin->base, NULL, memory_order_relaxed);
    hak_bin_set_limit(bin, &no_block[1]);
    bin_set_top(bin, &no_block[1]);
  }
  heap->cache_bytes = 0;
}
