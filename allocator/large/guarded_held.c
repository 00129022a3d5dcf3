// SPDX-License-Identifier: Apache-2.0
//
// The quarantine of guarded blocks, and the ranges that wait to be reused.
#include "allocator/large/guarded_held.h"

#include "allocator/meta/meta.h"
#include "allocator/os/bytes.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/policy/guard_budget.h"
#include "allocator/policy/memory_limit.h"

// Bounds of the quarantine: blocks, bytes of addresses, and the least that hak_held_refused makes of these.
#define HELD_MAX 128u
#define HELD_BYTES_MAX ((uint64_t)1 << 32)
#define HELD_BYTES_LEAST ((uint64_t)16 << 20)
// The most ranges that wait to be reused, and the most open pages that such a range has.
#define WAITING_MAX 256u
#define WAITING_PAGES 64u
// The most ranges that one free unmaps, besides its own.
#define UNMAPS_MAX 2u

// Records are allocated in batches of about this many bytes, so that all of them can be found.
#define BATCH_BYTES ((size_t)4096)
struct batch {
  struct batch *next;
  struct hak_guarded records[(BATCH_BYTES - sizeof(struct batch *)) / sizeof(struct hak_guarded)];
};
static_assert(sizeof(struct batch) <= BATCH_BYTES, "a batch is one record of meta");
#define BATCH_RECORDS (sizeof((struct batch *)NULL)->records / sizeof(struct hak_guarded))

// Ordered: the oldest first.
struct queue {
  struct hak_guarded *first;
  struct hak_guarded *last;
  uint64_t count;
};

// All under the lock of mapping_lock.h.
static struct {
  struct hak_guarded *closing;                     // freed, and not in quarantine yet
  struct queue held;                               // the quarantine
  struct hak_guarded *waiting[WAITING_PAGES + 1];  // ranges to be reused, by their open pages, the latest first
  uint64_t waits;                                  // ranges in `waiting`
  uint32_t next_out;                               // the size whose range is unmapped next when too many wait
  uint64_t held_bytes;                             // mapped, of the quarantine
  uint64_t bytes;                                  // mapped, of all three kinds
  uint64_t open;                                   // of these, pages that could not be closed
  struct hak_guarded *spare;
} table;
// The bound of table.held_bytes; if it is less than HELD_BYTES_MAX, of table.bytes.
static uint64_t held_bytes_max HAK_GUARDED_BY(hak_mapping_mutex) = HELD_BYTES_MAX;
static struct batch *batches HAK_GUARDED_BY(hak_mapping_mutex);

// ---- Records ------------------------------------------------------------------------------------

static bool make_records(void) HAK_REQUIRES(hak_mapping_mutex) {
  struct batch *batch = hak_meta_alloc(sizeof *batch);
  if (batch == NULL) return false;
  batch->next = batches;
  batches = batch;
  for (size_t i = 0; i < BATCH_RECORDS; i++) hak_guarded_drop_record(&batch->records[i]);
  return true;
}

struct hak_guarded *hak_guarded_record(void) {
  if (table.spare == NULL && !make_records()) return NULL;
  struct hak_guarded *one = table.spare;
  table.spare = one->next;
  return one;
}

void hak_guarded_drop_record(struct hak_guarded *one) {
  one->next = table.spare;
  table.spare = one;
}

void hak_guarded_for_each(void (*visit)(struct hak_guarded *one)) {
  for (struct batch *batch = batches; batch != NULL; batch = batch->next) {
    for (size_t i = 0; i < BATCH_RECORDS; i++) visit(&batch->records[i]);
  }
}

// The losses of the lock's holders for which the lists were made anew.
static uint32_t losses HAK_GUARDED_BY(hak_mapping_mutex);

HAK_COLD void hak_held_start_anew(void) {
  losses = hak_mapping_losses();
  hak_bytes_fill(&table, 0, sizeof table);
}

// ---- Lists --------------------------------------------------------------------------------------

static void append(struct queue *queue, struct hak_guarded *one) {
  one->next = NULL;
  if (queue->last != NULL) {
    queue->last->next = one;
  } else {
    queue->first = one;
  }
  queue->last = one;
  queue->count++;
}

static struct hak_guarded *take_first(struct queue *queue) {
  struct hak_guarded *one = queue->first;
  queue->first = one->next;
  if (queue->first == NULL) queue->last = NULL;
  queue->count--;
  return one;
}

static void add_held(struct hak_guarded *one) {
  append(&table.held, one);
  table.held_bytes += one->mapped;
}

static struct hak_guarded *take_held(void) {
  struct hak_guarded *one = take_first(&table.held);
  table.held_bytes -= one->mapped;
  return one;
}

// Adds the range to the totals, or subtracts it.
static void count_in(const struct hak_guarded *one) {
  table.bytes += one->mapped;
  if (!one->closed) table.open += one->data_bytes;
}
static void count_out(const struct hak_guarded *one) {
  table.bytes -= one->mapped;
  if (!one->closed) table.open -= one->data_bytes;
}

static size_t pages_of(size_t data_bytes) { return data_bytes / hak_os_page_size(); }
bool hak_held_is_moderate(size_t data_bytes) { return pages_of(data_bytes) <= WAITING_PAGES; }
static bool is_moderate(const struct hak_guarded *one) {
  return hak_held_is_moderate(one->data_bytes) && one->mapped == one->data_bytes + 2 * hak_os_page_size();
}

static void add_waiting(struct hak_guarded *one) {
  struct hak_guarded **const first = &table.waiting[pages_of(one->data_bytes)];
  one->next = *first;
  *first = one;
  table.waits++;
}

// The latest range with `pages` open pages; NULL: there is none. The latest, because its page table entries are most
// likely in the caches.
static struct hak_guarded *take_waiting(size_t pages) {
  struct hak_guarded *one = table.waiting[pages];
  if (one == NULL) return NULL;
  table.waiting[pages] = one->next;
  table.waits--;
  return one;
}

// Takes a range of the next size in turn. At least one range must wait.
static struct hak_guarded *take_next_out(void) {
  struct hak_guarded *one;
  do {
    table.next_out = table.next_out < WAITING_PAGES ? table.next_out + 1 : 0;
    one = take_waiting(table.next_out);
  } while (one == NULL);
  return one;
}

// ---- Unmapping ----------------------------------------------------------------------------------

// Unmaps a range that is on no list; steps out of the lock. False: the kernel refuses (the limit on mappings), and the
// range goes into quarantine.
static bool unmap(struct hak_guarded *one, size_t *bytes) HAK_REQUIRES(hak_mapping_mutex) {
  const bool out = hak_mapping_step_out();
  const bool gone = hak_os_unmap(one->start, one->mapped);
  hak_mapping_step_in(out);
  if (!gone) {
    add_held(one);
    return false;
  }
  *bytes += one->mapped;
  hak_guard_budget_give(HAK_GUARD_BLOCK);
  if (!one->closed) hak_commit_sub(one->data_bytes);
  count_out(one);
  hak_guarded_drop_record(one);
  return true;
}

static struct hak_guarded *take_any(void) {
  if (table.waits != 0) return take_next_out();
  return table.held.first != NULL ? take_held() : NULL;
}

// A range that exceeds the bounds; NULL: there is none.
static struct hak_guarded *take_surplus(void) HAK_REQUIRES(hak_mapping_mutex) {
  if (HAK_UNLIKELY(held_bytes_max < HELD_BYTES_MAX) && table.bytes > held_bytes_max) return take_any();
  while (table.held.count > HELD_MAX || table.held_bytes > held_bytes_max) {
    struct hak_guarded *one = take_held();
    if (!one->closed || !is_moderate(one)) return one;
    add_waiting(one);
  }
  return table.waits > WAITING_MAX ? take_next_out() : NULL;
}

size_t hak_held_trim(void) {
  size_t bytes = 0;
  hak_mapping_lock();
  if (HAK_UNLIKELY(losses != hak_mapping_losses())) hak_held_start_anew();
  // No more ranges than there are now, because other threads may add some all the time.
  for (uint64_t left = table.waits + table.held.count; left > 0; left--) {
    struct hak_guarded *one = take_any();
    if (one == NULL) break;
    // A refused one goes behind the others, some of which may make room.
    unmap(one, &bytes);
    hak_mapping_pass();
  }
  hak_mapping_unlock();
  return bytes;
}

void hak_held_refused(size_t size, uint64_t committed) {
  hak_mapping_lock();
  if (HAK_UNLIKELY(losses != hak_mapping_losses())) hak_held_start_anew();
  const uint64_t has = committed + table.bytes - table.open;  // open ranges are committed
  const uint64_t sixteenth = has / 16 > HELD_BYTES_LEAST ? has / 16 : HELD_BYTES_LEAST;
  if (size <= has && sixteenth < held_bytes_max) held_bytes_max = sixteenth;
  hak_mapping_unlock();
}

// ---- Freeing ------------------------------------------------------------------------------------

static void begin_closing(struct hak_guarded *one) {
  one->closed = false;
  one->next = table.closing;
  table.closing = one;
  count_in(one);
}

static void end_closing(struct hak_guarded *one) {
  struct hak_guarded **link = &table.closing;
  while (*link != one) link = &(*link)->next;
  *link = one->next;
}

static bool close_pages(struct hak_guarded *one) {
  one->light = one->light && hak_os_guard_used(one->data, one->data_bytes);
  if (one->light) return true;
  for (size_t done = 0; done < one->data_bytes; done += HAK_MAPPING_SLICE) {
    const size_t rest = one->data_bytes - done;
    if (!hak_os_close(one->data + done, rest < HAK_MAPPING_SLICE ? rest : HAK_MAPPING_SLICE)) return false;
  }
  return true;
}

void hak_held_close(struct hak_guarded *one) {
  begin_closing(one);
  const bool out = hak_mapping_step_out();
  const bool closed = close_pages(one);
  hak_mapping_step_in(out);
  end_closing(one);
  if (closed) {
    one->closed = true;
    table.open -= one->data_bytes;
    hak_commit_sub(one->data_bytes);
  }
  size_t bytes = 0;
  // One that exceeds the bound alone would drive all others out before it goes itself.
  if (HAK_UNLIKELY(one->mapped > held_bytes_max)) {
    unmap(one, &bytes);
    return;
  }
  add_held(one);
  for (uint32_t left = UNMAPS_MAX; left > 0; left--) {
    struct hak_guarded *surplus = take_surplus();
    if (surplus == NULL || !unmap(surplus, &bytes)) break;
  }
}

void hak_held_keep(struct hak_guarded *one) {
  one->live.address = NULL;
  one->closed = true;
  count_in(one);
  add_held(one);
}

// ---- Reuse --------------------------------------------------------------------------------------

struct hak_guarded *hak_held_reuse(size_t data_bytes) {
  struct hak_guarded *one = hak_held_is_moderate(data_bytes) ? take_waiting(pages_of(data_bytes)) : NULL;
  if (one != NULL) count_out(one);
  return one;
}

// ---- Addresses ----------------------------------------------------------------------------------

static const struct hak_guarded *range_around(const struct hak_guarded *first, const void *address) {
  const struct hak_guarded *one = first;
  // A range that never had a block has no address (hak_held_keep).
  while (one != NULL && (one->live.address == NULL || !hak_guarded_contains(one, address))) one = one->next;
  return one;
}

HAK_COLD const struct hak_guarded *hak_held_around(const void *address) {
  const struct hak_guarded *found = range_around(table.closing, address);
  if (found == NULL) found = range_around(table.held.first, address);
  for (size_t pages = 0; pages <= WAITING_PAGES && found == NULL; pages++) {
    found = range_around(table.waiting[pages], address);
  }
  return found;
}

// ---- Totals -------------------------------------------------------------------------------------

static bool is_among(const struct hak_guarded *first, const void *block) {
  for (const struct hak_guarded *one = first; one != NULL; one = one->next) {
    if (one->live.address == block) return true;
  }
  return false;
}

bool hak_held_find(const void *block) {
  bool found = is_among(table.closing, block) || is_among(table.held.first, block);
  for (size_t pages = 0; pages <= WAITING_PAGES && !found; pages++) found = is_among(table.waiting[pages], block);
  return found;
}

struct hak_held_totals hak_held_totals(void) {
  const struct hak_held_totals totals = {.blocks = table.held.count, .bytes = table.bytes, .open = table.open};
  return totals;
}

// Adds up the mapped bytes of a list; returns how many are on it.
static uint64_t sum(const struct hak_guarded *first, uint64_t *mapped) {
  uint64_t count = 0;
  for (const struct hak_guarded *one = first; one != NULL; one = one->next, count++) *mapped += one->mapped;
  return count;
}

const char *hak_held_verify(void) {
  uint64_t mapped = 0;
  if (sum(table.held.first, &mapped) != table.held.count) return "quarantine miscounted";
  if (mapped != table.held_bytes) return "bytes of the quarantine miscounted";
  uint64_t waits = 0;
  for (size_t pages = 0; pages <= WAITING_PAGES; pages++) waits += sum(table.waiting[pages], &mapped);
  if (waits != table.waits) return "waiting ranges miscounted";
  // A range that another thread is closing or unmapping is counted, but is on no list or on `closing`.
  if (mapped > table.bytes) return "bytes of freed guarded blocks miscounted";
  return NULL;
}
