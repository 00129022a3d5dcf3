// SPDX-License-Identifier: Apache-2.0
//
// The quarantine of small blocks, and the random numbers that it uses.
#include "allocator/heap/quarantine.h"

#include "allocator/heap/give_back.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/heap/idle_cache_state.h"
#include "allocator/meta/meta.h"
#include "allocator/os/atomic.h"
#include "allocator/os/os.h"

static uint32_t half_of(uint32_t class_id) {
  const size_t by_bytes = HAK_QUARANTINE_BYTES / hak_class_stride(class_id);
  if (by_bytes == 0) return 1;
  return by_bytes < HAK_QUARANTINE_BLOCKS ? (uint32_t)by_bytes : HAK_QUARANTINE_BLOCKS;
}
static size_t array_bytes(uint32_t class_id) { return (size_t)2 * half_of(class_id) * sizeof(void *); }

// Relaxed: statistics. Written under the quarantine's lock, so no read-modify-write is needed.
static void add_to(HAK_ATOMIC(uint64_t) * statistic, uint64_t change) {
  atomic_store_explicit(statistic, atomic_load_explicit(statistic, memory_order_relaxed) + change,
                        memory_order_relaxed);
}

static void count(struct hak_heap *heap, uint32_t class_id, int64_t blocks) {
  add_to(&heap->counts.held_blocks, (uint64_t)blocks);
  if (HAK_HARDENED) add_to(&heap->counts.held_of[class_id], (uint64_t)blocks);
}

uint32_t hak_quarantine_random(struct hak_heap *heap, uint32_t bound) {
  // A counter with a secret start, hidden by a mixing function. The secret is renewed from time to time.
  struct hak_quarantine *quarantine = heap->quarantine;
  if (quarantine->draws-- == 0) {
    quarantine->seed ^= hak_os_random();
    quarantine->draws = 1u << 16;
  }
  uint64_t mixed = quarantine->seed += 0x9E3779B97F4A7C15u;
  mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
  mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
  return (uint32_t)((mixed >> 32) * bound >> 32);
}

void hak_quarantine_shuffle(struct hak_heap *heap, void **blocks, uint32_t count_) {
  for (uint32_t left = count_; left > 1; left--) {
    const uint32_t other = hak_quarantine_random(heap, left);
    void *block = blocks[other];
    blocks[other] = blocks[left - 1];
    blocks[left - 1] = block;
  }
}

static void *swap(struct hak_heap *heap, uint32_t class_id, void *block) HAK_REQUIRES(hak_quarantine_role) {
  struct hak_quarantine *quarantine = heap->quarantine;
  quarantine->swaps++;
  void **places = quarantine->places[class_id];
  if (HAK_UNLIKELY(places == NULL)) {
    places = quarantine->places[class_id] = hak_meta_alloc(array_bytes(class_id));
    if (places == NULL) return block;
  }
  const uint32_t half = quarantine->halves[class_id];
  void **const place = &places[hak_quarantine_random(heap, half)];
  void *displaced = *place;
  *place = block;
  if (displaced != NULL) {
    const uint32_t front = quarantine->fronts[class_id];
    quarantine->fronts[class_id] = (uint16_t)(front + 1 < half ? front + 1 : 0);
    block = places[half + front];
    places[half + front] = displaced;
    displaced = block;
  }
  if (displaced == NULL) count(heap, class_id, 1);
  return displaced;
}

static void enter(struct hak_quarantine *quarantine) HAK_ACQUIRE(hak_quarantine_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role comes with the lock") {
  hak_gated_acquire(&quarantine->lock);
}
static void leave(struct hak_quarantine *quarantine) HAK_RELEASE(hak_quarantine_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role goes with the lock") {
  hak_lock_release(&quarantine->lock);
}

void *hak_quarantine_swap(struct hak_heap *heap, uint32_t class_id, void *block) {
  enter(heap->quarantine);
  void *again = swap(heap, class_id, block);
  leave(heap->quarantine);
  return again;
}

// Called under the heap's lock, so no thread waits at the fork gate here: the thread that closed the gate waits for the
// heap's lock. That thread itself holds every lock.
static void lock_within(struct hak_quarantine *quarantine) HAK_ACQUIRE(hak_quarantine_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role comes with the lock") {
  if (!hak_lock_holds_all) hak_lock_acquire(&quarantine->lock);
}
static void unlock_within(struct hak_quarantine *quarantine) HAK_RELEASE(hak_quarantine_role)
    HAK_NO_THREAD_SAFETY_ANALYSIS("the role goes with the lock") {
  if (!hak_lock_holds_all) hak_lock_release(&quarantine->lock);
}

bool hak_quarantine_attach(struct hak_heap *heap) {
  struct hak_quarantine *quarantine = hak_meta_alloc(sizeof *quarantine);
  if (quarantine != NULL) {
    quarantine->lock = (struct hak_lock)HAK_LOCK_INIT(HAK_RANK_QUARANTINE);
    for (uint32_t id = 1; id < HAK_CLASS_IDS; id++) quarantine->halves[id] = (uint16_t)half_of(id);
  }
  heap->quarantine = quarantine;
  return quarantine != NULL;
}

static uint32_t flush(struct hak_heap *heap) HAK_REQUIRES(hak_quarantine_role) HAK_REQUIRES(hak_heap_role) {
  struct hak_quarantine *quarantine = heap->quarantine;
  uint32_t blocks = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    void **places = quarantine->places[class_id];
    for (uint32_t i = 0; places != NULL && i < 2u * quarantine->halves[class_id]; i++) {
      if (places[i] == NULL) continue;
      hak_give_back(heap, &places[i], 1);
      places[i] = NULL;
      count(heap, class_id, -1);
      blocks++;
    }
  }
  return blocks;
}

void hak_quarantine_wait_free(struct hak_heap *heap) {
  if (heap->quarantine != NULL) hak_fork_gate_wait_free(&heap->quarantine->lock);
}

void hak_quarantine_reset_lock(struct hak_heap *heap) {
  if (heap->quarantine != NULL) hak_fork_gate_reset(&heap->quarantine->lock);
}

void hak_quarantine_flush(struct hak_heap *heap) {
  if (heap->quarantine == NULL) return;
  lock_within(heap->quarantine);
  flush(heap);
  unlock_within(heap->quarantine);
}

uint32_t hak_quarantine_flush_idle(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) {
  struct hak_quarantine *quarantine = heap->quarantine;
  if (quarantine == NULL) return 0;
  uint32_t blocks = 0;
  lock_within(quarantine);
  if (hak_idle_since(&quarantine->seen_swaps, &quarantine->seen_since_ms, quarantine->swaps, now, idle_ms)) {
    blocks = flush(heap);
  }
  unlock_within(quarantine);
  if (blocks != 0) atomic_fetch_add_explicit(&hak_stolen_blocks, blocks, memory_order_relaxed);  // A statistic.
  return blocks;
}

static void free_places(struct hak_quarantine *quarantine)
    HAK_NO_THREAD_SAFETY_ANALYSIS("nobody else is in it: the heap's lock is held") {
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    if (quarantine->places[class_id] != NULL) hak_meta_free(quarantine->places[class_id], array_bytes(class_id));
  }
}

void hak_quarantine_detach(struct hak_heap *heap) {
  struct hak_quarantine *quarantine = heap->quarantine;
  if (quarantine == NULL) return;
  hak_quarantine_flush(heap);
  free_places(quarantine);
  heap->quarantine = NULL;
  hak_meta_free(quarantine, sizeof *quarantine);
}

void hak_quarantine_visit(const struct hak_heap *heap, void (*visit)(const void *block, uint32_t class_id)) {
  lock_within(heap->quarantine);
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    void *const *places = heap->quarantine->places[class_id];
    for (uint32_t i = 0; places != NULL && i < 2u * heap->quarantine->halves[class_id]; i++) {
      if (places[i] != NULL) visit(places[i], class_id);
    }
  }
  unlock_within(heap->quarantine);
}

void hak_quarantine_visit_class(const struct hak_quarantine *quarantine, uint32_t class_id,
                                void (*visit)(const void *block, void *context), void *context)
    HAK_NO_THREAD_SAFETY_ANALYSIS("no other thread takes the lock") {
  void *const *places = quarantine->places[class_id];
  for (uint32_t i = 0; places != NULL && i < 2u * quarantine->halves[class_id]; i++) {
    if (places[i] != NULL) visit(places[i], context);
  }
}
