// SPDX-License-Identifier: Apache-2.0
#include "allocator/large/mapping.h"

#include "allocator/large/colour.h"
#include "allocator/large/mapping_lock.h"
#include "allocator/meta/address_table.h"
#include "allocator/meta/meta.h"
#include "allocator/os/atomic.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"

// Freed mappings kept at most, and how much larger than the request a reused one may be: an eighth.
#define STORED_MAX 16u
// Memory that one call gives back: a multiple of every page size.
#define SLICE_BYTES ((size_t)4 * 1024 * 1024)

struct mapping {
  struct hak_address_entry live;  // by `start`
  struct mapping *next;           // in the store
  char *start;
  size_t size;        // of the mapping
  size_t front;       // of a live block: bytes from `start` to it; 0, or it has a colour
  uint64_t freed_ms;  // in the store: since when
  size_t resident;    // in the store: bytes at its start that may hold memory; the rest reads as zero
};
static_assert(offsetof(struct mapping, live) == 0, "a record is found by its entry");

// All under the lock of mapping_lock.h.
static struct {
  struct hak_address_table live;
  uint64_t bytes;         // of live blocks
  struct mapping *store;  // freed, the latest first
  struct mapping *spare;  // unused records
  // Of the store that may hold memory; read without the lock as a hint, relaxed.
  HAK_ATOMIC(uint64_t) store_bytes;
} table;
// Entries of the store. Written under the lock; read without it to see whether there is anything to do (relaxed: a
// hint).
static HAK_ATOMIC(uint32_t) stored;

static HAK_ATOMIC(uint32_t) turn;  // of the colours

static void set_stored(uint32_t count) { atomic_store_explicit(&stored, count, memory_order_relaxed); }
static uint32_t get_stored(void) { return atomic_load_explicit(&stored, memory_order_relaxed); }

static uint64_t get_store_bytes(void) { return atomic_load_explicit(&table.store_bytes, memory_order_relaxed); }
static void add_store_bytes(int64_t change) {
  atomic_store_explicit(&table.store_bytes, get_store_bytes() + (uint64_t)change, memory_order_relaxed);
}
uint64_t hak_mapping_stored_bytes(void) { return get_store_bytes(); }

// ---- Records ------------------------------------------------------------------------------------

static struct mapping *mapping_of(struct hak_address_entry *entry) { return (struct mapping *)(void *)entry; }

static size_t usable(const struct mapping *entry) { return entry->size - (entry->front != 0 ? HAK_COLOUR_BYTES : 0); }

static void insert(struct mapping *entry) {
  entry->live.address = entry->start + entry->front;
  hak_address_insert(&table.live, &entry->live);
  table.bytes += usable(entry);
}

// Takes the record that `link` points at out of the table.
static struct mapping *extract(struct hak_address_entry **link) {
  struct mapping *entry = mapping_of(hak_address_extract(&table.live, link));
  table.bytes -= usable(entry);
  return entry;
}

static struct mapping *new_record(void) {
  struct mapping *entry = table.spare;
  if (entry != NULL) {
    table.spare = entry->next;
    return entry;
  }
  return hak_meta_alloc(sizeof *entry);
}

static void drop_record(struct mapping *entry) {
  entry->next = table.spare;
  table.spare = entry;
}

// ---- Store of freed mappings --------------------------------------------------------------------

// Takes the entry that `link` points at out of the store.
static struct mapping *unstore(struct mapping **link) {
  struct mapping *entry = *link;
  *link = entry->next;
  add_store_bytes(-(int64_t)entry->resident);
  set_stored(get_stored() - 1);
  return entry;
}

static void store(struct mapping *entry, uint64_t now) {
  entry->freed_ms = now;
  entry->next = table.store;
  table.store = entry;
  add_store_bytes((int64_t)entry->resident);
  set_stored(get_stored() + 1);
}

// Unmaps as much of the entry as the kernel lets go, from its end. Outside the lock.
static void unmap_slices(struct mapping *entry) {
  while (entry->size != 0) {
    const size_t slice = entry->size < HAK_MAPPING_SLICE ? entry->size : HAK_MAPPING_SLICE;
    if (!hak_os_unmap(entry->start + entry->size - slice, slice)) return;
    entry->size -= slice;
  }
}

// Unmaps the entry, which is in no list; steps out of the lock. What the kernel refuses (the limit on mappings) goes
// back to the store, if possible without its memory, and is tried again later. Returns the bytes that went back.
static size_t unmap_entry(struct mapping *entry) {
  const size_t bytes = entry->size;
  const size_t resident = entry->resident;
  const bool out = hak_mapping_step_out();
  unmap_slices(entry);
  if (entry->resident > entry->size) entry->resident = entry->size;
  if (entry->resident != 0 && hak_os_decommit_to_zero(entry->start, entry->resident)) entry->resident = 0;
  hak_mapping_step_in(out);
  hak_commit_sub(resident - entry->resident);
  if (entry->size == 0) {
    drop_record(entry);
    return bytes;
  }
  store(entry, hak_os_now_ms());
  return bytes - entry->resident;
}

static struct mapping *take_stored(size_t size, size_t align) {
  struct mapping **best = NULL;
  for (struct mapping **link = &table.store; *link != NULL; link = &(*link)->next) {
    const struct mapping *entry = *link;
    if (entry->size < size || entry->size - size > size / 8) continue;
    if (((uintptr_t)entry->start & (align - 1)) != 0) continue;
    if (best == NULL || entry->size < (*best)->size) best = link;
  }
  return best != NULL ? unstore(best) : NULL;
}

// Unmaps stored entries freed at or before `until`, at most `count` of them; steps out of the lock; returns their
// bytes.
static size_t unmap_until(uint64_t until, uint32_t count) {
  size_t bytes = 0;
  struct mapping *due = NULL;
  for (struct mapping **link = &table.store; *link != NULL && count > 0;) {
    if ((*link)->freed_ms > until) {
      link = &(*link)->next;
      continue;
    }
    struct mapping *entry = unstore(link);
    entry->next = due;
    due = entry;
    count--;
  }
  while (due != NULL) {
    struct mapping *next = due->next;
    bytes += unmap_entry(due);
    due = next;
  }
  return bytes;
}

// Gives back the memory at the end of a stored entry that was freed at or before `until` and has more than a slice of
// it; steps out of the lock. False: there is none.
static bool decommit_slice(uint64_t until) {
  for (struct mapping **link = &table.store; *link != NULL; link = &(*link)->next) {
    if ((*link)->freed_ms > until || (*link)->resident <= SLICE_BYTES) continue;
    struct mapping *entry = unstore(link);
    const size_t rest = entry->resident - SLICE_BYTES;
    const bool out = hak_mapping_step_out();
    const bool done = hak_os_decommit_to_zero(entry->start + rest, SLICE_BYTES);
    hak_mapping_step_in(out);
    if (done) {
      entry->resident = rest;
      hak_commit_sub(SLICE_BYTES);
    }
    store(entry, entry->freed_ms);
    return done;
  }
  return false;
}

// One slice of what is past the deadline: part of a large entry's memory, or a small entry.
static bool release_due(void) {
  const uint64_t now = hak_os_now_ms();
  const uint64_t deadline = HAK_SETTING(decommit_deadline_ms);
  if (table.store == NULL || now < deadline) return false;
  return decommit_slice(now - deadline) || unmap_until(now - deadline, 1) != 0;
}

// ---- Interface ----------------------------------------------------------------------------------

// A stored mapping that fits, in use again; NULL: there is none, or its memory would pass the limit.
static struct mapping *reuse(size_t bytes, size_t align, bool *zero) {
  struct mapping *entry = take_stored(bytes, align);
  if (entry == NULL) return NULL;
  if (entry->resident < entry->size && !hak_limit_admit(entry->size - entry->resident)) {
    store(entry, hak_os_now_ms());
    return NULL;
  }
  *zero = entry->resident == 0;
  hak_commit_add(entry->size - entry->resident);
  return entry;
}

// A new mapping; NULL: out of memory, or it would pass the limit.
static struct mapping *map_new(size_t bytes, size_t align) {
  if (!hak_limit_admit(bytes) || !hak_address_reserve(&table.live)) return NULL;
  struct mapping *entry = new_record();
  if (entry == NULL) return NULL;
  const bool out = hak_mapping_step_out();
  entry->start = hak_os_map(bytes, align);
  hak_mapping_step_in(out);
  entry->size = bytes;
  if (entry->start == NULL) {
    drop_record(entry);
    return NULL;
  }
  hak_commit_add(bytes);
  return entry;
}

static void *take(size_t size, size_t align, bool *zero, bool grow) {
  const size_t page = hak_os_page_size();
  if (size > PTRDIFF_MAX - page - HAK_COLOUR_BYTES || align > PTRDIFF_MAX) return NULL;
  const bool coloured = align <= HAK_MIN_ALIGN;
  const size_t bytes = hak_round_up(coloured ? size + HAK_COLOUR_BYTES : size, page);
  const size_t step = align > page ? align : page;
  hak_mapping_lock();
  release_due();
  struct mapping *entry = reuse(bytes, step, zero);
  if (entry == NULL && grow && (entry = map_new(bytes, step)) != NULL) *zero = true;
  char *start = NULL;
  if (entry != NULL) {
    entry->front = coloured ? hak_colour_next(&turn, HAK_COLOURS) : 0;
    insert(entry);
    start = entry->start + entry->front;
  }
  hak_mapping_unlock();
  return start;
}

void *hak_mapping_take(size_t size, size_t align, bool *zero) { return take(size, align, zero, true); }

void *hak_mapping_reuse(size_t size, size_t align, bool *zero) {
  return get_stored() != 0 ? take(size, align, zero, false) : NULL;
}

bool hak_mapping_give(void *block) {
  hak_mapping_lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) {
    struct mapping *entry = extract(link);
    entry->resident = entry->size;
    const bool keep = get_stored() < STORED_MAX &&
                      get_store_bytes() + entry->size <= HAK_SETTING(mapping_cache_bytes) &&
                      HAK_SETTING(decommit_deadline_ms) != 0;
    if (keep) {
      store(entry, hak_os_now_ms());
    } else {
      unmap_entry(entry);
    }
    release_due();
  }
  hak_mapping_unlock();
  return link != NULL;
}

size_t hak_mapping_size(const void *block) {
  hak_mapping_lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  const size_t size = link != NULL ? usable(mapping_of(*link)) : 0;
  hak_mapping_unlock();
  return size;
}

// Makes the entry, which is in no list, `bytes` long; steps out of the lock. Its start, or NULL when it stays as it
// was.
static char *resize_entry(struct mapping *entry, size_t bytes, bool may_move) {
  const bool out = hak_mapping_step_out();
  char *now = entry->start;
  if (!hak_os_resize(entry->start, entry->size, bytes)) {
    now = may_move ? hak_os_move(entry->start, entry->size, bytes) : NULL;
  }
  hak_mapping_step_in(out);
  if (now == NULL) return NULL;
  hak_commit_add(bytes);
  hak_commit_sub(entry->size);
  entry->start = now;
  entry->size = bytes;
  return now;
}

void *hak_mapping_resize(void *block, size_t size, bool may_move) {
  const size_t page = hak_os_page_size();
  if (size > PTRDIFF_MAX - page - HAK_COLOUR_BYTES) return NULL;
  char *now = NULL;
  hak_mapping_lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) {
    struct mapping *entry = mapping_of(*link);
    const size_t bytes = hak_round_up(entry->front != 0 ? size + HAK_COLOUR_BYTES : size, page);
    if (bytes == entry->size) {
      now = block;
    } else if (bytes < entry->size || hak_limit_admit(bytes - entry->size)) {
      extract(link);
      now = resize_entry(entry, bytes, may_move);
      if (now != NULL) now += entry->front;
      insert(entry);
    }
  }
  hak_mapping_unlock();
  return now;
}

bool hak_mapping_tick(void) {
  if (get_stored() == 0) return false;
  hak_mapping_lock();
  const bool worked = release_due();
  hak_mapping_unlock();
  return worked;
}

size_t hak_mapping_trim(void) {
  hak_mapping_lock();
  const size_t bytes = unmap_until(UINT64_MAX, UINT32_MAX);
  hak_mapping_unlock();
  return bytes;
}

struct hak_mapping_totals hak_mapping_totals(void) {
  hak_mapping_lock();
  const struct hak_mapping_totals totals = {
      .blocks = table.live.count, .bytes = table.bytes, .cached_bytes = get_store_bytes()};
  hak_mapping_unlock();
  return totals;
}

const char *hak_mapping_verify(void) {
  const char *fault = NULL;
  uint64_t bytes = 0;
  hak_mapping_lock();
  if (!hak_address_holds(&table.live)) fault = "mapping in the wrong bucket";
  for (size_t i = 0; table.live.buckets != NULL && i < table.live.bucket_count && fault == NULL; i++) {
    for (struct hak_address_entry *one = table.live.buckets[i]; one != NULL; one = one->next) {
      const struct mapping *entry = mapping_of(one);
      if (one->address != entry->start + entry->front) fault = "mapping under another address";
      if (((uintptr_t)entry->start | entry->size) % hak_os_page_size() != 0) fault = "mapping off page boundaries";
      bytes += usable(entry);
    }
  }
  uint32_t in_store = 0;
  uint64_t store_bytes = 0;
  for (const struct mapping *entry = table.store; entry != NULL; entry = entry->next) {
    in_store++;
    store_bytes += entry->resident;
  }
  if (fault == NULL && bytes != table.bytes) fault = "mappings miscounted";
  if (fault == NULL && (in_store != get_stored() || store_bytes != get_store_bytes())) fault = "store miscounted";
  hak_mapping_unlock();
  return fault;
}
