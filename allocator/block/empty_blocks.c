// SPDX-License-Identifier: Apache-2.0
//
// Blocks of size 0 in HARDENED: one bit for each address of a range that nobody can touch.
#include "allocator/block/empty_blocks.h"

#include "allocator/os/atomic.h"
#include "allocator/os/os.h"

#define WORDS (HAK_EMPTY_BLOCKS / 64)
// Addresses that one call tries. When seven eighths of the range are live, most calls find one within the first ten.
#define LOOKS_MAX 256u
#define LIVE_MAX (HAK_EMPTY_BLOCKS / 8 * 7)

struct empties {
  HAK_ATOMIC(uint64_t) live[WORDS];  // bit i: block i is live
  HAK_ATOMIC(uint64_t) used[WORDS];  // bit i: block i was live once
  // Relaxed: a block's holder writes and reads it. A pointer to the block passes from thread to thread with an order of
  // its own.
  HAK_ATOMIC(uint8_t) kind[HAK_EMPTY_BLOCKS];
};
static_assert(sizeof(struct empties) % 65536 == 0, "whole pages of every size");

// Set once, the bits first (release). A thread that finds the range (acquire) finds the bits too.
static HAK_ATOMIC(struct empties *) bits;
static HAK_ATOMIC(char *) range;
// Relaxed: `next` is a hint, and the bits decide; `count` is a statistic.
static HAK_ATOMIC(size_t) next;
static HAK_ATOMIC(uint64_t) count;

// Acquire: see above.
static char *get_range(void) { return atomic_load_explicit(&range, memory_order_acquire); }
static struct empties *get_bits(void) { return atomic_load_explicit(&bits, memory_order_acquire); }
uint64_t hak_empty_count(void) { return atomic_load_explicit(&count, memory_order_relaxed); }

// Two threads may map at once. The loser unmaps its bits. It leaves its range of addresses, which holds no memory.
static bool make(void) {
  struct empties *new_bits = get_bits();
  if (new_bits == NULL) {
    new_bits = hak_os_map(sizeof *new_bits, hak_os_page_size());
    struct empties *none = NULL;
    if (new_bits == NULL) return false;
    // Release, or acquire of the other thread's pointer: see above.
    if (!atomic_compare_exchange_strong_explicit(&bits, &none, new_bits, memory_order_release, memory_order_acquire)) {
      hak_os_unmap(new_bits, sizeof *new_bits);
    }
  }
  char *new_range = hak_os_reserve_closed(HAK_EMPTY_BYTES);
  char *none = NULL;
  if (new_range == NULL) return false;
  // Release, or acquire of the other thread's pointer: see above.
  atomic_compare_exchange_strong_explicit(&range, &none, new_range, memory_order_release, memory_order_acquire);
  return true;
}

static HAK_ATOMIC(uint64_t) * word_of(HAK_ATOMIC(uint64_t) * words, size_t index) { return &words[index / 64]; }
static uint64_t bit_of(size_t index) { return (uint64_t)1 << (index % 64); }

void *hak_empty_take(size_t align) {
  if (align > HAK_EMPTY_BYTES / 2 || hak_empty_count() >= LIVE_MAX) return NULL;
  if (get_range() == NULL && !make()) return NULL;
  char *const start = get_range();
  struct empties *const all = get_bits();
  const size_t step = align > HAK_MIN_ALIGN ? align / HAK_MIN_ALIGN : 1;
  for (uint32_t looks = 0; looks < LOOKS_MAX; looks++) {
    const size_t from = atomic_fetch_add_explicit(&next, step, memory_order_relaxed) % HAK_EMPTY_BLOCKS;
    const uintptr_t address = hak_round_up((uintptr_t)start + from * HAK_MIN_ALIGN, align);
    const size_t index = (address - (uintptr_t)start) / HAK_MIN_ALIGN;
    if (index >= HAK_EMPTY_BLOCKS) continue;
    // Relaxed: a block has no other state than its bits.
    const uint64_t before = atomic_fetch_or_explicit(word_of(all->live, index), bit_of(index), memory_order_relaxed);
    if ((before & bit_of(index)) != 0) continue;
    atomic_fetch_or_explicit(word_of(all->used, index), bit_of(index), memory_order_relaxed);
    atomic_store_explicit(&all->kind[index], 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    return start + index * HAK_MIN_ALIGN;
  }
  return NULL;
}

// The index of the block; HAK_EMPTY_BLOCKS: `block` is not an empty block.
static size_t index_of(const void *block) {
  const char *const start = get_range();
  const uintptr_t offset = (uintptr_t)block - (uintptr_t)start;
  return start != NULL && offset < HAK_EMPTY_BYTES && offset % HAK_MIN_ALIGN == 0 ? offset / HAK_MIN_ALIGN
                                                                                  : HAK_EMPTY_BLOCKS;
}

static enum hak_empty_state state_of(struct empties *all, size_t index, uint64_t live) {
  if ((live & bit_of(index)) != 0) return HAK_EMPTY_LIVE;
  // Relaxed: see above.
  const uint64_t used = atomic_load_explicit(word_of(all->used, index), memory_order_relaxed);
  return (used & bit_of(index)) != 0 ? HAK_EMPTY_FREED : HAK_EMPTY_FOREIGN;
}

enum hak_empty_state hak_empty_state_of(const void *block) {
  const size_t index = index_of(block);
  if (index == HAK_EMPTY_BLOCKS) return HAK_EMPTY_FOREIGN;
  struct empties *const all = get_bits();
  // Relaxed: see above.
  return state_of(all, index, atomic_load_explicit(word_of(all->live, index), memory_order_relaxed));
}

enum hak_empty_state hak_empty_give(void *block) {
  const size_t index = index_of(block);
  if (index == HAK_EMPTY_BLOCKS) return HAK_EMPTY_FOREIGN;
  struct empties *const all = get_bits();
  // Relaxed: see above.
  const uint64_t before = atomic_fetch_and_explicit(word_of(all->live, index), ~bit_of(index), memory_order_relaxed);
  const enum hak_empty_state state = state_of(all, index, before);
  if (state == HAK_EMPTY_LIVE) atomic_fetch_sub_explicit(&count, 1, memory_order_relaxed);
  return state;
}

void hak_empty_set_kind(const void *block, uint8_t kind) {
  const size_t index = index_of(block);
  // Relaxed: see above.
  if (index != HAK_EMPTY_BLOCKS) atomic_store_explicit(&get_bits()->kind[index], kind, memory_order_relaxed);
}

uint8_t hak_empty_kind(const void *block) {
  const size_t index = index_of(block);
  // Relaxed: see above.
  return index != HAK_EMPTY_BLOCKS ? atomic_load_explicit(&get_bits()->kind[index], memory_order_relaxed) : 0;
}

void *hak_empty_next(const void *after) {
  char *const start = get_range();
  if (start == NULL) return NULL;
  const struct empties *all = get_bits();
  size_t index = after == NULL ? 0 : (size_t)((const char *)after - start) / HAK_MIN_ALIGN + 1;
  while (index < HAK_EMPTY_BLOCKS) {
    // Relaxed: see above.
    const uint64_t word = atomic_load_explicit(&all->live[index / 64], memory_order_relaxed) >> (index % 64);
    if (word != 0) return start + (index + (size_t)__builtin_ctzll(word)) * HAK_MIN_ALIGN;
    index = (index | 63) + 1;
  }
  return NULL;
}
