// SPDX-License-Identifier: Apache-2.0
//
// The chunks whose pages hold records, and the return of their free pages.
#include "allocator/meta/meta_pages.h"

#include "allocator/os/decommit.h"
#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/policy/memory_limit.h"

#define CHUNK HAK_META_CHUNK
#define PAGES 64u
static_assert(CHUNK == PAGES * HAK_META_PAGE, "a bit for each page");
// No page of the chunk is free, so it is on no list.
#define NO_ORDER HAK_META_ORDERS

// Stands at the chunk's start.
struct chunk {
  // A bit for each page.
  uint64_t free;
  uint64_t dirty;  // may hold something other than zero; includes all pages in use
  uint64_t gone;   // their memory was returned, and they were not used since
  // The list of chunks whose largest free run has the same order.
  struct chunk *next;
  struct chunk *prev;
  // The queue of chunks with memory that can be returned, in the order of idle_since_ms.
  struct chunk *queue_next;
  uint64_t idle_since_ms;
  uint32_t order;
  uint32_t epoch;
  bool queued;
  uint64_t bits[PAGES];
};
static_assert(sizeof(struct chunk) <= HAK_META_CHUNK_HEAD, "the head has its place");

struct hak_lock hak_records_lock = HAK_LOCK_INIT(HAK_RANK_META);

static struct {
  struct chunk *lists[HAK_META_ORDERS];
  struct chunk *queue_first;
  struct chunk *queue_last;
  uint64_t mapped;
  uint64_t gone;  // the number of such pages in all chunks
  struct hak_meta_loan loan;
  uint32_t epoch;  // chunks of an earlier epoch are on no list and not counted, except in `mapped` and `gone`
} pages HAK_GUARDED_BY(hak_records_lock);
// The number of pages whose memory can be returned. Relaxed: written under the lock, a hint elsewhere.
static HAK_ATOMIC(uint64_t) idle_pages;

static uint32_t count_of(uint64_t mask) { return (uint32_t)__builtin_popcountll(mask); }
static uint64_t first_pages(uint32_t count) { return count < PAGES ? ((uint64_t)1 << count) - 1 : ~(uint64_t)0; }
static struct chunk *chunk_of(const void *inside) {
  return (struct chunk *)((uintptr_t)inside & ~(uintptr_t)(CHUNK - 1));
}
static uint32_t page_of(const void *inside) {
  return (uint32_t)(((uintptr_t)inside & (CHUNK - 1)) >> HAK_META_PAGE_SHIFT);
}
static char *address_of(struct chunk *chunk, uint32_t page) { return (char *)chunk + page * HAK_META_PAGE; }

// A bit for the first page of each free run of 1 << order pages at a multiple of its size.
static uint64_t runs_of(uint64_t free, uint32_t order) {
  static const uint64_t multiples[HAK_META_ORDERS] = {
      0xFFFFFFFFFFFFFFFFu, 0x5555555555555555u, 0x1111111111111111u,
      0x0101010101010101u, 0x0001000100010001u, 0x0000000100000001u,
  };
  uint64_t runs = free;
  for (uint32_t step = 0; step < order; step++) runs &= runs >> (1u << step);
  return runs & multiples[order];
}

static uint32_t largest_order(uint64_t free) {
  if (free == 0) return NO_ORDER;
  uint32_t order = 0;
  while (order + 1 < HAK_META_ORDERS && runs_of(free, order + 1) != 0) order++;
  return order;
}

static void unlink_chunk(struct chunk *chunk) HAK_REQUIRES(hak_records_lock) {
  if (chunk->order == NO_ORDER) return;
  if (chunk->next != NULL) chunk->next->prev = chunk->prev;
  if (chunk->prev != NULL) {
    chunk->prev->next = chunk->next;
  } else {
    pages.lists[chunk->order] = chunk->next;
  }
}

static void link_chunk(struct chunk *chunk, uint32_t order) HAK_REQUIRES(hak_records_lock) {
  chunk->order = order;
  if (order == NO_ORDER) return;
  chunk->prev = NULL;
  chunk->next = pages.lists[order];
  if (chunk->next != NULL) chunk->next->prev = chunk;
  pages.lists[order] = chunk;
}

// The pages whose memory can be returned: whole pages of the system that are free and at least partly dirty.
static uint64_t releasable(uint64_t free, uint64_t dirty) {
  const uint32_t unit = (uint32_t)(hak_os_page_size() / HAK_META_PAGE);
  if (HAK_LIKELY(unit <= 1)) return free & dirty;
  uint64_t found = 0;
  for (uint32_t first = 0; first + unit <= PAGES; first += unit) {
    const uint64_t whole = first_pages(unit) << first;
    if ((free & whole) == whole && (dirty & whole) != 0) found |= whole;
  }
  return found;
}

// The only place that changes masks.
static HAK_NOINLINE void set_masks(struct chunk *chunk, uint64_t free, uint64_t dirty) HAK_REQUIRES(hak_records_lock) {
  const uint64_t idle = atomic_load_explicit(&idle_pages, memory_order_relaxed);
  const uint64_t others = idle - count_of(releasable(chunk->free, chunk->dirty));
  atomic_store_explicit(&idle_pages, others + count_of(releasable(free, dirty)), memory_order_relaxed);
  const uint32_t come = count_of(chunk->gone & dirty);
  const uint32_t went = count_of(chunk->dirty & ~dirty);
  if (come != 0) hak_commit_add(come * HAK_META_PAGE);
  if (went != 0) hak_commit_sub(went * HAK_META_PAGE);
  pages.gone = pages.gone + went - come;
  chunk->gone = (chunk->gone & ~dirty) | (chunk->dirty & ~dirty);
  chunk->free = free;
  chunk->dirty = dirty;
  const uint32_t order = largest_order(free);
  if (order == chunk->order) return;
  unlink_chunk(chunk);
  link_chunk(chunk, order);
}

static HAK_COLD struct chunk *make_chunk(void) HAK_REQUIRES(hak_records_lock) {
  struct chunk *chunk = hak_os_map(CHUNK, CHUNK);
  if (chunk == NULL) return NULL;
  // A system with huge pages by default would fill pages again whose memory was returned.
  if (hak_os_huge_by_default()) hak_os_advise_huge(chunk, CHUNK, false);
  pages.mapped += CHUNK;
  hak_commit_add(CHUNK);
  chunk->order = NO_ORDER;
  chunk->epoch = pages.epoch;
  set_masks(chunk, ~(uint64_t)1, 1);
  return chunk;
}

void *hak_meta_pages_take(uint32_t order, bool *zero, char **rest) {
  *rest = NULL;
  struct chunk *chunk = NULL;
  // From the chunks whose largest free run is the smallest that suffices.
  for (uint32_t larger = order; larger < HAK_META_ORDERS && chunk == NULL; larger++) chunk = pages.lists[larger];
  if (chunk == NULL) {
    chunk = make_chunk();
    if (chunk == NULL) return NULL;
    *rest = (char *)chunk + HAK_META_CHUNK_HEAD;
  }
  uint64_t runs = runs_of(chunk->free & chunk->dirty, order);
  if (runs == 0) runs = runs_of(chunk->free, order);
  const uint32_t first = (uint32_t)__builtin_ctzll(runs);
  const uint64_t run = first_pages(1u << order) << first;
  *zero = (chunk->dirty & run) == 0;
  set_masks(chunk, chunk->free & ~run, chunk->dirty | run);
  return address_of(chunk, first);
}

static HAK_NOINLINE void enqueue(struct chunk *chunk, uint64_t now) HAK_REQUIRES(hak_records_lock) {
  if (chunk->queued || releasable(chunk->free, chunk->dirty) == 0) return;
  chunk->queued = true;
  chunk->idle_since_ms = now;
  chunk->queue_next = NULL;
  if (pages.queue_last != NULL) {
    pages.queue_last->queue_next = chunk;
  } else {
    pages.queue_first = chunk;
  }
  pages.queue_last = chunk;
}

HAK_COLD void hak_meta_pages_start_anew(void) {
  for (uint32_t order = 0; order < HAK_META_ORDERS; order++) pages.lists[order] = NULL;
  pages.queue_first = pages.queue_last = NULL;
  pages.loan.chunk = NULL;
  pages.epoch++;
  atomic_store_explicit(&idle_pages, 0, memory_order_relaxed);
}

bool hak_meta_pages_are_known(const void *record) { return chunk_of(record)->epoch == pages.epoch; }

void hak_meta_pages_give(void *run, uint32_t order) {
  struct chunk *chunk = chunk_of(run);
  if (HAK_UNLIKELY(chunk->epoch != pages.epoch)) return;
  set_masks(chunk, chunk->free | first_pages(1u << order) << page_of(run), chunk->dirty);
  if (!chunk->queued) enqueue(chunk, hak_os_now_ms());
}

uint64_t *hak_meta_page_bits(const void *record) { return &chunk_of(record)->bits[page_of(record)]; }

uint64_t hak_meta_pages_mapped(void) { return pages.mapped; }
uint64_t hak_meta_pages_committed(void) { return pages.mapped - pages.gone * HAK_META_PAGE; }
uint64_t hak_meta_pages_idle_bytes(void) {
  return atomic_load_explicit(&idle_pages, memory_order_relaxed) * HAK_META_PAGE;
}

// ---- Returning memory ---------------------------------------------------------------------------

// The address of a thread-local variable identifies the thread, also after a fork.
static const void *this_thread(void) { return &hak_locks_held; }

HAK_COLD struct hak_meta_loan *hak_meta_pages_lend(uint64_t until, uint64_t now) {
  struct chunk *chunk = pages.queue_first;
  if (chunk == NULL || chunk->idle_since_ms > until || pages.loan.chunk != NULL) return NULL;
  pages.queue_first = chunk->queue_next;
  if (pages.queue_first == NULL) pages.queue_last = NULL;
  chunk->queued = false;
  const uint64_t lent = releasable(chunk->free, chunk->dirty);
  set_masks(chunk, chunk->free & ~lent, chunk->dirty);
  enqueue(chunk, now);
  pages.loan = (struct hak_meta_loan){.chunk = chunk, .pages = lent, .thread = this_thread()};
  return &pages.loan;
}

HAK_COLD void hak_meta_pages_decommit(struct hak_meta_loan *loan) {
  for (uint64_t left = loan->pages; left != 0;) {
    const uint32_t first = (uint32_t)__builtin_ctzll(left);
    const uint64_t behind = ~(left >> first);
    const uint32_t count = behind == 0 ? PAGES : (uint32_t)__builtin_ctzll(behind);
    const uint64_t run = first_pages(count) << first;
    left &= ~run;
    if (hak_os_decommit_to_zero(address_of(loan->chunk, first), count * HAK_META_PAGE)) loan->gone |= run;
  }
}

HAK_COLD size_t hak_meta_pages_return(struct hak_meta_loan *loan, uint64_t now) {
  struct chunk *chunk = loan->chunk;
  const size_t bytes = count_of(chunk->dirty & loan->gone) * HAK_META_PAGE;
  set_masks(chunk, chunk->free | loan->pages, chunk->dirty & ~loan->gone);
  loan->chunk = NULL;
  enqueue(chunk, now);
  return bytes;
}

HAK_COLD void hak_meta_pages_forked(void) {
  struct hak_meta_loan *loan = &pages.loan;
  if (loan->chunk == NULL || loan->thread == this_thread()) return;
  loan->gone = 0;  // Some pages may have been returned; they count as dirty.
  hak_meta_pages_return(loan, hak_os_now_ms());
}
