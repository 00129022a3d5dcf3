// SPDX-License-Identifier: Apache-2.0
//
// The page map: records of chunks, and the dirty bits of their pages.
#include "allocator/pages/page_map.h"

#include <string.h>

#include "allocator/meta/meta.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"

HAK_ATOMIC(struct hak_branch *) hak_page_map_root[HAK_ROOT_BRANCHES];

static HAK_ATOMIC(uint64_t) leaf_bytes;
// Relaxed: a statistic.
uint64_t hak_page_map_bytes(void) { return atomic_load_explicit(&leaf_bytes, memory_order_relaxed); }

// A leaf that was reserved but could not be made writable; NULL: there is none.
static struct hak_chunk *spare HAK_GUARDED_BY(hak_mapping_mutex);

static bool cover_leaf(uintptr_t at) HAK_REQUIRES(hak_mapping_mutex) {
  HAK_ATOMIC(struct hak_branch *) *root = &hak_page_map_root[at >> HAK_BRANCH_SHIFT];
  // Relaxed, both: written under this lock.
  struct hak_branch *branch = atomic_load_explicit(root, memory_order_relaxed);
  if (branch == NULL) {
    branch = hak_meta_alloc(sizeof *branch);
    if (branch == NULL) return false;
    atomic_store_explicit(root, branch, memory_order_release);  // Release: see hak_chunk_of.
  }
  HAK_ATOMIC(struct hak_chunk *) *slot = &branch->leaves[(at >> HAK_LEAF_SHIFT) & (HAK_BRANCH_LEAVES - 1)];
  if (atomic_load_explicit(slot, memory_order_relaxed) != NULL) return true;
  const size_t bytes = hak_round_up(HAK_LEAF_CHUNKS * sizeof(struct hak_chunk), hak_os_page_size());
  struct hak_chunk *leaf = spare != NULL ? spare : hak_os_reserve(bytes);
  spare = leaf;
  if (leaf == NULL || !hak_os_commit(leaf, bytes)) return false;
  spare = NULL;
  hak_os_leave_out_of_core(leaf, bytes);
  atomic_store_explicit(slot, leaf, memory_order_release);  // Release: see hak_chunk_of.
  atomic_fetch_add_explicit(&leaf_bytes, bytes, memory_order_relaxed);
  return true;
}

bool hak_page_map_cover(const void *start, size_t size) {
  const uintptr_t first = (uintptr_t)start >> HAK_LEAF_SHIFT;
  const uintptr_t last = ((uintptr_t)start + size - 1) >> HAK_LEAF_SHIFT;
  if (((uintptr_t)start + size - 1) >> HAK_PAGE_MAP_BITS != 0) return false;
  for (uintptr_t leaf = first; leaf <= last; leaf++) {
    if (!cover_leaf(leaf << HAK_LEAF_SHIFT)) return false;
  }
  return true;
}

struct hak_run *hak_page_map_run(const void *address) {
  const struct hak_chunk *chunk = hak_chunk_of(address);
  return chunk != NULL ? chunk->run[hak_chunk_page(address)] : NULL;
}

void hak_page_map_set_run(void *start, size_t size, struct hak_run *run) {
  char *const last = (char *)start + size - HAK_PAGE_SIZE;
  hak_chunk_of(start)->run[hak_chunk_page(start)] = run;
  hak_chunk_of(last)->run[hak_chunk_page(last)] = run;
}

// ---- Bits ---------------------------------------------------------------------------------------

// The part of a range that lies in one word of bits.
struct part {
  HAK_ATOMIC(uint64_t) * word;
  uint64_t mask;
  char *next;  // where the range continues
};

static struct part part_of(char *start, const char *end) {
  struct hak_chunk *chunk = hak_chunk_of(start);
  const size_t page = hak_chunk_page(start);
  const size_t left = (size_t)(end - start) >> HAK_PAGE_SHIFT;
  const size_t room = 64 - page % 64;
  const size_t count = left < room ? left : room;
  const uint64_t run = count == 64 ? UINT64_MAX : ((uint64_t)1 << count) - 1;
  const struct part part = {
      .word = &chunk->dirty[page / 64], .mask = run << (page % 64), .next = start + (count << HAK_PAGE_SHIFT)};
  return part;
}

// Relaxed: see hak_chunk.
static uint64_t load(const struct part *part) {
  return atomic_load_explicit(part->word, memory_order_relaxed) & part->mask;
}

static uint32_t count_bits(uint64_t word) {
  return hak_popcount((uint32_t)word) + hak_popcount((uint32_t)(word >> 32));
}

size_t hak_page_map_dirty(const void *start, size_t size) {
  char *at = (char *)(uintptr_t)start;
  const char *const end = at + size;
  size_t pages = 0;
  while (at != end) {
    const struct part part = part_of(at, end);
    pages += count_bits(load(&part));
    at = part.next;
  }
  return pages << HAK_PAGE_SHIFT;
}

void hak_page_map_set_dirty(void *start, size_t size, bool dirty) {
  char *at = start;
  const char *const end = at + size;
  while (at != end) {
    const struct part part = part_of(at, end);
    // Relaxed, no read-modify-write: under the lock.
    const uint64_t word = atomic_load_explicit(part.word, memory_order_relaxed);
    const uint64_t now = dirty ? word | part.mask : word & ~part.mask;
    if (now != word) atomic_store_explicit(part.word, now, memory_order_relaxed);
    at = part.next;
  }
}

char *hak_page_map_last_dirty(void *start, size_t size) {
  char *at = (char *)start + size;
  for (; at != start; at -= HAK_PAGE_SIZE) {
    const char *const page = at - HAK_PAGE_SIZE;
    const struct hak_chunk *chunk = hak_chunk_of(page);
    const size_t index = hak_chunk_page(page);
    const uint64_t word = atomic_load_explicit(&chunk->dirty[index / 64], memory_order_relaxed);
    if ((word >> (index % 64) & 1) != 0) break;
    // Skips a whole word of clean pages that lies in the range.
    if (word == 0 && index % 64 == 63 && (size_t)(at - (char *)start) >= 64 * HAK_PAGE_SIZE) at -= 63 * HAK_PAGE_SIZE;
  }
  return at;
}

void hak_page_map_clear(void *start, size_t size) {
  char *at = (char *)((uintptr_t)start & ~(HAK_PAGE_SIZE - 1));
  char *const begin = start;
  char *const end = begin + size;
  const char *const pages_end = at + hak_round_up((size_t)(end - at), HAK_PAGE_SIZE);
  while (at != pages_end) {
    const struct part part = part_of(at, pages_end);
    uint64_t bits = load(&part) >> (hak_chunk_page(at) % 64);
    for (char *page = at; bits != 0; bits >>= 1, page += HAK_PAGE_SIZE) {
      if ((bits & 1) == 0) continue;
      char *const from = page > begin ? page : begin;
      char *const to = page + HAK_PAGE_SIZE < end ? page + HAK_PAGE_SIZE : end;
      if (from < to) memset(from, 0, (size_t)(to - from));
    }
    at = part.next;
  }
}
