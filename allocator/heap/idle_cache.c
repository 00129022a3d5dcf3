// SPDX-License-Identifier: Apache-2.0
//
// The protocol by which a thread empties the cache of an idle thread: idle_cache.h explains it.
#include "allocator/heap/idle_cache.h"

#include "allocator/heap/bin.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/idle_cache_state.h"
#include "allocator/os/barrier.h"

// The most blocks taken between two barriers.
#define ROUND 128u

// The idle caches of all threads together may keep this much, unless the program asks for memory back (by a trim, a
// limit that is reached, or the purge thread).
#define MUCH_BYTES ((uint64_t)4 * 1024 * 1024)

HAK_ATOMIC(uint64_t) hak_stolen_blocks;
// The sum of heap->idle.bytes over all heaps. Relaxed: a statistic.
static HAK_ATOMIC(uint64_t) idle_bytes;

struct taken {
  void **slot;
  void *block;
  struct hak_bin *bin;
};

struct round {
  uint32_t count;
  struct taken taken[ROUND];
};

bool hak_idle_cache_class_is_idle(struct hak_heap *heap, uint32_t class_id, uint64_t now, uint64_t idle_ms) {
  struct hak_bin_idle *idle = &heap->classes[class_id].idle;
  const uint32_t top = (uint32_t)((uintptr_t)hak_bin_top(&heap->cache.bins[class_id]) / sizeof(void *));
  return hak_idle_since_32(&idle->seen_top, &idle->seen_top_ms, top, now, idle_ms);
}

// Exchanges slots of the bin, from `slot` on and below its top, with NULL. Returns the first slot not checked; NULL
// when the bin is done.
static void **take_from_bin(struct hak_bin *bin, void **slot, struct round *round) {
  // The top is only a hint here. Step I0 of idle_cache.pml.
  for (; slot < hak_bin_top(bin); slot++) {
    if (round->count == ROUND) return slot;
    // Relaxed: the exchange checks the slot again. Acquire: pairs with the owner's stores of slots. Release is stronger
    // than needed: an owner that finds NULL takes the lock. Steps I1 and I2 of idle_cache.pml.
    void *block =
        __atomic_load_n(slot, __ATOMIC_RELAXED) != NULL ? __atomic_exchange_n(slot, NULL, __ATOMIC_ACQ_REL) : NULL;
    if (block == NULL) continue;
    round->taken[round->count++] = (struct taken){.slot = slot, .block = block, .bin = bin};
  }
  return NULL;
}

// Decides for each block of the round whether it belongs to the thief, and returns those that do to their slabs.
// Returns how many.
static uint32_t settle_round(struct hak_heap *heap, struct round *round) HAK_REQUIRES(hak_heap_role) {
  void *mine[ROUND];
  void **tops[ROUND];
  uint32_t count = 0;
  // Steps I3, I4 and I5 of idle_cache.pml.
  const bool reached = hak_os_barrier();
  for (uint32_t i = 0; i < round->count; i++) tops[i] = hak_bin_top(round->taken[i].bin);
  if (!hak_os_barrier() || !reached) {
    // The owner's state is unknown. Each slot counts as the top: its block is put back unless the slot was filled
    // meanwhile.
    for (uint32_t i = 0; i < round->count; i++) tops[i] = round->taken[i].slot;
  }
  for (uint32_t i = 0; i < round->count; i++) {
    const struct taken *taken = &round->taken[i];
    if (taken->slot < tops[i]) {
      // Relaxed: the barrier has ordered it. Not NULL: the owner popped a block and pushed another one.
      // Step I6 of idle_cache.pml.
      if (__atomic_load_n(taken->slot, __ATOMIC_RELAXED) != NULL) continue;
      struct hak_class_heap *class_heap = &heap->classes[taken->bin - heap->cache.bins];
      const uint32_t stolen = atomic_load_explicit(&class_heap->idle.stolen, memory_order_relaxed);
      // Relaxed: under the heap's lock; statistics read. Step I7 of idle_cache.pml.
      atomic_store_explicit(&class_heap->idle.stolen, stolen + 1, memory_order_relaxed);
      class_heap->idle.touched = true;
      mine[count++] = taken->block;
    } else if (taken->slot <= tops[i] + 1) {
      void *empty = NULL;
      // Release: like the owner's own store. Step I8 of idle_cache.pml.
      __atomic_compare_exchange_n(taken->slot, &empty, taken->block, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    }
  }
  round->count = 0;
  if (count != 0) hak_give_back(heap, mine, count);
  return count;
}

bool hak_idle_cache_is_quiet(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) {
  return hak_idle_since(&heap->idle.seen_calls, &heap->idle.seen_calls_ms, heap->upkeep.slow_calls, now, idle_ms);
}

static void set_idle_bytes(struct hak_heap *heap, uint64_t bytes) HAK_REQUIRES(hak_heap_role) {
  if (bytes == heap->idle.bytes) return;
  atomic_fetch_add_explicit(&idle_bytes, bytes - heap->idle.bytes, memory_order_relaxed);
  heap->idle.bytes = bytes;
}

void hak_idle_cache_uncount(struct hak_heap *heap) { set_idle_bytes(heap, 0); }

bool hak_idle_cache_count_is_large(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) {
  uint64_t bytes = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    const struct hak_bin *bin = &heap->cache.bins[class_id];
    void **const base = hak_bin_base(bin);
    if (base == NULL || !hak_idle_cache_class_is_idle(heap, class_id, now, idle_ms)) continue;
    void **const first =
        base + HAK_BIN_SENTINELS + atomic_load_explicit(&heap->classes[class_id].idle.stolen, memory_order_relaxed);
    if (hak_bin_top(bin) > first) bytes += (uint64_t)(hak_bin_top(bin) - first) * hak_class_stride(class_id);
  }
  set_idle_bytes(heap, bytes);
  return atomic_load_explicit(&idle_bytes, memory_order_relaxed) > MUCH_BYTES;
}

uint32_t hak_idle_cache_steal(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) {
  struct round round;
  round.count = 0;
  uint32_t count = 0;
  bool asked = false;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    struct hak_bin *bin = &heap->cache.bins[class_id];
    void **slot = hak_bin_base(bin);
    if (slot == NULL || !hak_idle_cache_class_is_idle(heap, class_id, now, idle_ms)) continue;
    slot += HAK_BIN_SENTINELS + atomic_load_explicit(&heap->classes[class_id].idle.stolen, memory_order_relaxed);
    if (slot >= hak_bin_top(bin)) continue;
    // Before any block is taken: without a working barrier no block may be taken.
    if (!asked && !hak_os_barrier()) return 0;
    asked = true;
    while ((slot = take_from_bin(bin, slot, &round)) != NULL) count += settle_round(heap, &round);
  }
  if (round.count != 0) count += settle_round(heap, &round);
  if (count != 0) atomic_fetch_add_explicit(&hak_stolen_blocks, count, memory_order_relaxed);
  return count;
}

void hak_idle_cache_trip(struct hak_heap *heap) {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    struct hak_bin *bin = &heap->cache.bins[class_id];
    struct hak_class_heap *class_heap = &heap->classes[class_id];
    if (hak_bin_base(bin) == NULL || class_heap->idle.full_limit != NULL) continue;
    class_heap->idle.full_limit = hak_bin_limit(bin);
    class_heap->idle.touched = true;
    // No top is ever below this slot. An owner that still uses the old limit frees one more block into room that
    // exists. Step I9 of idle_cache.pml.
    hak_bin_set_limit(bin, hak_bin_base(bin) + 1);
  }
}

HAK_NOINLINE void hak_idle_cache_settle(struct hak_heap *heap, uint32_t class_id) {
  struct hak_class_heap *class_heap = &heap->classes[class_id];
  struct hak_bin *bin = &heap->cache.bins[class_id];
  if (class_heap->idle.full_limit != NULL) hak_bin_set_limit(bin, class_heap->idle.full_limit);
  class_heap->idle.full_limit = NULL;
  class_heap->idle.touched = false;
  if (atomic_load_explicit(&class_heap->idle.stolen, memory_order_relaxed) == 0) return;
  void **to = hak_bin_first(bin);
  void **const top = hak_bin_top(bin);
  for (void **from = to; from <= top; from++) {
    void *block = hak_slot_load(from);
    if (block != NULL) hak_slot_store(to++, block);
  }
  hak_bin_set_top(bin, to - 1);
  const uint32_t stolen = atomic_load_explicit(&class_heap->idle.stolen, memory_order_relaxed);
  class_heap->upkeep.untouched = class_heap->upkeep.untouched > stolen ? class_heap->upkeep.untouched - stolen : 0;
  atomic_store_explicit(&class_heap->idle.stolen, 0, memory_order_relaxed);
}
