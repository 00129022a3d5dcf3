// SPDX-License-Identifier: Apache-2.0
//
// Records: small ones by a buddy system within pages, large ones in mappings of their own.
#include "allocator/meta/meta.h"

#include "allocator/meta/meta_pages.h"
#include "allocator/os/bytes.h"
#include "allocator/os/decommit.h"
#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/policy/refusal.h"

#define MIN_SHIFT 6u
#define PAGE_SHIFT HAK_META_PAGE_SHIFT
// Records of this size or more have mappings of their own, and are reused by size.
#define BIG_SHIFT (PAGE_SHIFT + HAK_META_ORDERS)
#define SHIFTS 40u
// Free pages that keep their memory until a trim, because threads come and go.
#define KEEP_BYTES ((uint64_t)256 * 1024)
// The most chunks that a tick tries until one returns memory.
#define TRIES 8u

// How many free records of each size below a page are kept ready outside the buddy system. A thread that ends frees
// about forty, and the next thread takes them.
#define READY 64u

// Stands at the start of a free record. A bit of its page tells that a free record begins there, so the contents of
// used records are never read.
struct free_record {
  struct free_record *next;
  struct free_record *prev;
  uint32_t shift;
};
static_assert(sizeof(struct free_record) <= (size_t)1 << MIN_SHIFT, "the smallest record has room for it");

// Invariant: two records that are the halves of a larger one are never both on the lists.
static struct {
  struct free_record *records[PAGE_SHIFT];
  struct free_record *big[SHIFTS];
  uint64_t big_mapped;
  struct {
    uint32_t count;
    char *records[READY];
  } ready[PAGE_SHIFT];
  uint64_t ready_ms;  // when the ready records were put back last
} meta HAK_GUARDED_BY(hak_records_lock);
// Bytes of resting records. Relaxed: a statistic.
static HAK_ATOMIC(uint64_t) resting_bytes;

// ---- Locking ------------------------------------------------------------------------------------

// In a child that was created without fork handlers, the thread that held the lock does not exist. Records in use stay;
// free ones are lost, because their lists may be half changed.
static HAK_COLD void start_anew(void) HAK_REQUIRES(hak_records_lock) {
  const uint64_t big_mapped = meta.big_mapped;
  hak_bytes_fill(&meta, 0, sizeof meta);
  meta.big_mapped = big_mapped;
  hak_meta_pages_start_anew();
}

static void lock(void) HAK_ACQUIRE(hak_records_lock) {
  hak_lock_acquire(&hak_records_lock);
  if (HAK_UNLIKELY(hak_lock_was_orphaned(&hak_records_lock))) start_anew();
}

static uint32_t shift_for(size_t size) {
  if (size <= (size_t)1 << MIN_SHIFT) return MIN_SHIFT;
  return 64u - (uint32_t)__builtin_clzll(size - 1);
}

size_t hak_meta_usable(size_t size) { return (size_t)1 << shift_for(size); }

// ---- Records below a page -----------------------------------------------------------------------

static uint64_t bit_of(const void *record) {
  return (uint64_t)1 << (((uintptr_t)record & (HAK_META_PAGE - 1)) >> MIN_SHIFT);
}

static HAK_NOINLINE void push_record(char *record, uint32_t shift) HAK_REQUIRES(hak_records_lock) {
  struct free_record *entry = (struct free_record *)(void *)record;
  *entry = (struct free_record){.next = meta.records[shift], .prev = NULL, .shift = shift};
  if (entry->next != NULL) entry->next->prev = entry;
  meta.records[shift] = entry;
  *hak_meta_page_bits(record) |= bit_of(record);
}

static HAK_NOINLINE void remove_record(struct free_record *entry) HAK_REQUIRES(hak_records_lock) {
  if (entry->next != NULL) entry->next->prev = entry->prev;
  if (entry->prev != NULL) {
    entry->prev->next = entry->next;
  } else {
    meta.records[entry->shift] = entry->next;
  }
  *hak_meta_page_bits(entry) &= ~bit_of(entry);
}

// Adds the rest of a new chunk's first page as free records, each as large as its alignment allows.
static HAK_COLD void push_rest(char *rest) HAK_REQUIRES(hak_records_lock) {
  for (uint32_t shift = MIN_SHIFT; rest != NULL && ((uintptr_t)rest & (HAK_META_PAGE - 1)) != 0; shift++) {
    if (((uintptr_t)rest >> shift & 1) == 0) continue;
    push_record(rest, shift);
    rest += (size_t)1 << shift;
  }
}

static char *take_page_run(uint32_t order, bool *zero) HAK_REQUIRES(hak_records_lock) {
  char *rest;
  char *run = hak_meta_pages_take(order, zero, &rest);
  push_rest(rest);
  return run;
}

static HAK_NOINLINE char *take_record(uint32_t shift) HAK_REQUIRES(hak_records_lock) {
  uint32_t larger = shift;
  while (larger < PAGE_SHIFT && meta.records[larger] == NULL) larger++;
  char *record;
  if (larger < PAGE_SHIFT) {
    record = (char *)meta.records[larger];
    remove_record(meta.records[larger]);
  } else {
    bool zero;
    record = take_page_run(0, &zero);
    if (record == NULL) return NULL;
  }
  while (larger > shift) {
    larger--;
    push_record(record + ((size_t)1 << larger), larger);
  }
  return record;
}

static HAK_NOINLINE void give_record(char *record, uint32_t shift) HAK_REQUIRES(hak_records_lock) {
  if (HAK_UNLIKELY(!hak_meta_pages_are_known(record))) return;
  for (; shift < PAGE_SHIFT; shift++) {
    char *other = (char *)((uintptr_t)record ^ (uintptr_t)1 << shift);
    struct free_record *entry = (struct free_record *)(void *)other;
    if ((*hak_meta_page_bits(other) & bit_of(other)) == 0 || entry->shift != shift) break;
    remove_record(entry);
    if (other < record) record = other;
  }
  if (shift < PAGE_SHIFT) {
    push_record(record, shift);
  } else {
    hak_meta_pages_give(record, 0);
  }
}

static char *take_small(uint32_t shift) HAK_REQUIRES(hak_records_lock) {
  return meta.ready[shift].count != 0 ? meta.ready[shift].records[--meta.ready[shift].count] : take_record(shift);
}

static void give_small(char *record, uint32_t shift) HAK_REQUIRES(hak_records_lock) {
  if (meta.ready[shift].count < READY) {
    meta.ready[shift].records[meta.ready[shift].count++] = record;
  } else {
    give_record(record, shift);
  }
}

// Ready records keep pages in use that would be free otherwise.
static HAK_COLD void put_ready_back(void) HAK_REQUIRES(hak_records_lock) {
  for (uint32_t shift = MIN_SHIFT; shift < PAGE_SHIFT; shift++) {
    while (meta.ready[shift].count != 0) give_record(take_small(shift), shift);
  }
}

// ---- Records with a mapping of their own --------------------------------------------------------

static HAK_COLD char *take_big(uint32_t shift, bool *zero) HAK_REQUIRES(hak_records_lock) {
  struct free_record *record = meta.big[shift];
  *zero = record == NULL;
  if (record != NULL) {
    meta.big[shift] = record->next;
    return (char *)record;
  }
  const size_t bytes = hak_round_up((size_t)1 << shift, hak_os_page_size());
  char *start = hak_os_map(bytes, hak_os_page_size());
  if (start == NULL) return NULL;
  meta.big_mapped += bytes;
  hak_commit_add(bytes);
  return start;
}

static HAK_COLD void give_big(void *record, uint32_t shift) HAK_REQUIRES(hak_records_lock) {
  struct free_record *entry = record;
  entry->next = meta.big[shift];
  meta.big[shift] = entry;
}

// ---- Records of any size ------------------------------------------------------------------------

void *hak_meta_alloc(size_t size) {
  const uint32_t shift = shift_for(size);
  if (shift >= SHIFTS) return NULL;
  bool zero = false;
  char *record;
  lock();
  if (shift < PAGE_SHIFT) {
    record = take_small(shift);
  } else if (shift < BIG_SHIFT) {
    record = take_page_run(shift - PAGE_SHIFT, &zero);
  } else {
    record = take_big(shift, &zero);
  }
  hak_lock_release(&hak_records_lock);
  if (record != NULL && !zero) hak_bytes_fill(record, 0, (size_t)1 << shift);
  return record;
}

void hak_meta_free(void *record, size_t size) {
  const uint32_t shift = shift_for(size);
  lock();
  if (shift < PAGE_SHIFT) {
    give_small(record, shift);
  } else if (shift < BIG_SHIFT) {
    hak_meta_pages_give(record, shift - PAGE_SHIFT);
  } else {
    give_big(record, shift);
  }
  hak_lock_release(&hak_records_lock);
}

uint64_t hak_meta_mapped(void) {
  lock();
  const uint64_t mapped = hak_meta_pages_mapped() + meta.big_mapped;
  hak_lock_release(&hak_records_lock);
  return mapped;
}

uint64_t hak_meta_committed(void) {
  lock();
  const uint64_t committed = hak_meta_pages_committed() + meta.big_mapped;
  hak_lock_release(&hak_records_lock);
  const uint64_t resting = atomic_load_explicit(&resting_bytes, memory_order_relaxed);
  return committed > resting ? committed - resting : 0;
}

// ---- Returning memory ---------------------------------------------------------------------------

static struct hak_refusal refusal;

static size_t whole_pages(size_t size) { return hak_round_up(size, hak_os_page_size()); }

bool hak_meta_can_rest(size_t size) { return whole_pages(size) <= hak_meta_usable(size); }

HAK_COLD bool hak_meta_rest(void *record, size_t size) {
  if (!hak_meta_can_rest(size) || !hak_os_decommit_to_zero(record, whole_pages(size))) return false;
  hak_commit_sub(whole_pages(size));
  atomic_fetch_add_explicit(&resting_bytes, whole_pages(size), memory_order_relaxed);
  return true;
}

HAK_COLD void hak_meta_wake(size_t size) {
  hak_commit_add(whole_pages(size));
  atomic_fetch_sub_explicit(&resting_bytes, whole_pages(size), memory_order_relaxed);
}

uint64_t hak_meta_idle_bytes(void) {
  const uint64_t idle = hak_meta_pages_idle_bytes();
  return idle > KEEP_BYTES ? idle - KEEP_BYTES : 0;
}

// Returns the free pages of one chunk that has been idle since `until`. False: there is none, or the kernel refused.
static HAK_COLD bool release_chunk(uint64_t until, uint64_t now, size_t *bytes) {
  lock();
  struct hak_meta_loan *loan = hak_meta_pages_lend(until, now);
  hak_lock_release(&hak_records_lock);
  if (loan == NULL) return false;
  hak_meta_pages_decommit(loan);
  const bool refused = loan->gone != loan->pages;
  if (loan->pages != 0) hak_refusal_note(&refusal, refused, now);
  lock();
  *bytes += hak_meta_pages_return(loan, now);
  hak_lock_release(&hak_records_lock);
  return !refused;
}

static HAK_COLD bool tick(uint64_t until, uint64_t now) {
  if (!hak_refusal_is_over(&refusal, now)) return false;
  lock();
  if (meta.ready_ms <= until) {
    meta.ready_ms = now;
    put_ready_back();
  }
  hak_lock_release(&hak_records_lock);
  size_t bytes = 0;
  // A chunk whose pages were taken again meanwhile has nothing to return.
  for (uint32_t tries = TRIES; tries > 0 && bytes == 0 && release_chunk(until, now, &bytes); tries--) continue;
  return bytes != 0;
}

bool hak_meta_tick(uint64_t now) {
  const uint64_t deadline = HAK_SETTING(decommit_deadline_ms);
  return HAK_UNLIKELY(hak_meta_idle_bytes() != 0) && now >= deadline && tick(now - deadline, now);
}

HAK_COLD size_t hak_meta_trim(void) {
  const uint64_t now = hak_os_now_ms();
  size_t bytes = 0;
  lock();
  put_ready_back();
  hak_lock_release(&hak_records_lock);
  // Each chunk is tried at most once: those that are queued again meanwhile come behind all others.
  for (uint64_t left = hak_meta_mapped() / HAK_META_CHUNK; left > 0 && release_chunk(UINT64_MAX, now, &bytes); left--)
    continue;
  return bytes;
}

void hak_meta_lock(void) { lock(); }
void hak_meta_unlock(void) { hak_lock_release(&hak_records_lock); }
HAK_COLD void hak_meta_forked(void) { hak_meta_pages_forked(); }
