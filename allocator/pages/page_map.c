// SPDX-License-Identifier: Apache-2.0
//
// The page map: leaves, the chunks that are in runs, and the dirty bits of pages.
#include "allocator/pages/page_map.h"

#include <string.h>

#include "allocator/os/decommit.h"
#include "allocator/os/os.h"

HAK_ATOMIC(struct hak_branch *) hak_page_map_root[HAK_ROOT_BRANCHES];

static HAK_ATOMIC(uint64_t) reserved_bytes;
// Relaxed: a statistic.
uint64_t hak_page_map_bytes(void) { return atomic_load_explicit(&reserved_bytes, memory_order_relaxed); }

// All leaves with records.
static struct hak_leaf *leaves HAK_GUARDED_BY(hak_mapping_mutex);
// The sum of hak_leaf.idle.
static uint32_t idle_chunks HAK_GUARDED_BY(hak_mapping_mutex);

// ---- Leaves -------------------------------------------------------------------------------------

// Reservations that could not be made writable; NULL: there is none.
static void *spare_branch HAK_GUARDED_BY(hak_mapping_mutex);
static void *spare_records HAK_GUARDED_BY(hak_mapping_mutex);

// Reserves records of `bytes` bytes, which read as zero. NULL: out of memory.
static void *reserve(void **spare, size_t bytes) {
  const size_t size = hak_round_up(bytes, hak_os_page_size());
  if (*spare == NULL) *spare = hak_os_reserve(size);
  if (*spare == NULL || !hak_os_commit(*spare, size)) return NULL;
  void *const memory = *spare;
  *spare = NULL;
  hak_os_leave_out_of_core(memory, size);
  // One touch must not take 2 MiB, and what is returned must not be filled again.
  if (hak_os_huge_by_default()) hak_os_advise_huge(memory, size, false);
  atomic_fetch_add_explicit(&reserved_bytes, size, memory_order_relaxed);  // Relaxed: a statistic.
  return memory;
}

static bool cover_leaf(uintptr_t at) HAK_REQUIRES(hak_mapping_mutex) {
  HAK_ATOMIC(struct hak_branch *) *root = &hak_page_map_root[at >> HAK_BRANCH_SHIFT];
  // Relaxed, both: written under this lock.
  struct hak_branch *branch = atomic_load_explicit(root, memory_order_relaxed);
  if (branch == NULL) {
    branch = reserve(&spare_branch, sizeof *branch);
    if (branch == NULL) return false;
    atomic_store_explicit(root, branch, memory_order_release);  // Release: see hak_leaf_of.
  }
  struct hak_leaf *leaf = &branch->leaves[(at >> HAK_LEAF_SHIFT) & (HAK_BRANCH_LEAVES - 1)];
  if (atomic_load_explicit(&leaf->records, memory_order_relaxed) != NULL) return true;
  struct hak_page_records *records = reserve(&spare_records, sizeof *records);
  if (records == NULL) return false;
  leaf->next = leaves;
  leaves = leaf;
  atomic_store_explicit(&leaf->records, records, memory_order_release);  // Release: see hak_page_records_of.
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

// The leaf of an address that is covered. Relaxed: under the lock, or by the holder of a block in the leaf.
static struct hak_leaf *covered_leaf(const char *address) {
  const uintptr_t at = (uintptr_t)address;
  struct hak_branch *branch = atomic_load_explicit(&hak_page_map_root[at >> HAK_BRANCH_SHIFT], memory_order_relaxed);
  return &branch->leaves[(at >> HAK_LEAF_SHIFT) & (HAK_BRANCH_LEAVES - 1)];
}
// Its records. Relaxed: likewise.
static struct hak_page_records *records_of(const struct hak_leaf *leaf) {
  return atomic_load_explicit(&leaf->records, memory_order_relaxed);
}

// The part of a range that lies in one leaf: pages from `first` to before `end` of the leaf.
struct part {
  struct hak_leaf *leaf;
  size_t first;
  size_t end;
};
// The part in which the range that ends at `end` begins.
static struct part part_of(const char *start, const char *end) {
  const size_t first = hak_leaf_page(start);
  const size_t left = (size_t)(end - start) >> HAK_PAGE_SHIFT;
  const size_t room = HAK_LEAF_PAGES - first;
  return (struct part){.leaf = covered_leaf(start), .first = first, .end = first + (left < room ? left : room)};
}
static const char *behind(const struct part *part, const char *start) {
  return start + ((part->end - part->first) << HAK_PAGE_SHIFT);
}

// ---- Runs and chunks ----------------------------------------------------------------------------

// The bits of hak_chunk.pages.
#define PAGES_MASK 0x3ffu

static void add_idle(struct hak_leaf *leaf, int change) HAK_REQUIRES(hak_mapping_mutex) {
  leaf->idle = (uint16_t)(leaf->idle + change);
  idle_chunks += (uint32_t)change;
}

HAK_INLINE void set_run(struct hak_leaf *leaf, size_t page, struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_chunk *chunk = &leaf->chunks[page / HAK_CHUNK_PAGES];
  if (HAK_UNLIKELY(!chunk->written)) {
    chunk->written = true;
    if (chunk->pages == 0) add_idle(leaf, 1);
  }
  // Relaxed: under the lock.
  atomic_store_explicit(&records_of(leaf)->entry[page], (uint64_t)(uintptr_t)run, memory_order_relaxed);
}

void hak_page_map_set_run(void *start, size_t size, struct hak_run *run) {
  struct hak_leaf *leaf = covered_leaf(start);
  const size_t first = hak_leaf_page(start);
  const size_t last = first + (size >> HAK_PAGE_SHIFT) - 1;
  set_run(leaf, first, run);
  if (HAK_UNLIKELY(last >= HAK_LEAF_PAGES)) leaf = covered_leaf((char *)start + size - HAK_PAGE_SIZE);
  set_run(leaf, last % HAK_LEAF_PAGES, run);
}

// Whether some page of the leaf may have a dirty bit. Relaxed: see hak_leaf.
static bool has_bits(const struct hak_leaf *leaf) {
  return atomic_load_explicit(&leaf->has_bits, memory_order_relaxed);
}

// The bits of a leaf are idle when it has no run.
static void count_bits_of(struct hak_leaf *leaf) HAK_REQUIRES(hak_mapping_mutex) {
  const bool is_idle = leaf->covered == 0 && has_bits(leaf);
  if (is_idle == leaf->bits_idle) return;
  add_idle(leaf, is_idle ? 1 : -1);
  leaf->bits_idle = is_idle;
}

// Counts pages of a chunk in or out.
static void count_chunk(struct hak_leaf *leaf, struct hak_chunk *chunk, size_t pages, bool in)
    HAK_REQUIRES(hak_mapping_mutex) {
  const bool was_covered = chunk->pages != 0;
  chunk->pages = (in ? chunk->pages + pages : chunk->pages - pages) & PAGES_MASK;
  const bool is_covered = chunk->pages != 0;
  if (is_covered == was_covered) return;
  leaf->covered = (uint16_t)(leaf->covered + (in ? 1 : -1));
  if (chunk->written) add_idle(leaf, in ? -1 : 1);
}

static void count(const char *start, size_t size, bool in) HAK_REQUIRES(hak_mapping_mutex) {
  const char *const end = start + size;
  while (start != end) {
    const struct part part = part_of(start, end);
    start = behind(&part, start);
    for (size_t page = part.first; page != part.end;) {
      const size_t chunk = page / HAK_CHUNK_PAGES;
      const size_t next = (chunk + 1) * HAK_CHUNK_PAGES < part.end ? (chunk + 1) * HAK_CHUNK_PAGES : part.end;
      count_chunk(part.leaf, &part.leaf->chunks[chunk], next - page, in);
      page = next;
    }
    count_bits_of(part.leaf);
  }
}

void hak_page_map_enter(const char *start, size_t size) { count(start, size, true); }
void hak_page_map_leave(const char *start, size_t size) { count(start, size, false); }

HAK_COLD void hak_page_map_start_anew(void) {
  idle_chunks = 0;
  for (struct hak_leaf *leaf = leaves; leaf != NULL; leaf = leaf->next) {
    leaf->covered = leaf->idle = 0;
    leaf->bits_idle = false;
    for (size_t i = 0; i < HAK_LEAF_CHUNKS; i++) {
      leaf->chunks[i].pages = 0;
      if (leaf->chunks[i].written) add_idle(leaf, 1);
    }
    count_bits_of(leaf);
  }
}

uint64_t hak_page_map_entered(void) {
  uint64_t pages = 0;
  uint32_t all_idle = 0;
  for (const struct hak_leaf *leaf = leaves; leaf != NULL; leaf = leaf->next) {
    uint32_t covered = 0;
    uint32_t idle = leaf->bits_idle;
    for (size_t i = 0; i < HAK_LEAF_CHUNKS; i++) {
      const struct hak_chunk *chunk = &leaf->chunks[i];
      pages += chunk->pages;
      covered += chunk->pages != 0;
      idle += chunk->pages == 0 && chunk->written;
    }
    if (covered != leaf->covered || idle != leaf->idle) return UINT64_MAX;
    all_idle += idle;
  }
  return all_idle == idle_chunks ? pages << HAK_PAGE_SHIFT : UINT64_MAX;
}

// ---- Returning records --------------------------------------------------------------------------

// The most chunks that were written to whose records one call returns: about 320 KiB.
#define RETURN_CHUNKS 64u

// Chunks of a leaf that are next to each other and in no run.
struct gap {
  size_t first;
  size_t end;
  uint32_t written;
};

// A gap with the first chunk of the leaf that is idle. It ends early if many chunks in it were written to.
static struct gap find_gap(const struct hak_leaf *leaf) {
  const struct hak_chunk *chunks = leaf->chunks;
  struct gap gap = {.first = 0};
  while (chunks[gap.end].pages != 0 || !chunks[gap.end].written) {
    gap.end++;
    if (chunks[gap.end - 1].pages != 0) gap.first = gap.end;
  }
  for (; gap.end < HAK_LEAF_CHUNKS && chunks[gap.end].pages == 0 && gap.written < RETURN_CHUNKS; gap.end++) {
    gap.written += chunks[gap.end].written;
  }
  return gap;
}

// Returns the whole pages of [start, end).
static bool return_pages(const void *start, const void *end) {
  const uintptr_t page = hak_os_page_size();
  const uintptr_t first = hak_round_up((uintptr_t)start, page);
  const uintptr_t last = (uintptr_t)end & ~(page - 1);
  return first >= last || hak_os_decommit((void *)first, last - first, HAK_DECOMMIT_DONTNEED);
}

static bool return_gap(struct hak_leaf *leaf) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_page_records *records = records_of(leaf);
  const struct gap gap = find_gap(leaf);
  const size_t first = gap.first * HAK_CHUNK_PAGES;
  const size_t end = gap.end * HAK_CHUNK_PAGES;
  if (!return_pages(&records->entry[first], &records->entry[end])) return false;
  for (size_t i = gap.first; i < gap.end; i++) leaf->chunks[i].written = false;
  add_idle(leaf, -(int)gap.written);
  return true;
}

// Returns all records of a leaf without a run.
static bool return_leaf(struct hak_leaf *leaf) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_page_records *records = records_of(leaf);
  const size_t bytes = hak_round_up(sizeof *records, hak_os_page_size());
  if (!hak_os_decommit(records, bytes, HAK_DECOMMIT_DONTNEED)) return false;
  for (size_t i = 0; i < HAK_LEAF_CHUNKS; i++) leaf->chunks[i].written = false;
  atomic_store_explicit(&leaf->has_bits, false, memory_order_relaxed);  // Relaxed: see hak_leaf.
  leaf->bits_idle = false;
  add_idle(leaf, -(int)leaf->idle);
  return true;
}

bool hak_page_map_return_idle(uint32_t keep) {
  if (HAK_LIKELY(idle_chunks <= keep)) return false;
  struct hak_leaf *leaf = leaves;
  while (leaf->idle == 0) leaf = leaf->next;
  return leaf->covered == 0 && leaf->idle <= RETURN_CHUNKS ? return_leaf(leaf) : return_gap(leaf);
}

// ---- Bits ---------------------------------------------------------------------------------------

// The bits of pages from `page` to before `end` in the word of `page`.
static uint64_t mask_of(size_t page, size_t end) {
  const uint64_t from = UINT64_MAX << (page % 64);
  return end >= (page | 63) + 1 ? from : from & ~(UINT64_MAX << (end % 64));
}
static size_t next_word(size_t page, size_t end) {
  const size_t next = (page | 63) + 1;
  return next < end ? next : end;
}

// Relaxed: see hak_page_records.
static uint64_t load(const struct hak_page_records *records, size_t page, size_t end) {
  return atomic_load_explicit(&records->dirty[page / 64], memory_order_relaxed) & mask_of(page, end);
}

static uint32_t count_bits(uint64_t word) {
  if (word == 0) return 0;
  return hak_popcount((uint32_t)word) + hak_popcount((uint32_t)(word >> 32));
}

size_t hak_page_map_dirty(const void *start, size_t size) {
  const char *at = start;
  const char *const end = at + size;
  size_t pages = 0;
  while (at != end) {
    const struct part part = part_of(at, end);
    at = behind(&part, at);
    if (!has_bits(part.leaf)) continue;
    const struct hak_page_records *records = records_of(part.leaf);
    for (size_t page = part.first; page != part.end; page = next_word(page, part.end)) {
      pages += count_bits(load(records, page, part.end));
    }
  }
  return pages << HAK_PAGE_SHIFT;
}

void hak_page_map_set_dirty(void *start, size_t size, bool dirty) {
  const char *at = start;
  const char *const end = at + size;
  while (at != end) {
    const struct part part = part_of(at, end);
    at = behind(&part, at);
    if (dirty) {
      atomic_store_explicit(&part.leaf->has_bits, true, memory_order_relaxed);  // Relaxed: see hak_leaf.
    } else if (!has_bits(part.leaf)) {
      continue;
    }
    struct hak_page_records *records = records_of(part.leaf);
    for (size_t page = part.first; page != part.end; page = next_word(page, part.end)) {
      HAK_ATOMIC(uint64_t) *at_word = &records->dirty[page / 64];
      // Relaxed, no read-modify-write: under the lock.
      const uint64_t word = atomic_load_explicit(at_word, memory_order_relaxed);
      const uint64_t mask = mask_of(page, part.end);
      const uint64_t now = dirty ? word | mask : word & ~mask;
      if (now != word) atomic_store_explicit(at_word, now, memory_order_relaxed);
    }
  }
}

// The end of the last page of the part with a dirty bit; `first`: there is none.
static size_t last_of(const struct part *part) {
  const struct hak_page_records *records = records_of(part->leaf);
  size_t end = has_bits(part->leaf) ? part->end : part->first;
  while (end != part->first) {
    const size_t from = (end - 1) & ~(size_t)63;
    const size_t page = from > part->first ? from : part->first;
    const uint64_t word = load(records, page, end);
    if (word != 0) return from + 64 - (size_t)__builtin_clzll(word);
    end = page;
  }
  return end;
}

char *hak_page_map_last_dirty(void *start, size_t size) {
  char *const begin = start;
  char *at = begin + size;
  while (at != begin) {
    const size_t end = hak_leaf_page(at - 1) + 1;
    const size_t pages = (size_t)(at - begin) >> HAK_PAGE_SHIFT;
    const struct part part = {.leaf = covered_leaf(at - 1), .first = pages < end ? end - pages : 0, .end = end};
    const size_t last = last_of(&part);
    at -= (end - last) << HAK_PAGE_SHIFT;
    if (last != part.first) break;
  }
  return at;
}

// Clears the pages of `word`, whose lowest bit is the page at `page`, as far as they lie in [start, end).
static void clear_word(uint64_t word, char *page, char *start, char *end) {
  for (; word != 0; word >>= 1, page += HAK_PAGE_SIZE) {
    if ((word & 1) == 0) continue;
    char *const from = page > start ? page : start;
    char *const to = page + HAK_PAGE_SIZE < end ? page + HAK_PAGE_SIZE : end;
    if (from < to) memset(from, 0, (size_t)(to - from));
  }
}

void hak_page_map_clear(void *start, size_t size) {
  char *const begin = start;
  char *const end = begin + size;
  char *at = (char *)((uintptr_t)start & ~(HAK_PAGE_SIZE - 1));
  const char *const pages_end = at + hak_round_up((size_t)(end - at), HAK_PAGE_SIZE);
  while (at != pages_end) {
    const struct part part = part_of(at, pages_end);
    for (size_t page = part.first; has_bits(part.leaf) && page != part.end; page = next_word(page, part.end)) {
      char *const first = at + ((page - part.first) << HAK_PAGE_SHIFT);
      clear_word(load(records_of(part.leaf), page, part.end) >> (page % 64), first, begin, end);
    }
    at += (part.end - part.first) << HAK_PAGE_SHIFT;
  }
}
