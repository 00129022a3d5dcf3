// SPDX-License-Identifier: Apache-2.0
#include "allocator/tiny/meta.h"

#include <string.h>

#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/policy/memory_limit.h"

#define MIN_SHIFT 6u
#define SHIFTS 40u
// Address space is taken in pieces of this size; pages are touched as records need them.
#define CHUNK ((size_t)256 * 1024)

struct free_record {
  struct free_record *next;
};

static struct hak_lock meta_lock = HAK_LOCK_INIT(HAK_RANK_META);
// All under meta_lock.
static struct {
  struct free_record *recycled[SHIFTS];
  char *bump;
  size_t bump_left;
  uint64_t mapped;
} meta;

static uint32_t shift_for(size_t size) {
  if (size <= (size_t)1 << MIN_SHIFT) return MIN_SHIFT;
  return 64u - (uint32_t)__builtin_clzll(size - 1);
}

size_t hak_meta_usable(size_t size) { return (size_t)1 << shift_for(size); }

static void *map_records(size_t bytes) {
  void *start = hak_os_map(bytes, hak_os_page_size());
  if (start != NULL) {
    meta.mapped += bytes;
    hak_commit_add(bytes);
  }
  return start;
}

static void *take_fresh(size_t bytes) {
  if (bytes > CHUNK) return map_records(hak_round_up(bytes, hak_os_page_size()));
  if (bytes > meta.bump_left) {
    char *chunk = map_records(CHUNK);
    if (chunk == NULL) return NULL;
    meta.bump = chunk;
    meta.bump_left = CHUNK;
  }
  void *record = meta.bump;
  meta.bump += bytes;
  meta.bump_left -= bytes;
  return record;
}

void *hak_meta_alloc(size_t size) {
  const uint32_t shift = shift_for(size);
  if (shift >= SHIFTS) return NULL;
  hak_lock_acquire(&meta_lock);
  void *record = meta.recycled[shift];
  const bool recycled = record != NULL;
  if (recycled) {
    meta.recycled[shift] = meta.recycled[shift]->next;
  } else {
    record = take_fresh((size_t)1 << shift);
  }
  hak_lock_release(&meta_lock);
  if (recycled) memset(record, 0, (size_t)1 << shift);
  return record;
}

void hak_meta_free(void *record, size_t size) {
  const uint32_t shift = shift_for(size);
  struct free_record *entry = record;
  hak_lock_acquire(&meta_lock);
  entry->next = meta.recycled[shift];
  meta.recycled[shift] = entry;
  hak_lock_release(&meta_lock);
}

uint64_t hak_meta_mapped(void) {
  hak_lock_acquire(&meta_lock);
  const uint64_t mapped = meta.mapped;
  hak_lock_release(&meta_lock);
  return mapped;
}

void hak_meta_lock(void) { hak_lock_acquire(&meta_lock); }
void hak_meta_unlock(void) { hak_lock_release(&meta_lock); }
